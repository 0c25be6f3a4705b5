"""Relatives in the catalog: each kind of equality is found and called by its name, and no other."""

from __future__ import annotations

import pytest

from evosearch import report
from primitives import relatives as module
from primitives.catalog import CATALOG
from primitives.digest import digest
from primitives.fingerprint import fingerprint
from primitives.formula import parse
from primitives.graph import Graph
from primitives.relatives import (
    NEAR,
    OVER_THE_REALS,
    REWRITTEN,
    SAME_BEHAVIOUR,
    SAME_START,
    UP_TO_AFFINE,
    behaviour_difference,
    relatives,
    simplified,
)
from primitives.rewrite import canonical


@pytest.mark.parametrize("name", list(CATALOG))
def test_every_known_layer_is_its_own_relative(name: str) -> None:
    first = relatives(CATALOG[name].graph, most=len(CATALOG))
    mine = next(one for one in first if one.name == name)
    assert (mine.relation, mine.share) == (REWRITTEN, 1.0)
    assert first[0].relation == REWRITTEN


@pytest.mark.parametrize(
    ("formula", "name", "relation"),
    [
        ("x * sigmoid(v1 * x) / std_group(x)", "evonorm-s0", REWRITTEN),
        ("(x + v0 - v0) * sigmoid(v1 * x) / std_group(x)", "evonorm-s0", OVER_THE_REALS),
        ("x * (0.5 + 0.5 * tanh(0.5 * v1 * x)) / std_group(x)", "evonorm-s0", SAME_BEHAVIOUR),
        ("-x * sigmoid(v1 * x) / std_group(x)", "evonorm-s0", UP_TO_AFFINE),
        ("x * sigmoid(x) / std_group(x)", "evonorm-s0", SAME_START),
        ("tanh(x * sigmoid(v1 * x) / std_group(x))", "evonorm-s0", NEAR),
    ],
)
def test_the_relation_is_called_what_it_is(formula: str, name: str, relation: str) -> None:
    found = {one.name: one for one in relatives(parse(formula), most=len(CATALOG))}
    assert found[name].relation == relation
    assert (found[name].share == 1.0) == (relation not in (NEAR, SAME_START))


def test_near_ones_share_what_is_said() -> None:
    first = relatives(parse("tanh(x * sigmoid(v1 * x) / std_group(x))"))[0]
    assert first.name == "evonorm-s0"
    assert digest(parse(first.common)) == digest(CATALOG["evonorm-s0"].graph)
    assert 0.5 < first.share < 1.0


def test_the_behaviour_check_sees_what_differs() -> None:
    graph = parse("x * sigmoid(v1 * x) / std_group(x)")
    assert behaviour_difference(graph, canonical(graph)) == 0.0
    assert behaviour_difference(graph, simplified(graph)) < 1e-12
    for other in ("x * sigmoid(x) / std_group(x)", "x * sigmoid(v1 * x) / std_instance(x)"):
        assert behaviour_difference(graph, parse(other)) > 1e-3
    # Only evaluation mode tells a batch moment from one of the same batch's samples.
    assert behaviour_difference(parse("x / std_batch(x)"), parse("x / rms_batch(x)")) > 1e-3
    assert behaviour_difference(parse("x / zero"), graph) == float("inf")


def test_a_graph_is_told_by_its_catalog_name_without_probing_the_catalog_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probed: list[Graph] = []

    def counted(graph: Graph, **more: bool) -> str:
        probed.append(graph)
        return fingerprint(graph, **more)

    unknown = parse("tanh(x * sigmoid(v1 * x) / std_group(x))")
    assert report.known_as(unknown) is None  # the whole catalog is known now
    for one in (report, module):
        monkeypatch.setattr(one, "fingerprint", counted)
    for name, entry in CATALOG.items():
        assert report.known_as(entry.graph) == name
    assert report.known_as(parse("x * (0.5 + 0.5 * tanh(0.5 * v1 * x)) / std_group(x)")) == (
        "evonorm-s0"
    )
    assert report.known_as(unknown) is None
    assert len(probed) == len(CATALOG) + 2
