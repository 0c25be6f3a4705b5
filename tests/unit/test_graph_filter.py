"""A search's own constraint: what it may ask of a graph, what that takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evosearch import graph_filter as module
from evosearch.config import Space
from evosearch.errors import ConfigError
from evosearch.graph_filter import FACTS, Answers, GraphFilter
from evosearch.where import PROPERTIES
from primitives.catalog import CATALOG
from primitives.formula import parse
from primitives.graph import Graph
from primitives.properties import Behaviour, stored_properties
from primitives.structure import Structure
from tests.random_graphs import random_graphs

LATER = {
    "birth", "outcome", "state", "origin", "mean_score", "seeds", "seconds", "step_time", "gain",
    "gain_low", "audit", "on_front", "duplicate_of", "rejection_code", "rejected_by",
    "failure_cause", "worker",
}  # fmt: skip
"""What no graph tells."""


def test_all_that_a_graph_tells_may_be_asked_by_the_names_of_candidates_filters() -> None:
    graph = CATALOG["bn-relu"].graph
    structural = {"live_nodes", "batch_independent", "causal_safe", "pointwise"}
    assert FACTS.keys() == structural | stored_properties(graph).keys()
    assert FACTS.keys() | LATER == PROPERTIES.keys()
    assert not FACTS.keys() & LATER


def test_the_setting_and_the_page_name_all_of_them() -> None:
    told = Space.model_fields["where"].description
    assert told is not None
    assert [name for name in FACTS if name not in told] == []
    page = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text()
    assert [name for name in FACTS if f"`{name}`" not in page] == []


def literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


@pytest.mark.parametrize("name", CATALOG)
def test_every_answer_is_the_stored_one(name: str) -> None:
    graph = CATALOG[name].graph
    for fact, value in stored_properties(graph).items():
        assert GraphFilter(f"{fact} = {literal(value)}").holds(graph)
        assert not GraphFilter(f"not {fact} in ({literal(value)})").holds(graph)


@pytest.mark.parametrize(
    ("where", "formula", "expected"),
    [
        ("scale_invariant and not mixes_batch", "x / rms_instance(x)", True),
        ("scale_invariant and not mixes_batch", "x / rms_batch(x)", False),
        ("symmetry in ('odd', 'even') or bounded", "sigmoid(x)", True),
        ("symmetry in ('odd', 'even') or bounded", "relu(x)", False),
        ("monotone = 'increasing' and flops <= 4", "relu(x)", True),
        ("bytes_moved > 1000", "relu(x)", False),
    ],
)
def test_facts_join(where: str, formula: str, expected: bool) -> None:
    assert GraphFilter(where).holds(parse(formula)) is expected


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the facts for which a probe was made."""
    names: list[str] = []

    class Told(Behaviour):
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                names.append(name)
            return super().__getattribute__(name)

    monkeypatch.setattr(module, "Behaviour", Told)
    return names


@pytest.mark.parametrize(
    ("where", "formula", "probed"),
    [
        ("live_nodes <= 3 and not mixes_batch", "tanh(x)", []),
        ("bounded and live_nodes > 3", "tanh(x)", []),
        ("bounded or live_nodes <= 3", "tanh(x)", []),
        ("bounded and live_nodes <= 3", "tanh(x)", ["bounded"]),
        ("bounded and monotone = 'none'", "tanh(x)", ["monotone"]),
        ("not (bounded and (scale_invariant or pointwise))", "tanh(x)", ["bounded"]),
        ("bounded and scale_invariant and not bounded", "tanh(x)", ["scale_invariant"]),
    ],
)
def test_the_cheap_is_asked_first_and_only_what_is_named(
    where: str, formula: str, probed: list[str], asked: list[str]
) -> None:
    GraphFilter(where).holds(parse(formula))
    assert asked == probed


def test_what_is_remembered_is_not_probed_again(asked: list[str]) -> None:
    known: Answers = {}
    one = GraphFilter("not bounded or symmetry = 'none'")
    assert [one.holds(parse("tanh(x)"), lambda: known) for _ in range(3)] == [False] * 3
    assert asked == ["symmetry", "bounded"]
    assert known == {"symmetry": "odd", "bounded": True}


def test_structure_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Graph] = []
    plain = module.analyse

    def told(graph: Graph) -> Structure:
        calls.append(graph)
        return plain(graph)

    monkeypatch.setattr(module, "analyse", told)
    assert GraphFilter("live_nodes <= 9 and pointwise and causal_safe").holds(parse("tanh(x)"))
    assert len(calls) == 1


def test_any_graph_can_be_asked_without_a_warning() -> None:
    every = GraphFilter(
        "scale_invariant and bounded and shift_invariant or monotone = 'none' or symmetry = 'odd'"
    )
    for graph in random_graphs(300, seed=9, op_set="extended+token"):
        assert every.holds(graph) in (True, False)


@pytest.mark.parametrize("name", [*sorted(LATER), "score.resnet"])
def test_what_no_graph_tells_is_refused_with_what_can_be_asked(name: str) -> None:
    text = f"{name} = 'x'" if PROPERTIES.get(name) == "text" else f"{name} = 1"
    if PROPERTIES.get(name) == "flag":
        text = name
    with pytest.raises(ConfigError, match=f"{name} cannot be asked of a proposal") as caught:
        GraphFilter(f"live_nodes <= 3 and not ({text})")
    assert all(fact in str(caught.value) for fact in FACTS)
