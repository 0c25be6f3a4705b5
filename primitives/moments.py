"""Which axes the nodes of a graph vary along, and which batch moments need a moving average.

Interpreter, probe and generated code must agree on this, so it is said once, here. This file must
not import torch.
"""

from __future__ import annotations

from functools import lru_cache

from primitives.graph import FIRST_OP, Graph
from primitives.ops import INDEX_SETS, VECTORS

INITIAL_AXES = ("bcs", "", "c", "c")
"""Axes (batch, channel, spatial) along which the initial nodes x, zero, v0, v1 vary."""


def reduced_axes(axes: str, over: str) -> str:
    """What is left of ``axes`` after a moment over the index set (a group leaves the channels)."""
    gone = INDEX_SETS[over]
    return "".join(axis for axis in axes if axis not in gone)


def node_axes(graph: Graph) -> dict[int, str]:
    """Axes along which each live node varies, in the order ``bcs``."""
    axes: dict[int, str] = {}
    for index in graph.live():
        if index < FIRST_OP:
            axes[index] = INITIAL_AXES[index]
            continue
        node = graph.node(index)
        if node.over is not None:
            axes[index] = reduced_axes(axes[node.inputs[0]], node.over)
        else:
            together = "".join(axes[source] for source in node.inputs)
            together += "c" if node.op in VECTORS else ""
            axes[index] = "".join(axis for axis in "bcs" if axis in together)
    return axes


@lru_cache(maxsize=8)  # a probe asks it of the same graph several times
def batch_statistics(graph: Graph) -> tuple[int, ...]:
    """Live batch aggregations that keep a moving average for evaluation mode, ascending.

    They are those whose operand varies over the batch or over positions. A batch moment of
    anything else (a parameter, a batch statistic) is no statistic of the data: it follows from its
    operand in both modes, so that ``mean_batch(std_batch(x))`` is ``std_batch(x)`` in both.
    """
    axes = node_axes(graph)
    return tuple(
        index
        for index in graph.live_ops()
        if graph.node(index).over == "batch" and set(axes[graph.node(index).inputs[0]]) & set("bs")
    )
