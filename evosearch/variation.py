"""New graphs from nothing and from a parent, as the paper has them.

Nothing here looks at what a graph computes; the checks do.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from evosearch.config import Space
from evosearch.errors import ConfigError
from evosearch.streams import below, pick
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import INITIAL_NODES, OP_SETS, TypedPrimitive, primitive, typed_name

Rows = tuple[tuple[tuple[TypedPrimitive, int], ...], ...]
"""Equally likely groups of equally likely (typed primitive, arity)."""


class Table(NamedTuple):
    """What nodes are drawn from: primitives, and initial nodes beside the op nodes before them."""

    rows: Rows
    initial: tuple[int, ...] = tuple(range(FIRST_OP))

    def sources(self, index: int) -> tuple[int, ...]:
        """What the node with that index may read."""
        return (*self.initial, *range(FIRST_OP, index))


def draw_table(space: Space) -> Table:
    """The table that primitives are drawn from: by row and then index set, or all alike.

    Raises:
        ConfigError: ``space.allow`` or ``space.deny`` names what the op set does not have, the
            input is denied, or no primitive is left.
    """
    own = tuple((name, None) for name in space.primitives)
    typed = tuple((kind, primitive(kind[0]).arity) for kind in (*_allowed(space), *own))
    initial = tuple(at for at, name in enumerate(INITIAL_NODES) if name not in space.deny)
    if space.draw == "typed":
        return Table(tuple((entry,) for entry in typed), initial)
    # Constants and vectors are one row together: each alone would make a quarter of all nodes.
    names = dict.fromkeys(_row(entry) for entry in typed)
    rows = (tuple(entry for entry in typed if _row(entry) == name) for name in names)
    return Table(tuple(rows), initial)


def _allowed(space: Space) -> tuple[TypedPrimitive, ...]:
    """The typed primitives of the op set that the space allows, in the order of the op set."""
    kinds = {typed_name(op, over): (op, over) for op, over in OP_SETS[space.op_set]}
    if INITIAL_NODES[0] in space.deny:
        raise ConfigError("a layer needs its input", where="space.deny", got=INITIAL_NODES[0])
    denied = [name for name in space.deny if name not in INITIAL_NODES]
    for where, names in (("space.allow", space.allow), ("space.deny", denied)):
        unknown = [name for name in names if name not in kinds]
        if unknown:
            raise ConfigError(
                f"the op set {space.op_set} has no such primitive", where=where,
                got=repr(unknown[0])[:60], expected="some of " + ", ".join(kinds),
            )  # fmt: skip
    left = [name for name in space.allow or kinds if name not in space.deny]
    if not left:
        raise ConfigError("no primitive is left", where="space.deny", hint="deny fewer")
    return tuple(kind for name, kind in kinds.items() if name in left)


def _row(entry: tuple[TypedPrimitive, int]) -> str:
    (op, _), arity = entry
    return op if arity else "constants and vectors"


def weighted(table: Table, weights: Mapping[str, float]) -> Table:
    """The table in which entries are drawn in proportion to their weights, 1 where none is given.

    ``weights``: typed name -> 0 to 1. Rows stand in it several times, so that they go on being
    drawn uniformly; a weight counts to a 20th, and nothing is left out.
    """
    found: list[tuple[tuple[TypedPrimitive, int], ...]] = []
    for row in table.rows:
        shares = [weights.get(typed_name(*kind), 1.0) for kind, _ in row]
        entries = tuple(
            entry
            for entry, share in zip(row, shares, strict=True)
            for _ in range(_twentieths(share) if len(row) > 1 else 1)
        )
        found += [entries] * _twentieths(sum(shares) / len(shares))
    return table._replace(rows=tuple(found))


def _twentieths(share: float) -> int:
    return max(1, round(20 * share))


def random_graph(rng: random.Random, table: Table, nodes: int) -> Graph:
    """A graph grown node by node: each a random primitive over random earlier nodes.

    Source: Liu et al. 2020, section 3.1.
    """
    return Graph(tuple(random_node(rng, table, FIRST_OP + step) for step in range(nodes)))


def mutate(rng: random.Random, table: Table, graph: Graph) -> Graph:
    """The graph with one random op node drawn anew, primitive and inputs.

    Source: Liu et al. 2020, section 3.3.
    """
    position = below(rng, len(graph.nodes))
    node = random_node(rng, table, FIRST_OP + position)
    return Graph((*graph.nodes[:position], node, *graph.nodes[position + 1 :]))


def random_node(rng: random.Random, table: Table, index: int) -> Node:
    """A random primitive over random nodes before ``index``."""
    (op, over), arity = pick(rng, pick(rng, table.rows))
    sources = table.sources(index)
    return Node(op, tuple(pick(rng, sources) for _ in range(arity)), over)
