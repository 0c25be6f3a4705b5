"""Knock-outs: each is the graph without one node, none is the graph itself, none comes twice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from evosearch.stats import paired_interval
from primitives.catalog import CATALOG
from primitives.digest import digest
from primitives.formula import parse
from primitives.knock_out import knock_outs
from tests.random_graphs import random_graph


def test_the_knock_outs_of_evonorm_b0_are_these() -> None:
    graph = parse("x / max(std_batch(x), v1 * x + std_instance(x))")
    found = {digest(one.graph): one.fault for one in knock_outs(graph)}
    kept = [
        "x / max(x, v1 * x + std_instance(x))",
        "x / std_batch(x)",
        "x / (v1 * x + std_instance(x))",
        "x / max(std_batch(x), v1 * x)",
        "x / max(std_batch(x), std_instance(x))",
        "x / max(std_batch(x), v1 + std_instance(x))",
        "x / max(std_batch(x), x + std_instance(x))",
        "x / max(std_batch(x), v1 * x + x)",
        "max(std_batch(x), v1 * x + std_instance(x))",
    ]
    assert {digest(parse(one)) for one in kept} <= found.keys()
    # The last: x alone, which is left where the division is taken out.
    assert found.keys() - {digest(parse(one)) for one in kept} == {digest(parse("x + zero"))}


def test_what_is_no_layer_any_more_says_why() -> None:
    found = {(one.node, one.by): one.fault for one in knock_outs(parse("x / std_batch(x) * v1"))}
    assert found["x / std_batch(x) * v1", "v1"] == "ignores_input"
    assert found["x / std_batch(x)", "std_batch(x)"] == "no_spatial"
    assert found["x / std_batch(x) * v1", "x / std_batch(x)"] is None


@pytest.mark.parametrize("seed", range(20))
def test_each_is_another_function_with_fewer_nodes(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed))
    found = knock_outs(graph)
    identities = [digest(one.graph) for one in found]
    assert len(set(identities)) == len(identities)
    assert digest(graph) not in identities
    assert all(len(one.graph.live_ops()) <= len(graph.live_ops()) for one in found)


def test_every_known_layer_can_be_taken_apart() -> None:
    for entry in CATALOG.values():
        assert len(knock_outs(entry.graph)) >= len(entry.graph.live_ops()) // 2


def test_the_paired_interval_is_students() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.5, 0.1, 6), rng.normal(0.4, 0.1, 6)
    found = paired_interval(ours - theirs, level=0.9)
    low, high = ttest_rel(ours, theirs).confidence_interval(0.9)
    assert found == pytest.approx(((ours - theirs).mean(), low, high))
    assert np.isnan(paired_interval(np.array([0.1])).low)
