"""A graph as a networkx graph and as DOT text, for pictures and for the tests' oracle only.

Nothing that decides may depend on this file. It must not import torch.
"""

from __future__ import annotations

from typing import Any

from primitives.graph import FIRST_OP, Graph
from primitives.ops import INITIAL_NODES, typed_name

_LIVE = 'color="#1f2937", fontcolor="#111827"'
_DEAD = 'color="#9ca3af", fontcolor="#9ca3af", style=dashed'


def to_networkx(graph: Graph) -> Any:
    """Directed multigraph from inputs to users; a node used twice by one user has two edges.

    Nodes are indices with the attributes ``label`` (typed primitive or initial node's name),
    ``kind`` (``initial``, ``op`` or ``output``) and ``live``; edges have ``place``, 0 for the
    left input. Initial nodes that no node uses are left out.

    Example:
        >>> from primitives.graph import Node
        >>> drawn = to_networkx(Graph((Node("mul", (0, 0)),)))
        >>> drawn.nodes[4]["label"], drawn.number_of_edges(0, 4)
        ('mul', 2)
    """
    import networkx  # here, so that whoever prints no picture need not wait for it

    drawn = networkx.MultiDiGraph()
    live = set(graph.live())
    used = {source for node in graph.nodes for source in node.inputs}
    for index, name in enumerate(INITIAL_NODES):
        if index in used:
            drawn.add_node(index, label=name, kind="initial", live=index in live)
    for index, node in enumerate(graph.nodes, FIRST_OP):
        kind = "output" if index == graph.output else "op"
        drawn.add_node(index, label=typed_name(node.op, node.over), kind=kind, live=index in live)
        for place, source in enumerate(node.inputs):
            drawn.add_edge(source, index, place=place)
    return drawn


def to_dot(graph: Graph, title: str | None = None) -> str:
    """DOT text of the graph, inputs at the bottom, dead nodes grey and dashed.

    Args:
        graph: what to draw.
        title: a caption of any text; quotes, backslashes and control characters are escaped.

    Example:
        >>> from primitives.graph import Node
        >>> print(to_dot(Graph((Node("tanh", (0,)),)), title="tanh(x)").splitlines()[1])
          label="tanh(x)";
    """
    drawn = to_networkx(graph)
    lines = ["digraph layer {"]
    if title is not None:
        lines.append(f"  label={_quoted(title)};")
    lines.append("  rankdir=BT;")
    for index, data in drawn.nodes(data=True):
        shape = {"initial": "box", "op": "ellipse", "output": "doubleoctagon"}[data["kind"]]
        look = _LIVE if data["live"] else _DEAD
        lines.append(f"  n{index} [label={_quoted(data['label'])}, shape={shape}, {look}];")
    for source, target, data in drawn.edges(data=True):
        ends = drawn.nodes[target]["live"]
        # Which input is the left one matters where a node has two.
        side = ("L", "R")[data["place"]] if drawn.in_degree(target) == 2 else ""
        label = f'label="{side}", ' if side else ""
        lines.append(f"  n{source} -> n{target} [{label}{_LIVE if ends else _DEAD}];")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    """A DOT string that shows the text as it is, whatever it holds."""
    kept = "".join(sign if sign.isprintable() else " " for sign in text)
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'
