"""Seeded random graphs and a tiny numpy meaning for tests; nothing of the product imports it.

The evaluation here is written apart from the interpreter so that either can catch the other.
"""

from __future__ import annotations

import numpy as np

from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import EPS, INDEX_SETS, OP_SETS, OPS, VECTORS, Array


def random_graph(
    rng: np.random.Generator, nodes: int = 10, by: str = "typed", op_set: str = "paper"
) -> Graph:
    """A graph grown node by node: uniform over the typed primitives, or over the rows."""
    typed = OP_SETS[op_set]
    grown = []
    for index in range(FIRST_OP, FIRST_OP + nodes):
        if by == "typed":
            op, over = typed[int(rng.integers(len(typed)))]
        else:
            rows = tuple(dict.fromkeys(name for name, _ in typed))
            op = rows[int(rng.integers(len(rows)))]
            choices = [which for name, which in typed if name == op]
            over = choices[int(rng.integers(len(choices)))]
        inputs = tuple(int(source) for source in rng.integers(index, size=OPS[op].arity))
        grown.append(Node(op, inputs, over))
    return Graph(tuple(grown))


def random_graphs(count: int, seed: int, nodes: int = 10, op_set: str = "paper") -> list[Graph]:
    """Random graphs, by typed primitives and by rows in turn."""
    rng = np.random.default_rng(seed)
    return [random_graph(rng, nodes, "typed" if i % 2 else "rows", op_set) for i in range(count)]


def leaves(seed: int = 0, shape: tuple[int, int, int, int] = (3, 4, 2, 5)) -> dict[str, Array]:
    """Leaves' values: x (N, C, H, W) and per-channel vectors away from 0 and 1."""
    rng = np.random.default_rng(seed)
    channels = (1, shape[1], 1, 1)
    values = {
        "x": rng.normal(size=shape),
        "zero": np.zeros((1, 1, 1, 1)),
        "v0": rng.normal(size=channels),
        "v1": rng.normal(size=channels) + 1.0,
    }
    return values | {name: rng.normal(size=channels) + 0.5 for name in VECTORS}


def evaluate(graph: Graph, values: dict[str, Array], groups: int = 2) -> Array:
    """Value of a graph in training mode, shape (N, C, H, W); may hold inf or NaN."""
    return evaluate_all(graph, values, groups)[-1]


def evaluate_all(graph: Graph, values: dict[str, Array], groups: int = 2) -> list[Array]:
    """Values of all nodes, initial and dead ones included."""
    shape = values["x"].shape
    known = [np.broadcast_to(values[name], shape) for name in ("x", "zero", "v0", "v1")]
    with np.errstate(all="ignore"):
        for op, inputs, over in graph.nodes:
            row = OPS[op]
            got = [known[source] for source in inputs]
            if row.arity == 0:
                leaf = values[op] if row.constant is None else row.constant
                known.append(np.broadcast_to(leaf, shape))
            elif over is not None:
                known.append(_moment(op, got[0], over, groups))
            else:
                assert row.forward is not None
                known.append(row.forward(*got, eps=EPS))
    return known


def _moment(op: str, a: Array, over: str, groups: int) -> Array:
    n, c, h, w = a.shape
    split = a.reshape(n, groups, c // groups, h, w)
    numbers = {"b": (0,), "c": (1, 2), "g": (2,), "s": (3, 4)}
    axes = tuple(number for axis in INDEX_SETS[over] for number in numbers[axis])
    mean = split.mean(axes, keepdims=True)
    if op == "rms":
        mean = np.sqrt((split * split).mean(axes, keepdims=True) + EPS)
    elif op == "std":
        mean = np.sqrt(((split - mean) ** 2).mean(axes, keepdims=True) + EPS)
    return np.broadcast_to(mean, split.shape).reshape(a.shape)
