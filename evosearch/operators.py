"""The operators that make a child from parents: a table of small edits of the live graph.

The paper's own operator, one op node drawn anew, is a row like the others, and the only one that is
never held to account: all others may be asked to change the live graph, and to keep the output
varying with ``x`` over space. Beyond its structure nothing here looks at what a graph computes; the
checks do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from evosearch.config import Operator as Name
from evosearch.streams import below, pick
from evosearch.variation import Table, mutate, random_node
from primitives.digest import digest
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import TypedPrimitive
from primitives.rewrite import live_form
from primitives.structure import structural_fault

TRIES = 8
"""Edits of one parent that are drawn until one gives a child to look at."""

Edit = Callable[[random.Random, Table, Graph, Graph], Graph | None]
"""From the parent's and a second parent's live graph to an edited one; None: it does not apply."""


Applies = Callable[[Table, Graph, int], bool]
"""Whether an operator can change that live graph where so many more nodes have room."""


_live_form = lru_cache(maxsize=1 << 14)(live_form)
"""Parents are few, and their children, too, come again and again."""


def _always(table: Table, graph: Graph, room: int) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Operator:
    """One way to make a child. ``live``: it edits the live graph, and dead nodes are dropped."""

    edit: Edit
    meaning: str
    live: bool = True
    parents: int = 1
    applies: Applies = _always


def apply_operator(
    rng: random.Random,
    table: Table,
    name: Name,
    parent: Graph,
    other: Graph,
    nodes: int,
    *,
    sure: bool = True,
) -> Graph:
    """The child of ``parent`` (and ``other``), with at most ``nodes`` op nodes.

    ``sure``: an edit that leaves the canonical graph as it was, makes it too large, or cuts the
    output off from ``x`` is drawn anew; otherwise the first one is taken, if it is not too large.

    Returns:
        The parent itself where the operator does not apply, or after `TRIES` such edits; it then
        counts as a repeat.
    """
    row = OPERATORS[name]
    if not row.live:
        child = row.edit(rng, table, parent, other)
        return parent if child is None else child
    mine, others = _live_form(parent), _live_form(other)
    for _ in range(TRIES if sure else 1):
        edited = row.edit(rng, table, mine, others) if mine.nodes else None
        if edited is None or (sure and structural_fault(edited) is not None):
            continue
        child = _live_form(edited)
        if len(child.nodes) <= nodes and not (sure and digest(child) == digest(parent)):
            return child
    return parent


def applicable(
    weights: Mapping[Name, float], table: Table, parent: Graph, nodes: int
) -> Mapping[Name, float]:
    """Of the operators those that can change this parent, with their weights; all, if none can."""
    live = _live_form(parent)
    room = nodes - len(live.nodes)
    found = {
        name: weight for name, weight in weights.items()
        if not OPERATORS[name].live or OPERATORS[name].applies(table, live, room)
    }  # fmt: skip
    return found or weights


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
    fresh = _primitive(rng, table, node.inputs, but=(node.op, node.over))
    return None if fresh is None else _replaced(graph, position, fresh)


def _can_swap(table: Table, graph: Graph, room: int) -> bool:
    return any(_kinds(table, len(one.inputs)) - {(one.op, one.over)} for one in graph.nodes)


def _rewire(rng: random.Random, table: Table, graph: Graph, _: Graph) -> Graph | None:
    reading = [at for at, node in enumerate(graph.nodes) if node.inputs]
    if not reading:
        return None
    position = pick(rng, reading)
    node = graph.nodes[position]
    slot = below(rng, len(node.inputs))
    others = _others(table, position, node.inputs[slot])
    return _replaced(graph, position, _rewired(node, slot, pick(rng, others))) if others else None


def _others(table: Table, position: int, source: int) -> list[int]:
    """What the op node there may read in place of what it reads now."""
    return [one for one in table.sources(FIRST_OP + position) if one != source]


def _can_rewire(table: Table, graph: Graph, room: int) -> bool:
    return any(
        _others(table, position, source)
        for position, node in enumerate(graph.nodes) for source in node.inputs
    )  # fmt: skip


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
    reading = [at for at, node in enumerate(graph.nodes) if node.inputs]
    if not reading or len(graph.nodes) == 1:
        return None
    position = pick(rng, reading)
    source, gone = pick(rng, graph.nodes[position].inputs), FIRST_OP + position
    if gone == graph.output and source < FIRST_OP:
        return None
    rest = [
        each._replace(inputs=tuple(source if i == gone else i for i in each.inputs))
        for each in graph.nodes
    ]
    if gone == graph.output:
        rest = rest[: source - FIRST_OP + 1]
    return Graph(tuple(rest))


def _can_delete(table: Table, graph: Graph, room: int) -> bool:
    return len(graph.nodes) > 1 and any(node.inputs for node in graph.nodes)


def _cross(rng: random.Random, table: Table, graph: Graph, other: Graph) -> Graph:
    """One node is replaced by a sub-graph of the other parent."""
    gone = FIRST_OP + below(rng, len(graph.nodes))
    root = FIRST_OP + below(rng, len(other.nodes))
    part = _live_form(Graph(other.nodes[: root - FIRST_OP + 1])).nodes
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


def _primitive(
    rng: random.Random, table: Table, inputs: tuple[int, ...], but: TypedPrimitive | None = None
) -> Node | None:
    """A random primitive of as many inputs, reading these; None where the table has no other."""
    arity = len(inputs)
    if not _kinds(table, arity) - {but}:
        return None
    while True:
        kind, count = pick(rng, pick(rng, table.rows))
        if count == arity and kind != but:
            return Node(kind[0], inputs, kind[1])


@lru_cache(maxsize=64)
def _kinds(table: Table, arity: int) -> frozenset[TypedPrimitive]:
    """The typed primitives of so many inputs."""
    return frozenset(kind for row in table.rows for kind, count in row if count == arity)


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
    "swap": Operator(
        _swap, "a live node's primitive replaced by another with as many inputs", applies=_can_swap
    ),
    "rewire": Operator(_rewire, "one input of a live node reads another", applies=_can_rewire),
    "insert": Operator(
        _insert, "a new node on an edge", applies=lambda table, graph, room: room >= 1
    ),
    "branch": Operator(
        _branch,
        "a new node of two inputs on an edge, the other input new as well",
        applies=lambda table, graph, room: room >= 2 and bool(_kinds(table, 2)),
    ),
    "delete": Operator(_delete, "a node bypassed", applies=_can_delete),
    "cross": Operator(_cross, "a node replaced by a sub-graph of another parent", parents=2),
}
"""Name -> operator. Weights are settings of the search."""
