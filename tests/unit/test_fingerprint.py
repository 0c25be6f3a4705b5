"""Equal functions have equal fingerprints whatever their graph; different functions do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from known_graphs import KNOWN, V0, V1, ZERO, Build, X, viable_graphs

from primitives.fingerprint import (
    FINGERPRINT_VERSION,
    fingerprint,
    initial_fingerprint,
    initial_response,
)
from primitives.formula import parse
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import AGGREGATIONS, COMMUTATIVE, INDEX_SETS

GOLDEN = Path(__file__).parents[1] / "golden" / "fingerprints_f1.json"

Recipe = Callable[[Build], object]


def built(recipe: Recipe) -> Graph:
    b = Build()
    recipe(b)
    return b.graph()


def two_sigmoids(b: Build, double: int) -> int:
    """sigmoid(2 x) - sigmoid(-2 x)"""
    return b("add", b("sigmoid", double), b("neg", b("sigmoid", b("neg", double))))


EQUAL: dict[str, tuple[Recipe, Recipe]] = {
    "order of a sum": (lambda b: b("add", X, V0), lambda b: b("add", V0, X)),
    "dead node": (lambda b: b("tanh", X), lambda b: (b("exp", X), b("tanh", X))),
    "dead batch statistic in effect": (
        lambda b: b("tanh", X),
        lambda b: b("add", b("tanh", X), b("mul", ZERO, b("std", X, over="batch"))),
    ),
    "unused parameter in effect": (
        lambda b: b("tanh", X),
        lambda b: b("add", b("tanh", X), b("mul", ZERO, V1)),
    ),
    "unused further vector in effect": (
        lambda b: b("tanh", X),
        lambda b: b("add", b("tanh", X), b("mul", ZERO, b("v3"))),
    ),
    "ways to write a minimum": (
        lambda b: b("min", X, b("two")),
        lambda b: b("subtract", b("add", X, b("two")), b("max", X, b("two"))),
    ),
    "rectify and max": (lambda b: b("rectify", X), lambda b: b("max", X, ZERO)),
    "square": (lambda b: b("mul", X, X), lambda b: b("square", X)),
    "distributed": (
        lambda b: b("mul", X, b("add", V0, V1)),
        lambda b: b("add", b("mul", V0, X), b("mul", X, V1)),
    ),
    "tanh and sigmoid": (
        lambda b: b("tanh", X),
        lambda b: two_sigmoids(b, b("add", X, X)),
    ),
    "abs as maximum": (lambda b: b("abs", X), lambda b: b("max", X, b("neg", X))),
    "double negation": (lambda b: b("exp", X), lambda b: b("exp", b("neg", b("neg", X)))),
    "mean of a batch statistic": (
        lambda b: b("div", X, b("std", X, over="batch")),
        lambda b: b("div", X, b("mean", b("std", X, over="batch"), over="batch")),
    ),
    "zero gradient by rounding": (
        lambda b: b("add", b("exp", ZERO), b("mul", X, ZERO)),
        lambda b: b("div", X, X),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_equal_functions_have_equal_fingerprints(name: str) -> None:
    one, other = (built(recipe) for recipe in EQUAL[name])
    assert one != other
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one, modulo_affine=True) == fingerprint(other, modulo_affine=True)


DIFFERENT: dict[str, tuple[Recipe, Recipe]] = {
    "tanh and a near sigmoid": (lambda b: b("tanh", X), lambda b: b("sigmoid", X)),
    "two further vectors": (
        lambda b: b("mul", X, b("v3")), lambda b: b("mul", X, b("v4")),
    ),
    "v0 and v1": (lambda b: b("mul", X, V0), lambda b: b("mul", X, V1)),
    "evaluation mode only": (
        lambda b: b("div", X, b("std", X, over="batch")),
        lambda b: b("div", X, b("mean", b("std", X, over="batch"), over="sample")),
    ),
    "eps": (lambda b: b("sqrt", b("square", X)), lambda b: b("abs", X)),
    "zero and the root of eps": (lambda b: b("std", V1, over="batch"), lambda b: b("neg", ZERO)),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_functions_have_different_fingerprints(name: str) -> None:
    one, other = (built(recipe) for recipe in DIFFERENT[name])
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one, modulo_affine=True) != fingerprint(other, modulo_affine=True)


@pytest.mark.parametrize("op", AGGREGATIONS)
def test_index_sets_are_told_apart(op: str) -> None:
    prints = {
        fingerprint(Graph((Node(op, (X,), over), Node("add", (X, FIRST_OP)))))
        for over in INDEX_SETS
    }
    assert len(prints) == len(INDEX_SETS)


def test_known_layers_all_differ_except_by_sign_and_scale() -> None:
    assert len({fingerprint(graph) for graph in KNOWN.values()}) == len(KNOWN)
    for graph in islice(KNOWN.values(), 4):
        negated = Graph((*graph.nodes, Node("neg", (graph.output,))))
        doubled = Graph((*graph.nodes, Node("add", (graph.output, graph.output))))
        prints = {fingerprint(g) for g in (graph, negated, doubled)}
        assert len(prints) == 3
        assert len({fingerprint(g, modulo_affine=True) for g in (graph, negated, doubled)}) == 1


def renumbered(graph: Graph, rng: np.random.Generator) -> Graph:
    """The same graph with a dead node in front and commutative inputs in random order."""
    nodes = [Node("tanh", (V0,))]
    for node in graph.nodes:
        inputs = tuple(i + (i >= FIRST_OP) for i in node.inputs)
        if node.op in COMMUTATIVE and rng.random() < 0.5:
            inputs = inputs[::-1]
        nodes.append(Node(node.op, inputs, node.over))
    return Graph(tuple(nodes))


def test_renumbered_graphs_keep_their_fingerprint() -> None:
    rng = np.random.default_rng(4)
    for graph in islice(viable_graphs(seed=8), 300):
        assert fingerprint(renumbered(graph, rng)) == fingerprint(graph), graph.to_json_text()


def test_values_that_are_not_finite_have_fingerprints_too() -> None:
    poles = [built(lambda b: b("div", X, ZERO)), built(lambda b: b("div", V1, ZERO))]
    poles.append(built(lambda b: b("div", ZERO, ZERO)))
    assert len({fingerprint(graph) for graph in poles}) == 3


def test_golden_fingerprints() -> None:
    """They may change only together with the version; then write the file of the new version."""
    golden = json.loads(GOLDEN.read_text())
    assert golden.keys() == KNOWN.keys()
    for name, graph in KNOWN.items():
        now = [fingerprint(graph), fingerprint(graph, modulo_affine=True)]
        assert now == golden[name], name
        assert now[0].startswith(FINGERPRINT_VERSION + ":")


def test_the_initial_fingerprint_forgets_what_v0_and_v1_could_learn() -> None:
    same = ["tanh(x)", "tanh(x * v1)", "tanh(x + v0)", "-tanh(x)", "tanh(max(x, x)) * square(v1)"]
    assert len({initial_fingerprint(parse(text)) for text in same}) == 1
    assert len({fingerprint(parse(text)) for text in same}) == len(same)
    other = ["tanh(x)", "sigmoid(x)", "max(x, v0)", "max(x, v1)", "x / std_batch(x)",
             "x / std_group(x)", "x / (std_batch(x) + v1)"]  # fmt: skip
    assert len({initial_fingerprint(parse(text)) for text in other}) == len(other)


def correlation(one: str, other: str) -> float:
    mine, theirs = initial_response(parse(one)), initial_response(parse(other))
    assert mine is not None
    assert theirs is not None
    return abs(float(mine @ theirs))


def test_the_initial_response_forgets_an_affine_of_each_channel_and_little_else() -> None:
    relu = "max(x, zero) / rms_batch(x)"
    same = ("max(x, v0 * x) / rms_batch(x)", "-max(x, zero)", "max(x, zero) / std_batch(x) + v1",
            "mean_batch(x) - max(x, zero) / rms_batch(x)")  # fmt: skip
    for text in same:
        assert correlation(relu, text) == pytest.approx(1.0, abs=1e-9)
    assert correlation("x / rms_batch(x)", "x / (rms_batch(x) + square(v0) * x)") > 0.999
    for text in ("x / rms_batch(x)", "max(x, zero) / rms_instance(x)", "sigmoid(x) * x"):
        assert correlation(relu, text) < 0.995
    assert initial_response(parse("v1 + zero")) is None
    assert initial_response(parse("mean_batch(x) * v1")) is None
