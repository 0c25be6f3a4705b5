"""Graphs that many tests share, built by hand from nodes; it must not use the formula parser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import OP_SETS, OPS
from primitives.probe import probe_fault

X, ZERO, V0, V1 = range(4)


class Build:
    """Adds nodes one by one; every call returns the new node's index."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def __call__(self, op: str, *inputs: int, over: str | None = None) -> int:
        self.nodes.append(Node(op, inputs, over))
        return FIRST_OP + len(self.nodes) - 1

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes))


def normalised(mean_over: str, std_over: str, activation: str) -> Graph:
    """Classic normalisation with its affine v1, v0 before the activation."""
    b = Build()
    centred = b("add", X, b("neg", b("mean", X, over=mean_over)))
    unit = b("div", centred, b("std", X, over=std_over))
    inner = b("add", b("mul", V1, unit), V0)
    if activation == "relu":
        b("max", inner, ZERO)
    else:
        b("mul", inner, b("sigmoid", inner))
    return b.graph()


def evonorm_b0() -> Graph:
    b = Build()
    instance = b("add", b("mul", V1, X), b("std", X, over="instance"))
    b("div", X, b("max", b("std", X, over="batch"), instance))
    return b.graph()


def evonorm_b1() -> Graph:
    b = Build()
    shifted = b("add", X, b("exp", ZERO))
    instance = b("mul", shifted, b("rms", X, over="instance"))
    b("div", X, b("max", b("std", X, over="batch"), instance))
    return b.graph()


def evonorm_b2() -> Graph:
    b = Build()
    instance = b("add", b("rms", X, over="instance"), b("neg", X))
    b("div", X, b("max", b("std", X, over="batch"), instance))
    return b.graph()


def evonorm_s(op: str, trainable: bool) -> Graph:
    b = Build()
    gate = b("sigmoid", b("mul", V1, X) if trainable else X)
    b("div", b("mul", X, gate), b(op, X, over="group"))
    return b.graph()


def relu_over_rms() -> Graph:
    b = Build()
    relu = b("max", X, ZERO)
    b("div", relu, b("rms", relu, over="batch"))
    return b.graph()


KNOWN: dict[str, Graph] = {
    "BN-ReLU": normalised("batch", "batch", "relu"),
    "BN-SiLU": normalised("batch", "batch", "silu"),
    "GN-ReLU": normalised("group", "group", "relu"),
    "GN-SiLU": normalised("group", "group", "silu"),
    "LN-ReLU": normalised("sample", "sample", "relu"),
    "ReLU/rms_batch": relu_over_rms(),
    "EvoNorm-B0": evonorm_b0(),
    "EvoNorm-B1": evonorm_b1(),
    "EvoNorm-B2": evonorm_b2(),
    "EvoNorm-S0": evonorm_s("std", trainable=True),
    "EvoNorm-S1": evonorm_s("std", trainable=False),
    "EvoNorm-S2": evonorm_s("rms", trainable=False),
}


def random_graph(rng: np.random.Generator, nodes: int = 10, op_set: str = "paper+token") -> Graph:
    """A random graph as the paper grows them, uniform over the op set's typed primitives."""
    choices = OP_SETS[op_set]
    made = []
    for index in range(FIRST_OP, FIRST_OP + nodes):
        op, over = choices[rng.integers(len(choices))]
        made.append(Node(op, tuple(rng.integers(index, size=OPS[op].arity).tolist()), over))
    return Graph(tuple(made))


def viable_graphs(seed: int, nodes: int = 10, op_set: str = "paper+token") -> Iterator[Graph]:
    """Endless random graphs with at least two live operations that the probe finds no fault in."""
    rng = np.random.default_rng(seed)
    while True:
        graph = random_graph(rng, nodes, op_set)
        if len(graph.live_ops()) > 1 and 0 in graph.live() and probe_fault(graph) is None:
            yield graph
