"""Defines what a graph means: slow and plain, every node at the full shape, any dtype.

Generated code and the probe are tested against this file. It must not optimise anything, nor know
modules, training modes or the affine that follows a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from primitives.errors import LayerError
from primitives.graph import FIRST_OP, Graph
from primitives.moments import batch_statistics
from primitives.ops import EPS, OPS

_VALUE: dict[str, CodeType] = {
    name: compile(row.torch, f"<op {name}>", "eval") for name, row in OPS.items()
}
"""The torch expression of each row, from the op table's own constants."""


def _expression(name: str) -> CodeType:
    if name not in _VALUE:  # a row that was added since
        _VALUE[name] = compile(OPS[name].torch, f"<op {name}>", "eval")
    return _VALUE[name]


def interpret(
    graph: Graph,
    x: Tensor,
    v0: Tensor,
    v1: Tensor,
    *,
    groups: int = 1,
    eps: float = EPS,
    batch_moments: Mapping[int, Tensor] | None = None,
    vectors: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The graph's value, without the affine.

    Shapes: x and result (N, C, *spatial); v0, v1 (C,).
    ``batch_moments``: node index -> moment that broadcasts to x's shape, used in place of the
    batch's own (evaluation mode) for every node of `batch_statistics`; None is training mode.
    ``vectors``: name -> (C,) for the vectors that are op nodes; those not given have their start.

    Raises:
        LayerError: the groups do not divide the channels, or a batch moment is missing.
    """
    values, _ = _run(graph, x, v0, v1, groups, eps, batch_moments, vectors)
    return values[graph.output]


def batch_moments_of(
    graph: Graph,
    x: Tensor,
    v0: Tensor,
    v1: Tensor,
    *,
    groups: int = 1,
    eps: float = EPS,
    vectors: Mapping[str, Tensor] | None = None,
) -> dict[int, Tensor]:
    """Moments of one training pass, for `interpret` in evaluation mode.

    Shapes: each (1, C, 1, ...), one for every node of `batch_statistics`.
    """
    return _run(graph, x, v0, v1, groups, eps, None, vectors)[1]


def _run(
    graph: Graph,
    x: Tensor,
    v0: Tensor,
    v1: Tensor,
    groups: int,
    eps: float,
    batch_moments: Mapping[int, Tensor] | None,
    vectors: Mapping[str, Tensor] | None,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    if x.ndim < 3 or x.shape[1] % groups:
        raise LayerError(
            "cannot interpret on this shape",
            expected=f"(N, C, *spatial) with channels that {groups} groups divide",
            got=str(tuple(x.shape)),
        )
    per_channel = (1, -1) + (1,) * (x.ndim - 2)
    initial = (x, torch.zeros_like(x), v0.view(per_channel), v1.view(per_channel))
    values = {index: value.expand_as(x) for index, value in enumerate(initial)}
    tracked = batch_statistics(graph)
    moments: dict[int, Tensor] = {}
    for index in graph.live_ops():
        node = graph.node(index)
        row = OPS[node.op]
        inputs = [values[source] for source in node.inputs]
        names: dict[str, Any] = {"torch": torch, "eps": eps, "x": x}
        if row.start is not None:
            given = (vectors or {}).get(node.op, torch.full_like(v0, row.start))
            names[node.op] = given.view(per_channel).expand_as(x)
        elif row.moment is None:
            names.update(zip("ab", inputs, strict=False))
        else:
            moment = _moment(row.moment.name, inputs[0], node.over or "", groups)
            if index in tracked:
                moment = moments[index] = _given(index, moment, batch_moments)
            names["m"] = moment.expand_as(x)
        value = eval(_expression(node.op), names)
        assert isinstance(value, Tensor)
        values[index] = value
    assert all(index < FIRST_OP or values[index].shape == x.shape for index in values)
    return values, moments


def _given(index: int, moment: Tensor, given: Mapping[int, Tensor] | None) -> Tensor:
    if given is None:
        return moment
    if index not in given:
        raise LayerError(
            "a batch moment is missing", where=f"node {index}", got=f"nodes {sorted(given)}"
        )
    return given[index]


def _moment(kind: str, a: Tensor, over: str, groups: int) -> Tensor:
    """Moment of a full tensor, at a shape that broadcasts to it.

    Shapes: a (N, C, *spatial); result of the same rank.
    """
    if over == "group":
        by_group = a.reshape(a.shape[0], groups, a.shape[1] // groups, *a.shape[2:])
        moment = _average(kind, by_group, tuple(range(2, by_group.ndim)))
        return moment.expand_as(by_group).reshape(a.shape)
    positions = tuple(range(2, a.ndim))
    axes = {
        "batch": (0, *positions),
        "sample": (1, *positions),
        "instance": positions,
        "token": (1,),
    }
    return _average(kind, a, axes[over])


def _average(kind: str, a: Tensor, axes: tuple[int, ...]) -> Tensor:
    mean = a.mean(axes, keepdim=True)
    if kind == "mean":
        return mean
    centred = a if kind == "mean_square" else a - mean
    return (centred * centred).mean(axes, keepdim=True)
