"""Graphs with a fixed frame and holes: ``x * f(x) / g(x)``, of which only f and g are searched.

A template is a formula in which unknown functions of one argument are holes. A graph of the
template has the frame's nodes in fixed places and a block of nodes for each hole, whose last node
is the hole's value; a block sees the hole's argument, those of ``zero``, ``v0`` and ``v1`` that
the space does not deny, and itself. Nothing here looks at what a graph computes; the checks do.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Protocol

from evosearch.config import Space
from evosearch.errors import ConfigError, FormulaError
from evosearch.streams import below, pick
from evosearch.variation import Table, draw_table, mutate, random_graph
from primitives.formula import parse
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import INITIAL_NODES, OPS, primitive, typed_name
from primitives.rewrite import live_form

MAX_HOLES = 8
MAX_NODES = 64
_SHORTHANDS = frozenset({"sub", "relu", "silu"})
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(", re.ASCII)
# A chain of operations that no person writes stands for a hole while the text is parsed.
_HEAD, _BITS, _FOOT = ("sqrt", "sqrt", "sqrt", "log"), ("abs", "neg"), ("log",)


class Drawer(Protocol):
    """What draws new graphs for a search."""

    def random(self, rng: Random) -> Graph:
        """A graph from nothing."""

    def mutate(self, rng: Random, graph: Graph) -> Graph:
        """The graph with one node drawn anew."""

    def drawing(self, table: Table) -> Drawer:
        """The same space with primitives drawn from another table."""


def drawer(space: Space) -> Drawer:
    """Of free graphs, or of those of the space's template.

    Raises:
        ConfigError: the template is none, or cannot be read.
    """
    table = draw_table(space)
    return (
        TemplateSpace(space.template, table, space.nodes)
        if space.template
        else Free(table, space.nodes)
    )


@dataclass(frozen=True, slots=True)
class Free:
    """All graphs of so many nodes."""

    table: Table
    nodes: int

    def random(self, rng: Random) -> Graph:
        """A graph grown node by node."""
        return random_graph(rng, self.table, self.nodes)

    def mutate(self, rng: Random, graph: Graph) -> Graph:
        """One random op node drawn anew."""
        return mutate(rng, self.table, graph)

    def drawing(self, table: Table) -> Drawer:
        """The same space with primitives drawn from another table."""
        return Free(table, self.nodes)


@dataclass(frozen=True, slots=True)
class _Hole:
    """A block of the layout: its first position among the op nodes, and what it may read."""

    start: int
    argument: int


class TemplateSpace:
    """The graphs of one template; ``nodes`` op nodes are shared out among its holes.

    Example:
        >>> space = TemplateSpace("x / g(x)", draw_table(Space()), 4)
        >>> [node.op for node in space.random(Random(0)).nodes][-1]
        'div'
    """

    def __init__(self, text: str, table: Table, nodes: int) -> None:
        self.table = table
        frame, names = _frame(text)
        self.block = max(1, nodes // len(names))
        self.layout: list[Node | None] = []
        self.holes: list[_Hole] = []
        place = {index: index for index in range(FIRST_OP)}
        inner = _inner_nodes(frame)
        for index, node in enumerate(frame.nodes, FIRST_OP):
            argument = _argument(frame, index)
            if argument is not None:
                self.holes.append(_Hole(len(self.layout), place[argument]))
                self.layout += [None] * self.block
            elif index in inner:
                continue
            else:
                inputs = tuple(place[source] for source in node.inputs)
                self.layout.append(Node(node.op, inputs, node.over))
            place[index] = FIRST_OP + len(self.layout) - 1
        if len(self.layout) > MAX_NODES:
            raise ConfigError(
                "the template has too many nodes", where="space.template",
                expected=f"at most {MAX_NODES}", got=str(len(self.layout)),
                hint="fewer space.nodes, or a shorter frame",
            )  # fmt: skip

    def random(self, rng: Random) -> Graph:
        """The frame with every hole drawn anew."""
        nodes = list(self.layout)
        for hole in self.holes:
            for step in range(self.block):
                nodes[hole.start + step] = self._node(rng, hole, step)
        return Graph(tuple(node for node in nodes if node is not None))

    def mutate(self, rng: Random, graph: Graph) -> Graph:
        """One node of one hole drawn anew; a graph of no such frame becomes one from nothing."""
        if not self.fits(graph):
            return self.random(rng)
        hole, step = pick(rng, self.holes), below(rng, self.block)
        nodes = list(graph.nodes)
        nodes[hole.start + step] = self._node(rng, hole, step)
        return Graph(tuple(nodes))

    def drawing(self, table: Table) -> Drawer:
        """The same template with primitives drawn from another table."""
        other = copy(self)
        other.table = table
        return other

    def fits(self, graph: Graph) -> bool:
        """Whether the graph has the frame where it belongs."""
        if len(graph.nodes) != len(self.layout):
            return False
        pairs = zip(self.layout, graph.nodes, strict=True)
        return all(mine is None or mine == node for mine, node in pairs)

    def frame_names(self) -> set[str]:
        """Primitives and initial nodes that the frame itself has, whatever may fill its holes."""
        own = [node for node in self.layout if node is not None]
        read = {at for node in own for at in node.inputs} | {hole.argument for hole in self.holes}
        return {typed_name(node.op, node.over) for node in own} | {
            INITIAL_NODES[at] for at in read if at < FIRST_OP
        }

    def room(self) -> int:
        """Op nodes that the holes of this frame may have together."""
        return MAX_NODES - sum(node is not None for node in self.layout)

    def fullest(self, graph: Graph) -> int:
        """Live nodes of the hole that has most, in a graph with the frame where it belongs."""
        live = [index - FIRST_OP for index in graph.live_ops()]
        return max(
            sum(hole.start <= at < hole.start + self.block for at in live) for hole in self.holes
        )

    def _node(self, rng: Random, hole: _Hole, step: int) -> Node:
        (op, over), arity = pick(rng, pick(rng, self.table.rows))
        first = FIRST_OP + hole.start
        # The argument twice, so that a hole reads it as often as a free graph reads x and itself.
        sources = (hole.argument, hole.argument, *self.table.initial[1:],
                   *range(first, first + step))  # fmt: skip
        return Node(op, tuple(pick(rng, sources) for _ in range(arity)), over)


def has_form(text: str, graph: Graph) -> bool:
    """Whether the graph's live part is the template with something in each hole.

    Judged by structure, with the inputs of commutative primitives in either order.
    """
    frame, live = _frame(text)[0], live_form(graph)
    reads = [{index} for index in range(FIRST_OP)]
    for node in live.nodes:
        reads.append(set().union(*(reads[source] for source in node.inputs)))

    def fits(mine: int, theirs: int, known: dict[int, int]) -> dict[int, int] | None:
        """Frame node -> live node, with that pair in it; None where it cannot be."""
        if mine in known or mine < FIRST_OP:
            return known if known.get(mine, mine) == theirs else None
        if theirs < FIRST_OP:
            return None
        known = {**known, mine: theirs}
        argument = _argument(frame, mine)
        if argument is not None:
            return _filled(argument, theirs, known)
        ours, other = frame.node(mine), live.node(theirs)
        if (ours.op, ours.over) != (other.op, other.over):
            return None
        commutes = "commutative" in primitive(ours.op).properties
        for inputs in (other.inputs, other.inputs[::-1]) if commutes else (other.inputs,):
            found: dict[int, int] | None = known
            for ours_in, other_in in zip(ours.inputs, inputs, strict=True):
                found = None if found is None else fits(ours_in, other_in, found)
            if found is not None:
                return found
        return None

    def _filled(argument: int, theirs: int, known: dict[int, int]) -> dict[int, int] | None:
        """A hole of that argument: what it reads of ``x`` goes through the argument."""
        if argument < FIRST_OP:
            return known if reads[theirs] <= {argument, 1, 2, 3} else None
        for inner in range(theirs - 1, FIRST_OP - 1, -1):
            found = fits(argument, inner, known)
            if found is not None and _leaves(live, theirs, inner) <= {1, 2, 3}:
                return found
        return None

    return bool(live.nodes) and fits(frame.output, live.output, {}) is not None


def _leaves(graph: Graph, root: int, cut: int) -> set[int]:
    """The initial nodes that ``root`` reads other than through ``cut``."""
    found, waiting = set[int](), {root}
    while waiting:
        index = waiting.pop()
        if index < FIRST_OP:
            found.add(index)
        elif index != cut:
            waiting.update(graph.node(index).inputs)
    return found


@lru_cache(maxsize=16)
def _frame(text: str) -> tuple[Graph, tuple[str, ...]]:
    """The template's graph with a chain in the place of each hole, and the holes' names."""
    known = {typed_name(op, over) for op, row in OPS.items() for over in row.index_sets or (None,)}
    names = [name for name in _CALL.findall(text) if name not in known | _SHORTHANDS]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"the hole {twice} stands twice in the template", where="space.template",
            expected="each hole once", hint=f"name its value: a = {twice}(x); a * a",
        )  # fmt: skip
    if not 1 <= len(names) <= MAX_HOLES:
        raise ConfigError(
            "a template has holes", where="space.template", got=repr(text)[:80],
            expected=f"1 to {MAX_HOLES} unknown functions, such as x * f(x) / g(x)",
        )  # fmt: skip
    for number, name in enumerate(names):
        chain = "(".join(_chain(number))
        start = re.search(rf"\b{name}\s*\(", text, re.ASCII)
        assert start is not None
        end = _matching(text, start.end(), name)
        inside = text[start.end() : end]
        text = (
            f"{text[: start.start()]}{chain}({inside}{')' * len(_chain(number))}{text[end + 1 :]}"
        )
    try:
        return parse(text), tuple(names)
    except FormulaError as err:  # its position is one in the text with chains
        raise ConfigError(
            err.what, expected=err.expected, got=err.got, where="space.template", hint=err.hint
        ) from err


def _chain(number: int) -> tuple[str, ...]:
    return (*_HEAD, *(_BITS[number >> bit & 1] for bit in range(3)), *_FOOT)


_CHAINS = {_chain(number) for number in range(MAX_HOLES)}
_LENGTH = len(_chain(0))


def _matching(text: str, start: int, name: str) -> int:
    depth = 1
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if not depth:
            return at
        if depth == 1 and text[at] == ",":
            break
    raise ConfigError(
        f"the hole {name} takes one argument in brackets", where="space.template",
        expected=f"{name}(x)",
    )  # fmt: skip


def _argument(frame: Graph, index: int) -> int | None:
    """What the chain that ends at the node reads; None where none ends there."""
    found: list[str] = []
    while index >= FIRST_OP and len(found) < _LENGTH and len(frame.node(index).inputs) == 1:
        found.append(frame.node(index).op)
        index = frame.node(index).inputs[0]
    return index if tuple(found) in _CHAINS else None


def _inner_nodes(frame: Graph) -> frozenset[int]:
    """Nodes that stand inside a chain."""
    inner: set[int] = set()
    for index in range(FIRST_OP, FIRST_OP + len(frame.nodes)):
        end = _argument(frame, index)
        if end is not None:
            below_it = frame.node(index).inputs[0]
            while below_it != end:
                inner.add(below_it)
                below_it = frame.node(below_it).inputs[0]
    return frozenset(inner)
