"""Finds the normalisations and activations of somebody's torch model, and what follows what.

A model that ``torch.fx`` can trace tells which activation follows which normalisation, functional
calls included; of any other only containers are understood. This file changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import fx, nn

Layout = Literal["nchw", "nhwc"]

ACTIVATIONS = frozenset(
    {"relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "gelutanh",
     "quickgelu", "silu", "swish", "mish", "hardswish", "hardmish", "hardswishme", "softplus",
     "swishme", "mishme", "hardtanh", "threshold"}
)  # fmt: skip
"""Names of activations, small letters without underscores; gates such as sigmoid are none."""

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm,
          nn.modules.instancenorm._InstanceNorm)  # fmt: skip


def is_evolved(module: nn.Module) -> bool:
    """Whether the module is a generated layer."""
    return hasattr(module, "apply_act") and hasattr(module, "_compute")


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a normalisation, with or without an activation of its own."""
    return isinstance(module, _NORMS)


def is_activation(module: nn.Module) -> bool:
    """Whether the module is an activation of one input."""
    return _plain(type(module).__name__) in ACTIVATIONS and not any(module.children())


def own_activation(norm: nn.Module) -> nn.Module | None:
    """The activation inside a norm-act module (``.act``), if it has one."""
    inner = getattr(norm, "act", None)
    return inner if isinstance(inner, nn.Module) and is_activation(inner) else None


def channels_of(norm: nn.Module) -> int | None:
    """Channels that a normalisation works on; None where it is not one channel axis."""
    for name in ("num_features", "num_channels"):
        count = getattr(norm, name, None)
        if isinstance(count, int):
            return count
    shape = getattr(norm, "normalized_shape", None)
    return int(shape[0]) if isinstance(shape, tuple | list) and len(shape) == 1 else None


def layout_of(norm: nn.Module) -> Layout:
    """Where a normalisation expects its channels."""
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        return "nchw" if type(norm).__name__.rstrip("Fp32").endswith("2d") else "nhwc"
    return "nchw"


@dataclass(frozen=True, slots=True)
class Scan:
    """What a model consists of.

    ``graph``: the traced graph, None where tracing failed for the ``reason``; ``modules``: path ->
    module, each module once.
    """

    modules: dict[str, nn.Module]
    graph: fx.Graph | None
    reason: str

    def calls(self, path: str) -> list[fx.Node]:
        """Traced calls of a module."""
        if self.graph is None:
            return []
        module = self.modules[path]
        return [
            node
            for node in self.graph.nodes
            if node.op == "call_module" and self.modules.get(str(node.target)) is module
        ]

    def activations(self) -> Iterator[tuple[str, fx.Node]]:
        """(name for people, node) of every traced activation, functional ones included."""
        for node in self.graph.nodes if self.graph is not None else ():
            if self.is_activation(node):
                named = node.op == "call_module"
                yield (str(node.target) if named else f"{_called(node)}() [{node.name}]"), node

    def kind(self, name: str, node: fx.Node) -> str:
        """Class of an activation's module, or that it is a function."""
        return type(self.modules[name]).__name__ if node.op == "call_module" else "function"

    def is_activation(self, node: fx.Node) -> bool:
        """Whether the node calls an activation: a module, a function or a method."""
        if node.op == "call_module":
            module = self.modules.get(str(node.target))
            return module is not None and is_activation(module)
        if node.op not in ("call_function", "call_method"):
            return False
        return _plain(_called(node).rstrip("_")) in ACTIVATIONS

    def source(self, node: fx.Node) -> fx.Node | None:
        """The node that an activation is applied to, seen through modules that do nothing."""
        before = node.args[0] if node.args else node.kwargs.get("input")
        while isinstance(before, fx.Node) and self._does_nothing(before):
            before = before.args[0]
        return before if isinstance(before, fx.Node) else None

    def following(self, node: fx.Node) -> list[fx.Node]:
        """The users of a value, seen through modules that do nothing."""
        users: list[fx.Node] = []
        for user in node.users:
            users += self.following(user) if self._does_nothing(user) else [user]
        return users

    def _does_nothing(self, node: fx.Node) -> bool:
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        return isinstance(module, nn.Identity)


class _Tracer(fx.Tracer):
    """Keeps normalisations, activations and generated layers whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = is_norm(m) or is_activation(m) or is_evolved(m) or isinstance(m, nn.Identity)
        return whole or super().is_leaf_module(m, module_qualified_name)


def scan(model: nn.Module) -> Scan:
    """The model's modules and, where it can be traced, its graph."""
    modules = dict(model.named_modules(remove_duplicate=False))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Scan(modules, _Tracer().trace(model), "")
    except Exception as err:  # tracing runs the user's own code, which may raise anything
        reason = (str(err).splitlines() or [""])[0][:100]
        return Scan(modules, None, f"{type(err).__name__}: {reason}")


def pairs_in_containers(model: nn.Module) -> dict[int, tuple[nn.Module, nn.Module]]:
    """id of a norm -> (norm, activation) that stand side by side in an ``nn.Sequential``."""
    found: dict[int, tuple[nn.Module, nn.Module]] = {}
    for parent in model.modules():
        if isinstance(parent, nn.Sequential):
            children = [child for child in parent if not isinstance(child, nn.Identity)]
            for one, other in pairwise(children):
                if is_norm(one) and is_activation(other):
                    found[id(one)] = (one, other)
    return found


def _called(node: fx.Node) -> str:
    target: Any = node.target
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def graph_module(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """The model with its forward replaced by the graph; its modules are shared, not copied."""
    graph.lint()
    with torch.no_grad():
        return fx.GraphModule(model, graph, class_name=type(model).__name__)
