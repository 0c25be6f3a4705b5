"""Reads calls of torch's functional normalisations in a traced forward, for a layer to go there.

A call is understood where its channels, its vectors and its mode can be read off the graph; of any
other it is said why not. This file changes nothing.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from primitives.model_scan import Layout, Scan, is_other_norm, scan
from primitives.other_norms import layout_by_probe
from primitives.tracing import MODE

_BY_STATISTICS = ("input", "running_mean", "running_var", "weight", "bias")
_BY_WEIGHT = ("input", "weight", "bias", "running_mean", "running_var")
_SHAPED = ("input", "normalized_shape", "weight", "bias", "eps", "cudnn_enable")
_GROUPED = ("input", "num_groups", "weight", "bias", "eps", "cudnn_enabled")

SIGNATURES: dict[Any, tuple[str, ...]] = {
    functional.batch_norm: (*_BY_STATISTICS, "training", "momentum", "eps"),
    functional.instance_norm: (*_BY_STATISTICS, "training", "momentum", "eps"),
    functional.layer_norm: _SHAPED,
    functional.group_norm: _GROUPED,
    functional.rms_norm: ("input", "normalized_shape", "weight", "eps"),
    torch.batch_norm: (*_BY_WEIGHT, "training", "momentum", "eps", "cudnn_enabled"),
    torch.instance_norm: (*_BY_WEIGHT, "training", "momentum", "eps", "cudnn_enabled"),
    torch.layer_norm: _SHAPED,
    torch.group_norm: _GROUPED,
    torch.rms_norm: ("input", "normalized_shape", "weight", "eps"),
}
"""Function -> names of its arguments; what instance_norm calls use_input_stats is training here."""

_VECTORS = ("weight", "bias", "running_mean", "running_var")
_LOOKS = frozenset({"shape", "ndim", "dtype", "device", "size", "dim", "numel"})
"""What may be asked of a vector without using its numbers."""


class Called(NamedTuple):
    """One normalisation that is called as a function, at each of its places.

    ``old``: a module with its vectors, guard, momentum and mode, never to be called; ``where``:
    path of the module that calls it; ``why``: what changes besides, for people.
    """

    channels: int
    layout: Layout
    old: nn.Module
    where: str
    why: str


class Place(NamedTuple):
    """Calls with the same vectors are one normalisation; a string says why they stay."""

    calls: list[tuple[str, fx.Node]]
    read: Called | str


def made_of_calls(model: nn.Module) -> list[nn.Module]:
    """Normalisations that are neither torch's classes nor plain, but call torch's functions."""
    return [
        module
        for module in model.modules()
        if is_other_norm(module)
        and layout_by_probe(module) is None
        and any(True for _ in scan(module).functional_norms())
    ]


def functional_norms(found: Scan, model: nn.Module) -> Iterator[Place]:
    """Every functional normalisation of a traced model, in the order of its first call."""
    places: dict[object, list[tuple[str, fx.Node]]] = {}
    for name, node in found.functional_norms():
        places.setdefault(_identity(node), []).append((name, node))
    for calls in places.values():
        reads = [_read(node, found, model) for _, node in calls]
        refused = next((read for read in reads if isinstance(read, str)), None)
        if refused is None and len({_settings(read) for read in reads}) > 1:
            refused = "its calls differ in mode, eps or momentum"
        yield Place(calls, refused or reads[0])


def read_tensors(found: Scan) -> dict[str, str]:
    """Path of each tensor that a functional normalisation takes -> name of the call."""
    return {
        str(vector.target): name
        for name, node in found.functional_norms()
        for vector in node.all_input_nodes
        if vector.op == "get_attr"
    }


def erase(graph: fx.Graph, node: fx.Node) -> None:
    """Take a call without users out, and what was looked up for it alone."""
    waiting = {node: None}  # in order, each once
    while waiting:
        one, _ = waiting.popitem()
        given = one.all_input_nodes
        graph.erase_node(one)
        for idle in given:
            if not idle.users and (idle.op == "get_attr" or _is_mode(idle) or _looks(idle)):
                waiting[idle] = None


def _settings(read: Called | str) -> tuple[object, ...]:
    assert isinstance(read, Called)
    old: Any = read.old
    return read.channels, old.eps, old.momentum, old.training, read.why


def _identity(node: fx.Node) -> object:
    """The same for calls of one function with the same vectors; without any each is its own."""
    named = _arguments(node)
    vectors = [named.get(name) for name in _VECTORS]
    if not any(isinstance(vector, fx.Node) for vector in vectors):
        return node
    return (node.target, *(v.target if isinstance(v, fx.Node) else None for v in vectors))


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The call's arguments by name; empty where the function is none of torch's."""
    names = SIGNATURES.get(node.target)
    if names is None:
        return {}
    named = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    if "use_input_stats" in named:
        named["training"] = named.pop("use_input_stats")
    return named


def _read(node: fx.Node, found: Scan, model: nn.Module) -> Called | str:
    named = _arguments(node)
    if not named:
        return "no function of torch.nn.functional: what it computes is unknown"
    by_batch = "training" in SIGNATURES[node.target]
    why = ""
    if by_batch:
        default = node.target is functional.instance_norm
        mode = _by_mode(named.get("training", default))
        if mode == (False, False):
            return "its statistics never move (training=False)"
        if mode not in ((True, False), (True, True)):
            return "whether it takes batch statistics is known only when it runs"
        if mode == (True, True) and named.get("running_mean") is not None:
            why = "; it took batch statistics in evaluation mode too"
    vectors = _vectors(node, named, model, found)
    if isinstance(vectors, str):
        return vectors
    channels, more = _channels(node, named, vectors, found)
    if channels is None:
        return more
    if any(vector.shape != (channels,) for vector in vectors.values()):
        return f"its vectors are not of {channels} channels"
    where = found.owner(node)
    old: Any = nn.Module()
    for name, vector in vectors.items():
        if isinstance(vector, nn.Parameter):
            old.register_parameter(name, vector)
        else:
            old.register_buffer(name, vector)
    caller: Any = found.modules[where]
    eps = _in_training(named.get("eps"))
    momentum = _momentum(named, caller) if "running_mean" in vectors else 0.1
    if isinstance(eps, fx.Node) or isinstance(momentum, fx.Node):
        return "its eps or momentum is computed when it runs"
    if isinstance(momentum, str):
        return momentum
    if momentum is None:
        old.register_buffer("num_batches_tracked", caller.num_batches_tracked)
    old.eps, old.momentum, old.training = eps, momentum, caller.training
    shaped = "normalized_shape" in SIGNATURES[node.target]
    return Called(channels, "nhwc" if shaped else "nchw", old, where, why)


def _momentum(named: dict[str, Any], caller: Any) -> object:
    """The weight of a new batch, None for the average of all; a string says why it is unknown.

    Who counts batches may compute it from them, as torch's own modules do without momentum.
    """
    given = _in_training(named.get("momentum", 0.1))
    if not isinstance(getattr(caller, "num_batches_tracked", None), Tensor):
        return given
    own = getattr(caller, "momentum", given)
    return given if own == given else None if own is None else "its momentum may follow a count"


def _vectors(
    node: fx.Node, named: dict[str, Any], model: nn.Module, found: Scan
) -> dict[str, Tensor] | str:
    """Scale, shift and moving averages as the model holds them."""
    called = [found.modules.get(str(n.target)) for n in node.graph.nodes if n.op == "call_module"]
    held = [t for module in called if module for t in (*module.parameters(), *module.buffers())]
    own: dict[str, Tensor] = {}
    own.update(model.named_parameters(remove_duplicate=False))
    own.update(model.named_buffers(remove_duplicate=False))
    vectors: dict[str, Tensor] = {}
    for name in _VECTORS:
        given = named.get(name)
        if given is None:
            continue
        if given.op != "get_attr" or str(given.target) not in own:
            return f"its {name} is computed when it runs, or no parameter or buffer"
        uses = [
            user
            for one in node.graph.nodes
            if one.op == "get_attr" and one.target == given.target
            for user in one.users
        ]
        vector = vectors[name] = own[str(given.target)]
        # A layer holds vectors of its own, which would part from those.
        elsewhere = any(_identity(user) != _identity(node) and not _looks(user) for user in uses)
        if elsewhere or any(vector is one for one in held):
            return f"its {name} ({given.target}) is used elsewhere too"
    return vectors


def _channels(
    node: fx.Node, named: dict[str, Any], vectors: dict[str, Tensor], found: Scan
) -> tuple[int | None, str]:
    """Number of channels, or why it is unknown."""
    shape = named.get("normalized_shape")
    axes = len(shape) if isinstance(shape, tuple | list) else 1 if _is_last(shape) else None
    if isinstance(shape, tuple | list) and axes == 1 and isinstance(shape[0], int):
        return shape[0], ""
    vector = next(iter(vectors.values()), None)
    if (axes or 1) > 1 or (shape is not None and vector is not None and vector.ndim != 1):
        return None, "normalises more than one axis"
    if vector is not None:
        return len(vector), ""
    source = found.source(node)
    while source is not None and (found.is_activation(source) or source.target in SIGNATURES):
        source = found.source(source)  # these give as many channels as they get
    known = found.output_of(source) if source is not None else None
    if known is not None and (
        known[1] == "nchw" if shape is None else (axes, known[1]) == (1, "nhwc")
    ):
        return known[0], ""
    return None, (
        "its number of channels is unknown: it has no vectors, and what comes before does not say"
    )


def _is_last(shape: object) -> bool:
    """Whether it is ``x.shape[-1:]``."""
    if not isinstance(shape, fx.Node) or not _looks(shape) or len(shape.args) != 2:
        return False
    return shape.args[1] == slice(-1, None, None)


def _by_mode(value: object) -> object:
    """(in training, in evaluation) of a flag, where it is known."""
    if isinstance(value, fx.Node):
        return value.args if _is_mode(value) else None
    return bool(value), bool(value)


def _in_training(value: object) -> object:
    """A number, the one of training mode where there are two."""
    return value.args[0] if isinstance(value, fx.Node) and _is_mode(value) else value


def _is_mode(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).rpartition(".")[2] == MODE


def _looks(node: fx.Node) -> bool:
    """Whether the node asks for a shape, a type or a part of a shape."""
    if node.op == "call_method":
        return node.target in _LOOKS
    if node.op != "call_function":
        return False
    if node.target is builtins.getattr:
        return node.args[1] in _LOOKS
    source = node.args[0] if node.args else None
    return getattr(node.target, "__name__", "") == "getitem" and (
        isinstance(source, fx.Node) and _looks(source)
    )
