"""Finds the normalisations and activations of somebody's torch model, and what follows what.

A model that ``torch.fx`` can trace tells which activation follows which normalisation, functional
calls included; of any other only containers are understood. This file changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from torch import Tensor, fx, nn

from primitives.tracing import trace

Layout = Literal["nchw", "nhwc"]

ACTIVATIONS = frozenset(
    {"relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "gelutanh",
     "quickgelu", "silu", "swish", "mish", "hardswish", "hardmish", "hardswishme", "softplus",
     "swishme", "mishme", "hardtanh", "threshold", "tanh", "softsign", "logsigmoid", "softshrink",
     "hardshrink", "tanhshrink"}
)  # fmt: skip
"""Names of activations, small letters without underscores; gates such as sigmoid are none."""

UNCLEAR = frozenset(
    {"sigmoid", "hardsigmoid", "softmax", "logsoftmax", "softmin", "glu", "clamp", "clip",
     "clampmin", "clampmax", "exp", "erf", "sin", "cos", "abs", "square"}
)  # fmt: skip
"""Names of functions that are gates or parts of formulas as often as activations."""

_PASSING = ("pool", "drop", "pad", "flatten", "upsampl", "shuffle", "fold", "norm")
"""Parts of the names of modules without parameters that are no activations."""

FUNCTIONAL_NORMS = frozenset(
    {"batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"}
)  # fmt: skip
"""Names of torch's functional normalisations."""

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm,
          nn.modules.instancenorm._InstanceNorm)  # fmt: skip


def is_evolved(module: nn.Module) -> bool:
    """Whether the module is a generated layer."""
    return hasattr(module, "apply_act") and hasattr(module, "_compute")


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a normalisation, with or without an activation of its own."""
    return isinstance(module, _NORMS)


def is_other_norm(module: nn.Module) -> bool:
    """Whether it is called a normalisation, but is none of torch's classes."""
    inner = all(
        isinstance(child, nn.Identity) or is_activation(child)
        or _plain(type(child).__name__).startswith("drop")
        for child in module.children()
    )  # fmt: skip
    named = "norm" in _plain(type(module).__name__)
    own = not type(module).__module__.startswith("torch.nn.utils")  # weight and spectral norm
    return named and own and inner and not is_norm(module) and not is_evolved(module)


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
    if isinstance(shape, tuple | list):
        return int(shape[0]) if len(shape) == 1 else None
    weight = getattr(norm, "weight", None)
    return len(weight) if isinstance(weight, Tensor) and weight.ndim == 1 else None


def layout_of(norm: nn.Module) -> Layout:
    """Where a normalisation expects its channels."""
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        return "nchw" if type(norm).__name__.rstrip("Fp32").endswith("2d") else "nhwc"
    return "nchw"


@dataclass(frozen=True, slots=True)
class Scan:
    """What a model consists of.

    ``modules``: path -> module, under every path; ``graph``: the traced graph, None where tracing
    failed for the ``reason``; ``bound``: why no copy can be made of the graph, empty if one can;
    ``owners``: node's name -> path of the module whose forward made it.
    """

    modules: dict[str, nn.Module]
    graph: fx.Graph | None
    reason: str
    bound: str = ""
    owners: Mapping[str, str] = field(default_factory=dict)

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

    def functional_norms(self) -> Iterator[tuple[str, fx.Node]]:
        """(name for people, node) of every traced call of a functional normalisation."""
        for node in self.graph.nodes if self.graph is not None else ():
            if _is_functional_norm(node):
                yield f"{_called(node)}() [{node.name}]", node

    def opened(self, path: str) -> bool:
        """Whether a module is no call of its own, but the functional normalisations inside."""
        inside = (self.owner(node) for _, node in self.functional_norms())
        return bool(path) and any(f"{owner}.".startswith(f"{path}.") for owner in inside)

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

    def output_of(self, node: fx.Node) -> tuple[int, Layout] | None:
        """Channels and layout of what a module's call gives, where that can be read off it."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if module is None:
            return None
        if is_norm(module):
            channels = channels_of(module)
            return None if channels is None else (channels, layout_of(module))
        if isinstance(module, nn.Linear):
            return module.out_features, "nhwc"
        channels = getattr(module, "out_channels", None)
        return (channels, "nchw") if isinstance(channels, int) else None

    def following(self, node: fx.Node) -> list[fx.Node]:
        """The users of a value, seen through modules that do nothing."""
        users: list[fx.Node] = []
        for user in node.users:
            users += self.following(user) if self._does_nothing(user) else [user]
        return users

    def unclear(self, calls: Iterable[fx.Node], path: str) -> str:
        """Why what follows a normalisation may be its activation though it is not known as one.

        Empty where it is clear that nothing is. ``path``: its own, or of the module that calls it.
        """
        for call in calls:
            for user in self.following(call):
                if self.is_activation(user):
                    return f"besides others an activation follows: {user.name}"
                if user.op != "call_module" and _plain(_called(user).rstrip("_")) in UNCLEAR:
                    return f"what follows may be its activation: {_called(user)}()"
                owner = self.owner(user)
                if self._may_activate(owner, path, user):
                    kind = type(self.modules[owner]).__name__
                    return f"what follows may be its activation: {owner} ({kind})"
        return ""

    def _may_activate(self, owner: str, norm: str, user: fx.Node) -> bool:
        """Whether a module that the norm is not in has one input, no parameters, no known name."""
        module = self.modules.get(owner)
        if module is None or f"{norm}.".startswith(f"{owner}.") or not owner:
            return False
        if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
            return False
        if any(part in _plain(type(module).__name__) for part in _PASSING):
            return False
        inside: set[fx.Node] = set()
        waiting = [user]
        while waiting:
            node = waiting.pop()
            if node not in inside and f"{self.owner(node)}.".startswith(f"{owner}."):
                inside.add(node)
                waiting += [*node.all_input_nodes, *node.users]
        given = {one for node in inside for one in node.all_input_nodes} - inside
        return len(given) == 1

    def owner(self, node: fx.Node) -> str:
        """Path of the module that a node calls, or whose forward made it."""
        called = node.op == "call_module"
        return str(node.target) if called else self.owners.get(node.name, "")

    def _does_nothing(self, node: fx.Node) -> bool:
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        return isinstance(module, nn.Identity)


def scan(model: nn.Module, opened: Collection[nn.Module] = ()) -> Scan:
    """The model's modules and, where it can be traced, its graph.

    ``opened``: normalisations that are no classes of torch, of which the inside is traced too.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    untraced = Scan(modules, None, "")

    def is_whole(module: nn.Module) -> bool:
        return (
            is_norm(module) or (is_other_norm(module) and module not in opened)
            or is_activation(module) or is_evolved(module) or isinstance(module, nn.Identity)
        )  # fmt: skip

    def matters(node: fx.Node) -> bool:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        own = module is not None and (is_norm(module) or is_other_norm(module))
        return own or untraced.is_activation(node) or _is_functional_norm(node)

    found = trace(model, is_whole, matters)
    return Scan(modules, found.graph, found.reason, found.bound, found.owners)


class Pair(NamedTuple):
    """A norm and the activation after it, at their places in one container."""

    container: nn.Sequential
    norm: str
    activation: str


def pairs_in_containers(model: nn.Module) -> dict[int, list[Pair]]:
    """id of a norm -> its places, where each of them has an activation after it.

    The places of a module are in containers; what stands anywhere else too is in no pair.
    """
    pairs: dict[int, list[Pair]] = {}
    places: Counter[int] = Counter()
    for parent in model.modules():
        children = [(name, child) for name, child in parent._modules.items() if child is not None]
        places.update(id(child) for _, child in children)
        if isinstance(parent, nn.Sequential):
            children = [one for one in children if not isinstance(one[1], nn.Identity)]
            for (name, norm), (after, act) in pairwise(children):
                if is_norm(norm) and is_activation(act):
                    pairs.setdefault(id(norm), []).append(Pair(parent, name, after))
    return {norm: found for norm, found in pairs.items() if len(found) == places[norm]}


def _is_functional_norm(node: fx.Node) -> bool:
    return node.op == "call_function" and _called(node) in FUNCTIONAL_NORMS


def _called(node: fx.Node) -> str:
    target: Any = node.target
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
