"""New graphs from nothing and from a parent, as the paper has them.

Nothing here looks at what a graph computes; the checks do.
"""

from __future__ import annotations

import random

from evosearch.config import Space
from evosearch.streams import below, pick
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import OP_SETS, OPS, TypedPrimitive

Table = tuple[tuple[tuple[TypedPrimitive, int], ...], ...]
"""Equally likely groups of equally likely (typed primitive, arity)."""


def draw_table(space: Space) -> Table:
    """The table that primitives are drawn from: by row and then index set, or all alike."""
    typed = tuple((kind, OPS[kind[0]].arity) for kind in OP_SETS[space.op_set])
    if space.draw == "typed":
        return tuple((entry,) for entry in typed)
    names = dict.fromkeys(kind[0] for kind, _ in typed)
    return tuple(tuple(entry for entry in typed if entry[0][0] == name) for name in names)


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
    (op, over), arity = pick(rng, pick(rng, table))
    return Node(op, tuple(int(rng.random() * index) for _ in range(arity)), over)
