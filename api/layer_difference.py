"""What changed from one layer to another: in the formula's text, and node by node."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from primitives.graph import FIRST_OP, Graph
from primitives.ops import INITIAL_NODES, typed_name

_TOKEN = re.compile(r"\w+|\s+|.", re.DOTALL)
MAX_TOKENS = 600
Part = tuple[str, bool]


def text_difference(before: str, after: str) -> tuple[list[Part], list[Part]]:
    """Both texts in parts; True marks what the other one lacks.

    Texts of more than 600 tokens are marked whole where they differ: comparing is quadratic.

    Example:
        >>> text_difference("tanh(x)", "abs(x)")[1]
        [('abs', True), ('(x)', False)]
    """
    ours, theirs = _TOKEN.findall(before), _TOKEN.findall(after)
    if max(len(ours), len(theirs)) > MAX_TOKENS:
        return [(before, before != after)], [(after, before != after)]
    left: list[Part] = []
    right: list[Part] = []
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        same = kind == "equal"
        if b > a:
            left.append(("".join(ours[a:b]), not same))
        if d > c:
            right.append(("".join(theirs[c:d]), not same))
    return left, right


def node_changes(before: Graph, after: Graph) -> list[tuple[int, str | None, str | None]]:
    """(node, before, after) of nodes that differ; None where one graph has no such node."""
    changes = []
    for place in range(max(len(before.nodes), len(after.nodes))):
        index = place + FIRST_OP
        one = _text(before, index) if place < len(before.nodes) else None
        other = _text(after, index) if place < len(after.nodes) else None
        if one != other:
            changes.append((index, one, other))
    return changes


def _text(graph: Graph, index: int) -> str:
    node = graph.node(index)
    names = [INITIAL_NODES[one] if one < FIRST_OP else f"node {one}" for one in node.inputs]
    return f"{typed_name(node.op, node.over)}({', '.join(names)})"
