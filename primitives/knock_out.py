"""What is left of a graph when one node is taken out: each live node replaced by one of its inputs.

For asking which parts of a found layer earn their place. This file trains nothing and judges
nothing; it must not import torch.
"""

from __future__ import annotations

from typing import NamedTuple

from primitives.digest import digest
from primitives.errors import EvosearchError
from primitives.graph import FIRST_OP, Graph, Node
from primitives.printer import format_formula
from primitives.probe import probe_fault
from primitives.rewrite import canonical, live_form
from primitives.structure import structural_fault

_ZERO = 1


class KnockOut(NamedTuple):
    """A graph without one node: the node and what stands for it as formulas.

    ``fault``: why the rest is no layer (it ignores x, or is not finite), else None.
    """

    node: str
    by: str
    graph: Graph
    fault: str | None


def knock_outs(graph: Graph) -> list[KnockOut]:
    """Every way to replace a live node by one of its inputs; each function once, none the graph's.

    Of a node with two inputs, keeping one removes the branch of the other.

    Example:
        >>> from primitives.formula import parse
        >>> [(one.node, one.by) for one in knock_outs(parse("tanh(x) * v1"))]
        [('tanh(x)', 'x'), ('tanh(x) * v1', 'tanh(x)'), ('tanh(x) * v1', 'v1')]
    """
    live = live_form(graph)
    seen, found = {digest(live)}, []
    for place, node in enumerate(live.nodes):
        for source in dict.fromkeys(node.inputs):
            nodes = list(live.nodes)
            nodes[place] = Node("add", (source, _ZERO))  # exact rewriting takes it away
            rest = _tidy(Graph(tuple(nodes)))
            identity = digest(rest)
            if identity in seen:
                continue
            seen.add(identity)
            fault = structural_fault(rest) or probe_fault(rest)
            found.append(KnockOut(_text(live, FIRST_OP + place), _text(live, source), rest, fault))
    return found


def _tidy(graph: Graph) -> Graph:
    try:
        return canonical(graph)
    except EvosearchError:  # the form would be too long
        return live_form(graph)


def _text(graph: Graph, index: int) -> str:
    """The part of the graph below a node, as a formula."""
    if index < FIRST_OP:
        return ("x", "zero", "v0", "v1")[index]
    try:
        return format_formula(live_form(Graph(graph.nodes[: index - FIRST_OP + 1])))
    except EvosearchError:
        return f"node {index}"
