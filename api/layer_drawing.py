"""A graph laid out for drawing: every node with its place, shape, and whether it is live.

The page draws it in its own colours. `primitives.picture` draws files; nothing here decides.
"""

from __future__ import annotations

from typing import Any

from primitives.graph import FIRST_OP, Graph
from primitives.moments import INITIAL_AXES, reduced_axes
from primitives.ops import INITIAL_NODES, typed_name

_SIZES = {"b": "N", "c": "C", "s": "H×W"}


def drawing_of(graph: Graph) -> dict[str, Any]:
    """``nodes`` with level (0: inputs) and column, ``edges`` with their side, and the extent.

    Initial nodes that nothing uses are left out. Columns are in widths of a node, around 0.
    """
    live = set(graph.live())
    used = {source for node in graph.nodes for source in node.inputs} | {graph.output}
    axes, levels = _axes(graph), _levels(graph)
    shown = [i for i in range(FIRST_OP + len(graph.nodes)) if i >= FIRST_OP or i in used]
    columns = _columns(graph, levels, shown)
    nodes = [
        {
            "id": index, "label": node_name(graph, index), "kind": _kind(graph, index),
            "live": index in live, "output": index == graph.output, "level": levels[index],
            "column": columns[index], "shape": shape_of(axes[index]),
        }
        for index in shown
    ]  # fmt: skip
    edges = [
        {
            "source": source, "target": index, "live": index in live,
            "side": ("L", "R")[place] if len(node.inputs) == 2 else "",
        }
        for index, node in enumerate(graph.nodes, FIRST_OP)
        for place, source in enumerate(node.inputs)
    ]  # fmt: skip
    widest = max(abs(one) for one in columns.values())
    return {
        "nodes": nodes, "edges": edges, "levels": max(levels.values()) + 1,
        "width": 2 * widest + 1,
    }  # fmt: skip


def shape_of(axes: str) -> str:
    """The tensor's shape in words, such as ``N×C×H×W``, ``1×C×1×1``; a scalar is ``1``."""
    if not axes:
        return "1"
    sizes = [_SIZES[axis] if axis in axes else {"s": "1×1"}.get(axis, "1") for axis in "bcs"]
    return "×".join(sizes)


def node_name(graph: Graph, index: int) -> str:
    """What a node is: the name of an initial one, or of its primitive."""
    if index < FIRST_OP:
        return INITIAL_NODES[index]
    node = graph.node(index)
    return typed_name(node.op, node.over)


def _kind(graph: Graph, index: int) -> str:
    if index < FIRST_OP:
        return "input"
    return "operation" if graph.node(index).over is None else "aggregation"


def _axes(graph: Graph) -> dict[int, str]:
    """Axes along which each node varies, dead ones too."""
    axes = dict(enumerate(INITIAL_AXES))
    for index, node in enumerate(graph.nodes, FIRST_OP):
        if node.over is not None:
            axes[index] = reduced_axes(axes[node.inputs[0]], node.over)
        else:
            together = "".join(axes[source] for source in node.inputs)
            axes[index] = "".join(axis for axis in "bcs" if axis in together)
    return axes


def _levels(graph: Graph) -> dict[int, int]:
    levels = dict.fromkeys(range(FIRST_OP), 0)
    for index, node in enumerate(graph.nodes, FIRST_OP):
        levels[index] = 1 + max(levels[source] for source in node.inputs)
    return levels


def _columns(graph: Graph, levels: dict[int, int], shown: list[int]) -> dict[int, float]:
    """Columns by level: nodes in the order of the middle of what they read, then of their users."""
    rows: dict[int, list[int]] = {}
    for index in shown:
        rows.setdefault(levels[index], []).append(index)
    users: dict[int, list[int]] = {}
    for index, node in enumerate(graph.nodes, FIRST_OP):
        for source in node.inputs:
            users.setdefault(source, []).append(index)
    columns: dict[int, float] = {}

    def settle(row: list[int]) -> None:
        for position, index in enumerate(row):
            columns[index] = position - (len(row) - 1) / 2

    for level in sorted(rows):
        if level:
            rows[level].sort(key=lambda i: _middle(columns, graph.node(i).inputs, i))
        settle(rows[level])
    for level in sorted(rows, reverse=True):  # once more from the top, by who uses them
        rows[level].sort(key=lambda i: _middle(columns, users.get(i, ()), i))
        settle(rows[level])
    return columns


def _middle(columns: dict[int, float], others: Any, index: int) -> float:
    known = [columns[one] for one in others if one in columns]
    return sum(known) / len(known) if known else columns.get(index, 0.0)
