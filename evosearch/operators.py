"""The operators that make a child from parents: a table of small edits of the live graph.

The paper's own operator, one op node drawn anew, is a row like the others. Nothing here looks at
what a graph computes; the checks do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from evosearch.config import Operator as Name
from evosearch.streams import below, pick
from evosearch.variation import Table, mutate, random_node
from primitives.graph import FIRST_OP, Graph, Node
from primitives.rewrite import live_form

Edit = Callable[[random.Random, Table, Graph, Graph], Graph | None]
"""From the parent's and a second parent's live graph to an edited one; None: it does not apply."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One way to make a child. ``live``: it edits the live graph, and dead nodes are dropped."""

    edit: Edit
    meaning: str
    live: bool = True
    parents: int = 1


def apply_operator(
    rng: random.Random, table: Table, name: Name, parent: Graph, other: Graph, nodes: int
) -> Graph:
    """The child of ``parent`` (and ``other``), with at most ``nodes`` op nodes.

    Returns:
        The parent itself where the operator does not apply or the child would be too large; it
        then counts as a repeat.
    """
    row = OPERATORS[name]
    if not row.live:
        child = row.edit(rng, table, parent, other)
        return parent if child is None else child
    child = row.edit(rng, table, live_form(parent), live_form(other))
    if child is None:
        return parent
    child = live_form(child)
    return parent if len(child.nodes) > nodes else child


def pick_operator(rng: random.Random, weights: Mapping[Name, float]) -> Name:
    """The name of an operator, drawn in proportion to its weight."""
    left = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        left -= weight
        if left < 0.0:
            return name
    return next(reversed(list(weights)))


def _redraw(rng: random.Random, table: Table, graph: Graph, _: Graph) -> Graph:
    return mutate(rng, table, graph)


def _swap(rng: random.Random, table: Table, graph: Graph, _: Graph) -> Graph | None:
    position = below(rng, len(graph.nodes))
    node = graph.nodes[position]
    fresh = _primitive(rng, table, node.inputs)
    return None if fresh is None else _replaced(graph, position, fresh)


def _rewire(rng: random.Random, table: Table, graph: Graph, _: Graph) -> Graph | None:
    position = below(rng, len(graph.nodes))
    node = graph.nodes[position]
    if not node.inputs:
        return None
    slot = below(rng, len(node.inputs))
    fresh = _rewired(node, slot, below(rng, FIRST_OP + position))
    return _replaced(graph, position, fresh)


def _insert(rng: random.Random, table: Table, graph: Graph, _: Graph) -> Graph:
    """A new node on one edge (or after the output); its further inputs are earlier nodes."""
    edge = _edge(rng, graph)
    fresh = random_node(rng, table, edge.at)
    if fresh.inputs:
        fresh = _rewired(fresh, below(rng, len(fresh.inputs)), edge.source)
    return _spliced(graph, edge, (fresh,))


def _branch(rng: random.Random, table: Table, graph: Graph, _: Graph) -> Graph | None:
    """Two new nodes on one edge: one of two inputs, and a fresh one as its other input."""
    edge = _edge(rng, graph)
    fresh = random_node(rng, table, edge.at)
    joint = _primitive(rng, table, (edge.source, edge.at))
    if joint is None:
        return None
    if rng.random() >= 0.5:
        joint = joint._replace(inputs=(edge.at, edge.source))
    return _spliced(graph, edge, (fresh, joint))


def _delete(rng: random.Random, table: Table, graph: Graph, _: Graph) -> Graph | None:
    """One node is bypassed: who read it reads one of its inputs."""
    position = below(rng, len(graph.nodes))
    node = graph.nodes[position]
    if not node.inputs or len(graph.nodes) == 1:
        return None
    source, gone = pick(rng, node.inputs), FIRST_OP + position
    if gone == graph.output and source < FIRST_OP:
        return None
    rest = [
        each._replace(inputs=tuple(source if i == gone else i for i in each.inputs))
        for each in graph.nodes
    ]
    if gone == graph.output:
        rest = rest[: source - FIRST_OP + 1]
    return Graph(tuple(rest))


def _cross(rng: random.Random, table: Table, graph: Graph, other: Graph) -> Graph:
    """One node is replaced by a sub-graph of the other parent."""
    gone = FIRST_OP + below(rng, len(graph.nodes))
    root = FIRST_OP + below(rng, len(other.nodes))
    part = live_form(Graph(other.nodes[: root - FIRST_OP + 1])).nodes
    shift = len(part)
    moved = [
        node._replace(inputs=tuple(i + shift if i >= FIRST_OP else i for i in node.inputs))
        for node in graph.nodes
    ]
    top = FIRST_OP + shift - 1
    moved = [
        node._replace(inputs=tuple(top if i == gone + shift else i for i in node.inputs))
        for node in moved
    ]
    if gone == graph.output:
        return Graph(part)
    return Graph((*part, *moved))


class _Edge(NamedTuple):
    """Where nodes go in: ``reader``'s input ``slot``, or None for the edge that leaves the graph.

    ``source`` is what is read there, ``at`` the index that the first new node gets.
    """

    reader: int
    slot: int | None
    source: int
    at: int


def _edge(rng: random.Random, graph: Graph) -> _Edge:
    edges = [_Edge(graph.output, None, graph.output, graph.output + 1)]
    for index, node in enumerate(graph.nodes, FIRST_OP):
        edges += [_Edge(index, slot, source, index) for slot, source in enumerate(node.inputs)]
    return pick(rng, edges)


def _primitive(rng: random.Random, table: Table, inputs: tuple[int, ...]) -> Node | None:
    """A random primitive of as many inputs, reading these; None where the table has none."""
    arity = len(inputs)
    if not any(count == arity for row in table for _, count in row):
        return None
    while True:
        (op, over), count = pick(rng, pick(rng, table))
        if count == arity:
            return Node(op, inputs, over)


def _spliced(graph: Graph, edge: _Edge, fresh: tuple[Node, ...]) -> Graph:
    """``fresh`` before index ``edge.at``; its last node is what the edge's reader now reads."""
    shift = len(fresh)
    nodes = []
    for index, node in enumerate(graph.nodes, FIRST_OP):
        node = node._replace(inputs=tuple(i + shift if i >= edge.at else i for i in node.inputs))
        if index == edge.reader and edge.slot is not None:
            node = _rewired(node, edge.slot, edge.at + shift - 1)
        nodes.append(node)
    cut = edge.at - FIRST_OP
    return Graph((*nodes[:cut], *fresh, *nodes[cut:]))


def _rewired(node: Node, slot: int, source: int) -> Node:
    return node._replace(inputs=(*node.inputs[:slot], source, *node.inputs[slot + 1 :]))


def _replaced(graph: Graph, position: int, node: Node) -> Graph:
    return Graph((*graph.nodes[:position], node, *graph.nodes[position + 1 :]))


OPERATORS: dict[Name, Operator] = {
    "paper": Operator(_redraw, "any op node drawn anew, dead ones included", live=False),
    "redraw": Operator(_redraw, "a live node drawn anew, primitive and inputs"),
    "swap": Operator(_swap, "a live node's primitive replaced by one with as many inputs"),
    "rewire": Operator(_rewire, "one input of a live node drawn anew"),
    "insert": Operator(_insert, "a new node on an edge"),
    "branch": Operator(_branch, "a new node of two inputs on an edge, the other input new as well"),
    "delete": Operator(_delete, "a node bypassed"),
    "cross": Operator(_cross, "a node replaced by a sub-graph of another parent", parents=2),
}
"""Name -> operator. Weights are settings of the search."""
