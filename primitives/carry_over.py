"""What a layer takes over from the normalisation it replaces: scale, shift and moving averages.

Each goes only where it has the same meaning; the rest keeps its start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from primitives.graph import FIRST_OP, Graph
from primitives.ops import INITIAL_NODES, OPS
from primitives.properties import properties

_X, _V0, _V1 = (INITIAL_NODES.index(name) for name in ("x", "v0", "v1"))


def copy_statistics(old: nn.Module, new: nn.Module, graph: Graph) -> None:
    """Scale, shift and moving averages of a normalisation, where the layer has their like.

    A layer whose ``v1`` and ``v0`` scale and shift the normalised input (`inner_affine`) gets them
    there, others in the affine at their end; moving averages go to moments of the input itself,
    with the number of batches that they are of where all moments are such.
    """
    inner = inner_affine(graph) if getattr(new, "apply_act", True) else ()
    names = dict(zip(("weight", "bias"), inner or ("weight", "bias"), strict=False))
    with torch.no_grad():
        for source, target in names.items():
            value, place = getattr(old, source, None), getattr(new, target, None)
            if isinstance(value, Tensor) and isinstance(place, Tensor):
                place.copy_(value.reshape(place.shape))
        mean, variance = getattr(old, "running_mean", None), getattr(old, "running_var", None)
        if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
            return
        known = {"mean": mean, "variance": variance, "mean_square": variance + mean.square()}
        fresh = 0
        for name, buffer in new.named_buffers():
            kind, _, index = name.removeprefix("running_").rpartition("_")
            if kind not in known:
                continue
            if int(index) >= FIRST_OP and graph.node(int(index)).inputs == (_X,):
                buffer.copy_(known[kind])
            else:
                fresh += 1
        # Without momentum it says what the averages weigh, and fresh ones weigh nothing.
        count, place = (getattr(one, "num_batches_tracked", None) for one in (old, new))
        if not fresh and isinstance(count, Tensor) and isinstance(place, Tensor):
            place.copy_(count)


def inner_affine(graph: Graph) -> tuple[str, ...]:
    """Vectors inside that stand for a normalisation's weight and bias: v1 and v0, v1, or none.

    They do where everything of the input passes through ``unit * v1 + v0`` (or ``unit * v1``), and
    ``unit`` is a normalisation: it stays the same when the input is scaled. What comes after must
    be more than nothing, or the affine at the end says the same.

    Example:
        >>> from primitives.catalog import CATALOG
        >>> [inner_affine(CATALOG[name].graph) for name in ("bn-relu", "rep-bn", "rms-silu")]
        [('v1', 'v0'), (), ('v1',)]
    """
    for index in graph.live_ops():
        inside: tuple[str, ...] = ("v1", "v0")
        product = _partner(graph, index, "add", _V0)
        if product is None:
            product, inside = index, ("v1",)
        unit = _partner(graph, product, "mul", _V1)
        if unit is None or not _gathers_all(graph, index):
            continue
        if index == graph.output and inside == ("v1",):
            return ()
        return inside if _is_normalised(graph, unit) else ()
    return ()


def _partner(graph: Graph, index: int, op: str, leaf: int) -> int | None:
    """The other input of a node of that primitive that has the leaf as one of two."""
    if index < FIRST_OP or graph.node(index).op != op:
        return None
    one, other = graph.node(index).inputs
    return other if one == leaf else one if other == leaf else None


def _gathers_all(graph: Graph, index: int) -> bool:
    """Whether input and both vectors reach the output through this node only."""
    waiting, seen = [graph.output], {index}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in (_X, _V0, _V1):
            return False
        if node >= FIRST_OP:
            waiting += graph.node(node).inputs
    return True


def _is_normalised(graph: Graph, unit: int) -> bool:
    if unit < FIRST_OP:
        return False
    part = Graph(graph.nodes[: unit - FIRST_OP + 1])
    live = set(part.live())
    averaged = any(OPS[part.node(node).op].is_aggregation for node in part.live_ops())
    return averaged and not live & {_V0, _V1} and properties(part).scale_invariant
