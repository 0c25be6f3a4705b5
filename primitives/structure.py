"""What can be said of a graph without computing a tensor: axes, dependence on x, mixing.

The search asks these questions of every proposal, so this file works on bit masks and must not
import torch. It judges structure only: that ``mul(x, zero)`` is zero is for the rewrite rules and
the probe to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from primitives.graph import FIRST_OP, Graph
from primitives.ops import CONSTANTS, INDEX_SETS, INITIAL_NODES, VECTORS

_B, _C, _S, _X = 1, 2, 4, 8
"""Bits of a node's mask: it varies over batch, channels, space; it depends on ``x``."""

_AXES = {"b": _B, "c": _C, "g": _C, "s": _S}
_LEAF = {"x": _B | _C | _S | _X, "zero": 0, "v0": _C, "v1": _C}
_NO_INPUT = dict.fromkeys(CONSTANTS, 0) | dict.fromkeys(VECTORS, _C)
_START = [_LEAF[name] for name in INITIAL_NODES]
AFFINE = 2
"""Learnable numbers a channel of the affine after every layer."""
INITIAL_VECTORS = tuple(INITIAL_NODES.index(name) for name in ("v0", "v1"))


def _bits(axes: str) -> int:
    mask = 0
    for axis in axes:
        mask |= _AXES[axis]
    return mask


_MIXED = {over: _bits(axes) for over, axes in INDEX_SETS.items()}
# A group's moment still varies over the channels, from group to group: "g" removes no axis.
_KEEP = {over: ~_bits(axes.replace("g", "")) for over, axes in INDEX_SETS.items()}


@dataclass(frozen=True, slots=True)
class Structure:
    """Structural facts about the live part of a graph.

    ``live_ops``: indices of the live op nodes, ascending.
    ``varies``: axes the output varies over (``b`` batch, ``c`` channels, ``s`` space).
    ``mixes``: axes that live aggregations of something that depends on ``x`` average over; a part
    of the channels (``group``) counts as ``c``.
    ``batch_independent``: no live aggregation over ``batch``, whatever it is of.
    ``parameters_per_channel``: learnable numbers, the two of the affine after the layer included.
    """

    live_ops: tuple[int, ...]
    varies: frozenset[str]
    mixes: frozenset[str]
    depends_on_x: bool
    batch_independent: bool
    parameters_per_channel: int

    @property
    def live_nodes(self) -> int:
        """Number of live op nodes."""
        return len(self.live_ops)

    @property
    def keeps_spatial(self) -> bool:
        """Whether the output varies over the spatial axes."""
        return "s" in self.varies

    @property
    def causal_safe(self) -> bool:
        """Whether no position and no example sees another one."""
        return "b" not in self.mixes and "s" not in self.mixes

    @property
    def pointwise(self) -> bool:
        """Whether each output element depends on one element of ``x`` at most."""
        return not self.mixes


def analyse(graph: Graph) -> Structure:
    """The structural facts of a graph, in one pass forward and one backward.

    Returns:
        A `Structure`; only live nodes count.

    Example:
        >>> from primitives.graph import Node
        >>> bare = Graph((Node("std", (0,), "batch"), Node("div", (0, 4))))
        >>> sorted(analyse(bare).mixes), analyse(bare).keeps_spatial
        (['b', 's'], True)
    """
    nodes = graph.nodes
    masks = _START.copy()
    for op, inputs, over in nodes:
        if over is not None:
            masks.append(masks[inputs[0]] & _KEEP[over])
        elif len(inputs) == 2:
            masks.append(masks[inputs[0]] | masks[inputs[1]])
        else:
            masks.append(masks[inputs[0]] if inputs else _NO_INPUT[op])
    last = len(masks) - 1
    live = bytearray(last + 1)
    live[last] = 1
    mixed, batch_free, ops = 0, True, []
    vectors: set[str] = set()
    for index in range(last, FIRST_OP - 1, -1):
        if live[index]:
            ops.append(index)
            op, inputs, over = nodes[index - FIRST_OP]
            if op in VECTORS:
                vectors.add(op)
            for source in inputs:
                live[source] = 1
            if over is not None:
                batch_free = batch_free and over != "batch"
                if masks[inputs[0]] & _X:
                    mixed |= _MIXED[over]
    ops.reverse()
    learnable = AFFINE + sum(live[index] for index in INITIAL_VECTORS) + len(vectors)
    return Structure(
        live_ops=tuple(ops),
        varies=_axes(masks[last]),
        mixes=_axes(mixed),
        depends_on_x=bool(masks[last] & _X),
        batch_independent=batch_free,
        parameters_per_channel=learnable,
    )


def structural_fault(graph: Graph) -> str | None:
    """Why the graph cannot be a layer, judged by structure alone; ``None`` where it may be one.

    Returns:
        ``"ignores_input"``: the output does not depend on ``x``; ``"no_spatial"``: it does, but
        does not vary over space; ``None``: neither.

    Example:
        >>> from primitives.graph import Node
        >>> structural_fault(Graph((Node("exp", (2,)),)))
        'ignores_input'
    """
    # Only x varies over space, so a mask with that bit settles both questions.
    masks = _START.copy()
    append, keep = masks.append, _KEEP
    for op, inputs, over in graph.nodes:
        if over is not None:
            append(masks[inputs[0]] & keep[over])
        elif len(inputs) == 2:
            append(masks[inputs[0]] | masks[inputs[1]])
        else:
            append(masks[inputs[0]] if inputs else _NO_INPUT[op])
    last = masks[-1]
    if last & _S:
        return None
    return "no_spatial" if last & _X else "ignores_input"


@cache
def _axes(mask: int) -> frozenset[str]:
    return frozenset(axis for axis in "bcs" if mask & _AXES[axis])
