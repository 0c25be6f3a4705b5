"""What a layer does as a function, found on a small probe, and what it costs by count.

Answers hold on the probe at the initial v0 = 0, v1 = 1, in training mode; they are no proofs. This
file must not import torch: the web process shows these facts too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from primitives.graph import Graph
from primitives.moments import node_axes
from primitives.ops import OPS
from primitives.probe import Inputs, value_of
from primitives.structure import analyse

Array = NDArray[np.float64]

CLOSE = 1e-4
"""Relative difference that counts as the same; guards (eps) alone make a smaller one."""

GROWTH = 1.5
"""A layer whose largest value grows by less when its input grows a thousandfold is bounded."""

MIXES = {"mixes_batch": "b", "mixes_channels": "c", "mixes_positions": "s"}
"""Name of a fact -> the axis, as `primitives.structure` calls it, that a layer mixes then."""

_SHAPE = (2, 3, 4, 32)
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class Properties:
    """Facts about a layer.

    ``symmetry``: of x -> -x; ``monotone``: of outputs against inputs within a channel of a sample;
    ``flops`` and ``bytes_moved`` are per element of the input, forward, with the affine, float32,
    each live full-sized step reading its inputs and writing its value.
    """

    scale_invariant: bool
    shift_invariant: bool
    symmetry: Literal["even", "odd", "none"]
    bounded: bool
    monotone: Literal["increasing", "decreasing", "none"]
    parameters_per_channel: int
    flops: float
    bytes_moved: float


def properties(graph: Graph) -> Properties:
    """The facts, in about a millisecond.

    Example:
        >>> from primitives.catalog import CATALOG
        >>> found = properties(CATALOG["evonorm-s0"].graph)
        >>> found.scale_invariant, found.parameters_per_channel
        (False, 3)
    """
    found = Behaviour(graph)
    return Properties(
        scale_invariant=found.scale_invariant,
        shift_invariant=found.shift_invariant,
        symmetry=found.symmetry,
        bounded=found.bounded,
        monotone=found.monotone,
        parameters_per_channel=analyse(graph).parameters_per_channel,
        flops=flops(graph),
        bytes_moved=bytes_moved(graph),
    )


class Behaviour:
    """What a layer does on the probe: each fact is found when it is first asked for, and kept.

    Example:
        >>> from primitives.catalog import CATALOG
        >>> Behaviour(CATALOG["dyt"].graph).symmetry
        'odd'
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @cached_property
    def _plain(self) -> Array:
        return _value(self._graph, _probe())

    @cached_property
    def scale_invariant(self) -> bool:
        """Whether the layer maps x and eight times x to the same."""
        return _same(_value(self._graph, 8.0 * _probe()), self._plain)

    @cached_property
    def shift_invariant(self) -> bool:
        """Whether the layer maps x and x + 30 to the same."""
        return _same(_value(self._graph, _probe() + 30.0), self._plain)

    @cached_property
    def symmetry(self) -> Literal["even", "odd", "none"]:
        """Of x -> -x."""
        return _symmetry(self._plain, _value(self._graph, -_probe()))

    @cached_property
    def bounded(self) -> bool:
        """Whether larger inputs, all of them or a few, do not make larger outputs."""
        return _bounded(self._graph, _probe(), self._plain)

    @cached_property
    def monotone(self) -> Literal["increasing", "decreasing", "none"]:
        """Of outputs against inputs within a channel of a sample."""
        return _monotone(_probe(), self._plain)


def stored_properties(graph: Graph) -> dict[str, bool | float | str]:
    """What a store keeps of a candidate beside its structure: facts by name, ready for JSON.

    ``mixes_...``: axes along which positions see each other; the rest are fields of `Properties`.
    Times and memory are measured on a machine, and so no property of the graph.

    Example:
        >>> from primitives.catalog import CATALOG
        >>> stored_properties(CATALOG["evonorm-s0"].graph)["mixes_batch"]
        False
    """
    mixes = analyse(graph).mixes
    return {name: axis in mixes for name, axis in MIXES.items()} | asdict(properties(graph))


@cache
def _probe() -> Array:
    x = 20.0 * np.random.default_rng(7).normal(size=_SHAPE)
    x.flags.writeable = False
    return x


@np.errstate(all="ignore")
def _value(graph: Graph, x: Array) -> Array:
    channels = (1, 1, _SHAPE[2], 1)
    probe = Inputs(x, np.zeros(channels), np.ones(channels), np.ones(_SHAPE), 2)
    return np.broadcast_to(value_of(graph, probe), _SHAPE)


@np.errstate(all="ignore")
def _same(one: Array, other: Array) -> bool:
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return False
    size = max(float(np.abs(other).max()), 1e-12)
    return bool(np.abs(one - other).max() <= CLOSE * size)


def _symmetry(plain: Array, mirrored: Array) -> Literal["even", "odd", "none"]:
    if _same(mirrored, plain):
        return "even"
    return "odd" if _same(-mirrored, plain) else "none"


def _bounded(graph: Graph, x: Array, plain: Array) -> bool:
    largest = [float(np.abs(one).max()) for one in (plain, _value(graph, 1e3 * x))]
    # A function of the normalised input alone is bounded over scales, not over outliers.
    spike = x.copy()
    spike[..., 0] *= 1e3
    largest.append(float(np.abs(_value(graph, spike)).max()))
    finite = bool(np.isfinite(largest).all())
    return finite and max(largest[1:]) <= GROWTH * max(largest[0], 1e-12)


@np.errstate(all="ignore")
def _monotone(x: Array, value: Array) -> Literal["increasing", "decreasing", "none"]:
    if not np.isfinite(value).all():
        return "none"
    order = np.argsort(x, axis=-1)
    steps = np.diff(np.take_along_axis(value, order, axis=-1), axis=-1)
    slack = 1e-9 * max(float(np.abs(value).max()), 1e-12)
    if np.abs(steps).max() <= slack:
        return "none"
    if steps.min() >= -slack:
        return "increasing"
    return "decreasing" if steps.max() <= slack else "none"


def flops(graph: Graph) -> float:
    """Forward, per element of the input, with the affine."""
    axes = node_axes(graph)
    total = 2.0  # the affine
    for index in graph.live_ops():
        node = graph.node(index)
        works_on = axes[node.inputs[0]] if node.over is not None else axes[index]
        total += OPS[node.op].cost if works_on == "bcs" else 0.0
    return total


def bytes_moved(graph: Graph) -> float:
    """Forward, per element of the input, with the affine, in float32."""
    axes = node_axes(graph)
    moved = 2  # the affine reads and writes
    for index in graph.live_ops():
        node = graph.node(index)
        moved += sum(axes[source] == "bcs" for source in node.inputs)
        moved += axes[index] == "bcs"
    return float(_FLOAT * moved)
