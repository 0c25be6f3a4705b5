"""What the default search adds to aging evolution, in whole searches with simulated workers."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import numpy as np
import pytest

from evosearch.alike import Alike
from evosearch.config import SearchConfig
from evosearch.jobs import fronts, hurdles
from evosearch.ports import Enqueue
from evosearch.propose import Proposer, _Draft
from evosearch.replay import replay
from evosearch.report import contributions
from evosearch.state import State, recover
from primitives.fingerprint import initial_fingerprint, initial_response
from primitives.formula import parse
from primitives.graph import Graph
from primitives.ops import typed_name
from primitives.rewrite import live_form
from tests.support.small_search import finished, start


def test_hurdles_rise_with_what_was_evaluated_and_end_candidates_early() -> None:
    overrides = ("checks.hurdles.steps=[40]", "checks.hurdles.after=5", "budget.evaluations=40",
                 "evolution.warm_up=10", "evolution.random_share=0.5")  # fmt: skip
    store = start(*overrides, "checks.hurdles.quantile=0.5")
    state = finished(store)
    assert state.rejected["hurdle"] > 0
    assert finished(start(*overrides, "checks.hurdles.after=100")).rejected["hurdle"] == 0
    scores = state.milestones["resnet"][40]
    assert min(scores) < hurdles(state)["resnet"][40] < max(scores)
    # Half of what comes to a hurdle passes it, on three anchors an eighth: it does not rise above
    # what it lets through.
    reached = state.evaluated + state.rejected["hurdle"]
    assert 0.75 < state.rejected["hurdle"] / reached < 0.95


def test_early_scores_of_the_latest_make_the_fronts_that_spare() -> None:
    store = start("checks.hurdles.steps=[40]", "checks.hurdles.spare_front=true",
                  "evolution.population_size=12")  # fmt: skip
    state = finished(store)
    assert len(state.early) == 12
    rows = [tuple(one[40].values()) for one in state.early.values() if len(one.get(40, ())) == 3]
    found = fronts(state)
    assert [len(found[name][40][0]) for name in state.config.anchor_names] == [1, 2, 3]
    best = np.array(found["efficientnet"][40])
    assert all((best >= np.array(row)).all(axis=1).any() for row in rows)
    assert {tuple(row) for row in best.tolist()} <= set(rows)
    assert recover(store.events("search01")).early == state.early
    assert fronts(finished(start("checks.hurdles.spare_front=false"))) == {}


def test_no_more_layers_that_begin_alike_are_tried_than_asked() -> None:
    def most_alike(*overrides: str) -> int:
        store = start("budget.evaluations=25", "evolution.random_share=0.1",
                      "evolution.warm_up=4", *overrides)  # fmt: skip
        finished(store)
        events = [entry.event for entry in store.events("search01")]
        graphs = {one.birth: one.graph for one in events if one.kind == "candidate_queued"}
        trained = [one.birth for one in events if one.kind == "candidate_evaluated"]
        responses = [initial_response(graphs[birth]) for birth in trained]
        rows = np.array([one for one in responses if one is not None])
        table = np.abs(rows @ rows.T)
        # A worker was at its job while the next one was proposed.
        return int((table >= 0.999).sum(axis=1).max())

    assert most_alike("evolution.alike=0.999") <= 3
    assert most_alike("evolution.alike=1.0") > 3


def test_births_of_another_search_are_not_taken_for_ones_own() -> None:
    relu, norm = parse("max(x, zero)"), parse("x / std_batch(x)")
    alike = Alike(0.9)
    assert alike.count(initial_response(relu), [(1, relu), (2, norm)]) == 1
    assert alike.count(initial_response(relu), [(1, norm), (2, norm)]) == 0
    assert alike.count(initial_response(relu), [(1, relu), (2, relu)]) == 2


def test_a_window_that_slides_counts_as_one_that_is_read_anew() -> None:
    store = start("budget.evaluations=30")
    finished(store)
    events = [entry.event for entry in store.events("search01")]
    graphs = [one.graph for one in events if one.kind == "candidate_queued"]
    tried = [*enumerate(graphs)]
    tried.insert(5, (-1, parse("zero * x")))  # it has no response
    sliding = Alike(0.9)
    window: deque[tuple[int, Graph]] = deque(maxlen=20)
    counts = []
    for place, one in enumerate(tried[:200]):
        window.append(one)
        if place % 3 == 0:  # several come between two questions, and at times a whole window
            window.extend(tried[place : place + place % 25])
            counts.append(sliding.count(initial_response(one[1]), window))
            assert counts[-1] == Alike(0.9).count(initial_response(one[1]), list(window))
    assert len(set(counts)) > 2


def test_who_leads_and_who_is_popular_is_known_without_a_look_at_everybody() -> None:
    store = start("budget.evaluations=40", "evolution.remeasure_every=3",
                  "evolution.population_size=15")  # fmt: skip
    finished(store)
    log = [*store.events("search01")]
    folded, popular = State(log[0].event), 0
    anchors = len(folded.config.task.anchors)
    for entry in log[1:]:
        folded.apply(entry.event)
        means = {b: folded.front.points[b][:anchors].sum() for b in folded.population}
        assert folded.leading() == sorted(means, key=lambda b: (means[b], b))[:5]
        members = {birth: folded.members[birth] for birth in folded.population}
        often = {birth for birth, one in members.items() if one.repeats >= 3 * one.measured}
        assert folded.popular & members.keys() == often
        popular += bool(often)
    assert popular > 2


def test_without_a_gain_evolution_begins_anew_and_forgets_its_parents() -> None:
    store = start("evolution.restart_after=4", "evolution.warm_up=3", "budget.evaluations=60",
                  "evolution.remeasure_every=0", "confirmation.enabled=false")  # fmt: skip
    finished(store)
    folded, begun, restarts = State(next(iter(store.events("search01"))).event), 0, 0
    evaluated: list[int] = []
    for entry in list(store.events("search01"))[1:]:
        event = entry.event
        if event.kind == "candidate_queued":
            young = evaluated[folded.begun_at :]
            assert set(event.parents) <= set(young)
            assert bool(event.parents) <= (len(young) >= 3)
        folded.apply(event)
        if event.kind == "candidate_evaluated":
            evaluated.append(event.birth)
            restarts += folded.begun_at > begun
            begun = folded.begun_at
            assert folded.evaluated - folded.gained_at < 4
            assert list(folded.population) == evaluated  # which the front and pages go on from
    assert restarts >= 2


def test_an_exhausted_neighbourhood_does_not_end_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def parents_again(
        self: Proposer, rng: random.Random, config: SearchConfig, hunt: Any, parent: Any
    ) -> _Draft:
        graph, parents = parent()
        return _Draft(graph, "swap", parents)

    monkeypatch.setattr(Proposer, "_child", parents_again)
    store = start("evolution.max_proposals=20000", "evolution.random_share=0.3",
                  "budget.evaluations=12")  # fmt: skip
    state = finished(store)
    assert state.evaluated == 12
    assert state.operators["swap"].proposals >= 200
    assert state.operators["swap"].new == 0
    assert replay(store.events("search01")).difference is None


def test_primitives_of_layers_that_come_through_are_drawn_more_often() -> None:
    store = start("evolution.primitive_floor=0.2", "budget.evaluations=15")
    state = finished(store)
    events = [entry.event for entry in store.events("search01")]
    graphs = {one.birth: one.graph for one in events if one.kind == "candidate_queued"}
    counts: dict[str, list[int]] = {}
    for one in events:
        if one.kind in ("candidate_rejected", "candidate_evaluated"):
            for name in {typed_name(n.op, n.over) for n in live_form(graphs[one.birth]).nodes}:
                row = counts.setdefault(name, [0, 0])
                row[0] += 1
                row[1] += one.kind == "candidate_evaluated"
    assert state.primitives == counts
    weights = state.primitive_weights()
    assert max(weights.values()) == 1.0
    assert min(weights.values()) >= 0.2
    best = max(counts, key=lambda name: (counts[name][1] + 1) / (counts[name][0] + 2))
    assert weights[best] == 1.0
    assert recover(store.events("search01")).primitives == counts
    assert finished(start("budget.evaluations=2")).primitives == {}


def test_what_was_trained_is_kept_in_mind_whatever_became_of_it() -> None:
    store = start("evolution.population_size=2", "checks.hurdles.steps=[40]",
                  "checks.hurdles.after=5", "budget.evaluations=8")  # fmt: skip
    state = finished(store)
    assert len(state.tried) == 8
    events = [entry.event for entry in store.events("search01")]
    births = [one.birth for one in events if one.kind == "candidate_evaluated"
              or (one.kind == "candidate_rejected" and one.rejection.code == "hurdle")]  # fmt: skip
    kept = [birth for birth, _ in state.tried]
    assert kept == births[-8:]
    assert {one.birth for one in events if one.kind == "candidate_rejected"} - set(births)


def test_a_function_at_the_initial_vectors_is_tried_no_more_often_than_asked() -> None:
    def starts(limit: int) -> Counter[str]:
        store = start(f"evolution.same_start={limit}", "budget.evaluations=30")
        finished(store)
        queued = [e.event for e in store.events("search01") if e.event.kind == "candidate_queued"]
        assert [e.start != "" for e in queued] == [limit > 0] * len(queued)
        return Counter(initial_fingerprint(e.graph) for e in queued)

    assert max(starts(0).values()) > 2
    assert max(starts(2).values()) == 2


def test_a_person_may_try_a_crowded_function() -> None:
    store = start("evolution.same_start=1", "budget.evaluations=3")
    for formula in ("tanh(x) * v1", "tanh(x) + v0", "tanh(x)"):
        store.send("search01", Enqueue(graph=parse(formula), note=""))
    state = finished(store)
    queued = [e.event for e in store.events("search01") if e.event.kind == "candidate_queued"]
    enqueued = [e for e in queued if e.origin == "enqueued"]
    assert len(enqueued) == 3
    assert len({e.start for e in enqueued}) == 1
    assert state.starts[enqueued[0].start] == 3


def test_operators_are_told_with_what_each_contributed() -> None:
    weights = (
        "evolution.operators.paper=1",
        "evolution.operators.cross=1",
        "budget.evaluations=60",
    )
    store = start(*weights)
    state = finished(store)
    told = [e.event for e in store.events("search01")]
    queued = [e for e in told if e.kind == "candidate_queued"]
    assert {name for e in queued for name in e.operator.split("+") if name} >= {"paper", "cross"}
    assert any(len(e.parents) == 2 for e in queued)
    assert sum(y.proposals for y in state.operators.values()) == state.next_birth
    assert sum(y.new for y in state.operators.values()) == len(queued)
    assert sum(y.evaluated for y in state.operators.values()) == state.evaluated
    assert state.report is not None
    assert state.report["operators"]["random"]["proposals"] > 0
    each = contributions(state.report["operators"])
    assert {name for name in each if "+" in name} == set()
    assert set(each) >= {"random", "paper", "cross"}
    both = [row for label, row in state.report["operators"].items() if "paper" in label.split("+")]
    assert each["paper"].proposals == sum(row["proposals"] for row in both)
    assert each["paper"].new_share == sum(row["new_functions"] for row in both) / sum(
        row["proposals"] for row in both
    )
    assert 0.0 < each["paper"].survivor_share < each["paper"].new_share
