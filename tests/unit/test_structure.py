"""Structural facts against hand-made graphs and against what numbers show."""

from __future__ import annotations

import numpy as np
import pytest

from primitives.graph import Graph, Node
from primitives.structure import analyse, structural_fault
from tests.random_graphs import evaluate, leaves, random_graphs

X, ZERO, V0, V1 = range(4)


def over(name: str, op: str = "std") -> Graph:
    return Graph((Node(op, (X,), name), Node("div", (X, 4))))


@pytest.mark.parametrize(
    ("name", "mixes", "varies_alone"),
    [
        ("batch", "bs", "c"),
        ("sample", "cs", "b"),
        ("instance", "s", "bc"),
        ("group", "cs", "bc"),
        ("token", "c", "bs"),
    ],
)
def test_each_index_set_mixes_and_removes_its_axes(
    name: str, mixes: str, varies_alone: str
) -> None:
    facts = analyse(over(name))
    assert facts.mixes == set(mixes)
    assert facts.varies == set("bcs")
    assert analyse(Graph((Node("rms", (X,), name),))).varies == set(varies_alone)
    assert facts.batch_independent is (name != "batch")
    assert facts.causal_safe is (name == "token")
    assert facts.pointwise is False


def test_constants_and_further_vectors_have_their_axes() -> None:
    scaled = Graph((Node("v2", ()), Node("two", ()), Node("mul", (4, 5)), Node("mul", (0, 6))))
    assert analyse(Graph(scaled.nodes[:3])).varies == set("c")
    assert analyse(Graph(scaled.nodes[:2])).varies == frozenset()
    assert analyse(scaled).pointwise
    assert structural_fault(scaled) is None
    assert structural_fault(Graph(scaled.nodes[:3])) == "ignores_input"


def test_dead_nodes_and_moments_of_parameters_mix_nothing() -> None:
    dead = Graph((Node("std", (X,), "batch"), Node("tanh", (X,))))
    assert analyse(dead).pointwise
    assert analyse(dead).batch_independent
    assert analyse(dead).live_ops == (5,)
    of_v1 = analyse(Graph((Node("rms", (V1,), "sample"), Node("div", (X, 4)))))
    assert of_v1.mixes == frozenset()
    assert of_v1.live_nodes == 2
    batch_of_v1 = analyse(Graph((Node("rms", (V1,), "batch"), Node("div", (X, 4)))))
    assert not batch_of_v1.batch_independent
    assert batch_of_v1.causal_safe


def test_learnable_numbers_are_those_of_live_vectors_and_of_the_affine() -> None:
    bare = Graph((Node("mul", (V0, V1)), Node("v2", ()), Node("tanh", (X,))))
    assert analyse(bare).parameters_per_channel == 2
    one = Graph((Node("v2", ()), Node("mul", (X, 4)), Node("v2", ()), Node("mul", (5, 6))))
    assert analyse(one).parameters_per_channel == 3
    both = Graph((Node("mul", (V0, V1)), Node("mul", (X, 4))))
    assert analyse(both).parameters_per_channel == 4


def test_fault_names() -> None:
    assert structural_fault(Graph((Node("add", (V0, V1)),))) == "ignores_input"
    assert structural_fault(Graph((Node("std", (X,), "instance"),))) == "no_spatial"
    assert structural_fault(Graph((Node("mean", (X,), "token"),))) is None
    assert structural_fault(over("batch")) is None
    # Dead dependence on x does not help.
    assert structural_fault(Graph((Node("exp", (X,)), Node("exp", (V0,))))) == "ignores_input"


def test_fault_agrees_with_analyse_and_live_with_the_graph() -> None:
    seen = set()
    for graph in random_graphs(2000, seed=1):
        facts, fault = analyse(graph), structural_fault(graph)
        seen.add(fault)
        assert facts.live_ops == graph.live_ops()
        assert facts.depends_on_x is (fault != "ignores_input")
        assert facts.depends_on_x is (X in graph.live())
        assert facts.keeps_spatial is (fault is None)
    assert seen == {None, "ignores_input", "no_spatial"}


def test_axes_hold_in_numbers() -> None:
    """An axis the output is said not to vary over shows no variation in the values."""
    values, checked = leaves(), 0
    for graph in random_graphs(600, seed=2):
        out, varies = evaluate(graph, values), analyse(graph).varies
        if not np.isfinite(out).all():
            continue
        for axis, number in (("b", (0,)), ("c", (1,)), ("s", (2, 3))):
            if axis not in varies:
                checked += 1
                spread = np.ptp(out, axis=number)
                assert spread.max() <= 1e-9 * max(1.0, np.abs(out).max())
    assert checked > 300


def test_unmixed_axes_do_not_leak_in_numbers() -> None:
    """Changing one example or position moves no other one where that axis is not mixed."""
    values, checked = leaves(), 0
    changed = dict(values, x=values["x"].copy())
    changed["x"][0, :, 0, 0] += 0.37
    for graph in random_graphs(1500, seed=3):
        facts = analyse(graph)
        if not facts.depends_on_x or "b" in facts.mixes:
            continue
        before, after = evaluate(graph, values), evaluate(graph, changed)
        np.testing.assert_array_equal(before[1:], after[1:])
        if facts.causal_safe:
            checked += 1
            np.testing.assert_array_equal(before[:, :, 1:], after[:, :, 1:])
    assert checked > 20
