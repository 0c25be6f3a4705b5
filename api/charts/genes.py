"""What charts count of a graph's JSON: its live primitives, its size, the bytes that it moves.

Works on stored JSON, not on `Graph`, for a ledger reads every candidate of a search at once. It
repeats no rule about primitives: names, index sets and axes come from the op table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from primitives.graph import FIRST_OP
from primitives.moments import INITIAL_AXES, reduced_axes
from primitives.ops import INDEX_SETS, OPS, typed_name

NAMES = tuple(
    typed_name(op.name, over) for op in OPS.values() for over in (op.index_sets or (None,))
)
"""Typed primitives; a mask's bit is the place in this tuple."""
_BIT = {name: 1 << place for place, name in enumerate(NAMES)}
_BITS = {
    (op.name, over): _BIT[typed_name(op.name, over)]
    for op in OPS.values()
    for over in (op.index_sets or (None,))
}
_AXIS = {"b": 1, "c": 2, "s": 4}
_FULL = 7
_FLOAT = 4


def _mask(axes: str) -> int:
    return sum(_AXIS[axis] for axis in axes)


_INITIAL = [_mask(axes) for axes in INITIAL_AXES]
_KEPT = {over: _mask(reduced_axes("bcs", over)) for over in INDEX_SETS}


def genes_of(nodes: Sequence[dict[str, Any]]) -> tuple[int, int, float]:
    """(mask of live primitives, live nodes, bytes moved an element of the input).

    Units: bytes in float32, forward, as `primitives.properties` counts them.

    Example:
        >>> genes_of([{"op": "tanh", "inputs": [0]}])[1:]
        (1, 16.0)
    """
    last = FIRST_OP + len(nodes) - 1
    live, waiting = set(), [last]
    while waiting:
        index = waiting.pop()
        if index >= FIRST_OP and index not in live:
            live.add(index)
            waiting += nodes[index - FIRST_OP]["inputs"]
    axes = dict(enumerate(_INITIAL))
    mask, moved = 0, 2  # the affine reads and writes
    for index in sorted(live):
        node = nodes[index - FIRST_OP]
        over, inputs = node.get("over"), node["inputs"]
        mask |= _BITS[node["op"], over]
        if over is not None:
            axes[index] = axes[inputs[0]] & _KEPT[over]
        else:
            together = 0
            for source in inputs:
                together |= axes[source]
            axes[index] = together
        moved += sum(axes[source] == _FULL for source in inputs) + (axes[index] == _FULL)
    return mask, len(live), float(_FLOAT * moved)
