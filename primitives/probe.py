"""Runs a graph on a small fixed probe in numpy: values and gradients in float64, in microseconds.

The controller asks this of every proposal, so there is no torch here and live nodes stay at their
reduced broadcast shapes. `interpret` defines what the numbers must be.

Shapes: (P, N, C, S) with P independent probes side by side; S stands for all spatial axes, which no
primitive tells apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primitives.graph import FIRST_OP, Graph, Node
from primitives.moments import batch_statistics
from primitives.ops import EPS, INDEX_SETS, OPS, VECTORS, Primitive

Array = NDArray[np.float64]

FLAT = 1e-9
"""Differences below this share of the magnitude count as rounding."""

_AXES = {name: tuple({"b": 1, "c": 2, "s": 3}[a] for a in axes if a != "g")
         for name, axes in INDEX_SETS.items()}  # fmt: skip
_FINISH: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "m": (lambda m: m, lambda g, y: g),
    "torch.sqrt(m + eps)": (lambda m: np.sqrt(m + EPS), lambda g, y: g / (2.0 * y)),
}
"""Torch text of a moment's finish -> its value, and its cotangent from value's ``g`` and ``y``."""


class Inputs(NamedTuple):
    """A fixed probe: x (P, N, C, S), v0 and v1 (1, 1, C, 1), cotangent (P, N, C, S), groups.

    ``vectors``: name -> (1, 1, C, 1) of those that are op nodes; their start where none is given.
    """

    x: Array
    v0: Array
    v1: Array
    cotangent: Array
    groups: int
    vectors: Mapping[str, Array] = {}


class Response(NamedTuple):
    """What a graph answers to a probe in one mode.

    ``value`` has its reduced shape; gradients are those of sum(value * cotangent) with respect to
    x, v0 and v1, None where the graph does not depend on the input; ``by_vector`` those of the
    live vectors that are op nodes. ``moments`` are the batch moments that were used.
    """

    value: Array
    gradients: tuple[Array | None, Array | None, Array | None]
    moments: dict[int, Array]
    by_vector: dict[str, Array]


def respond(
    graph: Graph,
    inputs: Inputs,
    moments: dict[int, Array] | None = None,
    *,
    with_zeros: bool = False,
) -> Response:
    """Value and gradients of the graph; given ``moments`` make it evaluation mode.

    ``with_zeros``: of x and of each value of its shape that has both signs, the element nearest to
    zero is zero. The caller silences numpy's floating point warnings.
    """
    plan = _plan(graph)
    values, used = _forward(plan, inputs, moments, with_zeros)
    fixed = moments if moments is not None else {}
    grads = _backward(plan, values, inputs, graph.output, fixed)
    by_vector: dict[str, Array] = {}
    for index, row, _ in plan:
        if row.start is not None and index in grads:
            by_vector[row.name] = by_vector.get(row.name, 0.0) + grads[index]
    gradients = (grads.get(0), grads.get(2), grads.get(3))
    return Response(values[graph.output], gradients, used, by_vector)


def value_of(graph: Graph, inputs: Inputs) -> Array:
    """The graph's value in training mode alone, at its reduced shape."""
    return _forward(_plan(graph), inputs, None, False)[0][graph.output]


def _forward(
    plan: list[tuple[int, Primitive, Node]],
    inputs: Inputs,
    moments: dict[int, Array] | None,
    with_zeros: bool,
) -> tuple[dict[int, Array], dict[int, Array]]:
    """Values of all live nodes, and the batch moments that were used."""
    x = _with_zero(inputs.x) if with_zeros else inputs.x
    values: dict[int, Array] = {0: x, 1: _ZERO, 2: inputs.v0, 3: inputs.v1}
    used = {}
    for index, row, node in plan:
        sources = node.inputs
        if row.forward is not None:
            if len(sources) == 1:
                values[index] = row.forward(values[sources[0]], EPS)
            else:
                values[index] = row.forward(values[sources[0]], values[sources[1]], EPS)
            if with_zeros and values[index].shape == x.shape:
                values[index] = _with_zero(values[index])
            continue
        if row.moment is None:
            values[index] = _leaf(row, inputs)
            continue
        if moments is not None and index in moments:
            moment = moments[index]
        else:
            moment = _moment(row.moment.name, values[sources[0]], node.over or "", inputs.groups)
        if node.over == "batch":
            used[index] = moment
        values[index] = _FINISH[row.moment.finish][0](moment)
    return values, used


def _with_zero(value: Array) -> Array:
    """The value with its element nearest to zero at zero, if it has both signs.

    So near to zero what else is known of that element hardly contradicts the zero.
    """
    if not value.min() < 0.0 < value.max():
        return value
    changed = value.copy()
    changed.flat[np.abs(value).argmin()] = 0.0
    return changed


def _leaf(row: Primitive, inputs: Inputs) -> Array:
    """A constant, or a vector of the probe; both at a shape that broadcasts."""
    if row.constant is not None:
        return np.full((1, 1, 1, 1), row.constant)
    if row.name in inputs.vectors:
        return inputs.vectors[row.name]
    return np.full(inputs.v0.shape, row.start)


def evaluation_moments(graph: Graph, training: Response) -> dict[int, Array] | None:
    """Each probe's batch moments replaced by those of its neighbour; None where there are none.

    Probes stand in pairs of the same distribution: 0 and 1, 2 and 3, ...
    """
    moments = {index: training.moments[index] for index in batch_statistics(graph)}
    if not moments:
        return None
    return {
        index: moment[_SWAP[: len(moment)]] if len(moment) > 1 else moment
        for index, moment in moments.items()
    }


def probe_fault(graph: Graph) -> str | None:
    """Why no network could train with the graph: ``not_finite``, ``constant``, ``no_gradient``.

    Judged at the initial v0 = 0 and v1 = 1, on inputs of standard deviation 1 and 10, in training
    mode, and in evaluation mode if a batch statistic is live. ``constant``: no spatial variation.
    ``not_finite`` is judged once more with elements that are exactly zero, of the input and of what
    crosses zero on the way: in float32 some element of a training comes to be, and where a slope is
    not finite there the training ends. None: nothing is wrong that this probe can see.
    """
    with np.errstate(all="ignore"):
        training = respond(graph, FAULT_PROBE)
        fault = _fault(training)
        if fault is None:
            moments = evaluation_moments(graph, training)
            if moments is not None:
                fault = _fault(respond(graph, FAULT_PROBE, moments))
        if fault is None and not _is_finite(respond(graph, FAULT_PROBE, with_zeros=True)):
            fault = "not_finite"
    return fault


def _fault(response: Response) -> str | None:
    if not _is_finite(response):
        return "not_finite"
    value, by_x = response.value, response.gradients[0]
    high, low = np.maximum.reduce(value, axis=3), np.minimum.reduce(value, axis=3)
    magnitude = np.maximum(np.abs(high), np.abs(low))
    if not (high - low > FLAT * magnitude).any():
        return "constant"
    if by_x is None or not np.abs(by_x).max() > FLAT * 1e-3 * magnitude.max():
        return "no_gradient"
    return None


def _is_finite(response: Response) -> bool:
    """Whether the value and all gradients are."""
    every = (response.value, *response.gradients, *response.by_vector.values())
    return all(bool(np.isfinite(one).all()) for one in every if one is not None)


@lru_cache(maxsize=8)  # whoever probes a graph asks it several times
def _plan(graph: Graph) -> list[tuple[int, Primitive, Node]]:
    nodes = graph.nodes
    return [
        (index, OPS[nodes[index - FIRST_OP].op], nodes[index - FIRST_OP])
        for index in graph.live_ops()
    ]


def _backward(
    plan: list[tuple[int, Primitive, Node]],
    values: dict[int, Array],
    inputs: Inputs,
    output: int,
    fixed: dict[int, Array],
) -> dict[int, Array]:
    """Node index -> cotangent of its value."""
    grads: dict[int, Array] = {output: _sum_to(inputs.cotangent, values[output].shape)}
    for index, row, node in reversed(plan):
        if index not in grads or index in fixed or not node.inputs:
            continue
        sources = node.inputs
        given = [values[source] for source in sources]
        if row.vjp is not None:
            parts = row.vjp(grads[index], values[index], *given, EPS)
        else:
            parts = (_moment_vjp(row, grads[index], values[index], given[0], node, inputs.groups),)
        for source, part in zip(sources, parts, strict=True):
            if source == 1:
                continue
            part = _sum_to(part, values[source].shape)
            grads[source] = grads[source] + part if source in grads else part
    return grads


def _moment(kind: str, a: Array, over: str, groups: int) -> Array:
    """Moment with kept axes; a group's is spread to its channels."""
    mean = _mean(a, over, groups)
    if kind == "mean":
        return mean
    if kind == "mean_square":
        return _mean(a * a, over, groups)
    centred = a - mean
    return _mean(centred * centred, over, groups)


def _moment_vjp(row: Primitive, g: Array, y: Array, a: Array, node: Node, groups: int) -> Array:
    assert row.moment is not None
    over = node.over or ""
    average = _FINISH[row.moment.finish][1](g, y)
    if over == "group" and a.shape[2] > 1:
        # Every channel of the group holds the same moment: their cotangents add up.
        average = _mean(average, "group", groups) * (a.shape[2] // groups)
    share = average * (y.size / a.size if not _spread(over, a) else 1.0 / _members(a, groups))
    if row.moment.name == "mean":
        return np.broadcast_to(share, a.shape)
    centred = a if row.moment.name == "mean_square" else a - _mean(a, over, groups)
    return 2.0 * centred * share


def _spread(over: str, a: Array) -> bool:
    return over == "group" and a.shape[2] > 1


def _members(a: Array, groups: int) -> int:
    """Elements of one group."""
    channels, positions = a.shape[2:]
    return int(channels) // groups * int(positions)


def _mean(a: Array, over: str, groups: int) -> Array:
    if _spread(over, a):
        p, n, c, s = a.shape
        by_group = np.add.reduce(a.reshape(p, n, groups, c // groups * s), axis=3, keepdims=True)
        return np.repeat(by_group, c // groups, axis=2) * (1.0 / _members(a, groups))
    total: Array = np.add.reduce(a, axis=_AXES[over], keepdims=True)
    return total * (total.size / a.size)


def _sum_to(a: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which ``shape`` does not vary."""
    if a.shape == shape:
        return a
    axes = tuple(axis for axis in range(4) if shape[axis] == 1 and a.shape[axis] != 1)
    total: Array = np.add.reduce(a, axis=axes, keepdims=True) if axes else a
    return total if total.shape == shape else np.broadcast_to(total, shape)


_ZERO = np.zeros((1, 1, 1, 1))
_SWAP = np.array([1, 0, 3, 2])


def make_inputs(
    seed: int, shape: tuple[int, int, int], groups: int, scales: tuple[float, ...]
) -> Inputs:
    """A probe from a seed; numpy promises never to change the stream of this old generator.

    Two probes are made for each scale of x; v0 and v1 are random.
    """
    rng: Any = np.random.RandomState(seed)
    sizes = np.repeat(np.array(scales), 2)[:, None, None, None]
    x = rng.standard_normal((len(sizes), *shape)) * sizes
    channels = (1, 1, shape[1], 1)
    v0, v1 = rng.standard_normal(channels), 1.0 + 0.5 * rng.standard_normal(channels)
    cotangent = rng.standard_normal(x.shape)
    # Drawn last: what came before they existed stays as it was.
    vectors = {name: start + 0.5 * rng.standard_normal(channels) for name, start in VECTORS.items()}
    return Inputs(x, v0, v1, cotangent, groups, vectors)


def at_initial_values(inputs: Inputs) -> Inputs:
    """The probe with every trainable vector at the value that it starts from."""
    return inputs._replace(v0=np.zeros_like(inputs.v0), v1=np.ones_like(inputs.v1), vectors={})


FAULT_PROBE = at_initial_values(make_inputs(20260, (3, 4, 4), 2, (1.0, 10.0)))
