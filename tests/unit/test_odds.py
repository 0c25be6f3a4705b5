"""Traits of layers, the odds learnt from them, and searches that choose by these."""

from __future__ import annotations

import json
import math
import random
from functools import partial

import numpy as np
import pytest

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import Space
from evosearch.controller import Controller
from evosearch.odds import (
    AFTER,
    AT_ONCE,
    BATCH,
    ENOUGH,
    FEWEST,
    RESERVE,
    RUNNERS_UP,
    Brood,
    Odds,
    by_lot,
    calibration,
    looks_after,
)  # fmt: skip
from evosearch.presets import load_preset
from evosearch.propose import Proposer
from evosearch.records import Evaluation, EvaluationDone, Job, JobDone, Message, Rejection
from evosearch.replay import replay
from evosearch.report import contributions, operator_yields
from evosearch.snapshot import dump_state, load_state
from evosearch.state import State, recover
from evosearch.variation import draw_table, random_graph
from primitives.catalog import CATALOG
from primitives.formula import parse
from primitives.graph import Graph
from primitives.printer import format_formula
from primitives.structure import structural_fault
from primitives.traits import SCALES, TRAITS, traits
from tests.support.whole_log import ID, assert_a_kill_leaves_no_mark
from workers.simulated import SimulatedPool

SETTINGS = (
    "evolution.choose_of=4", "budget.evaluations=40", "checks.hurdles.steps=[]",
    "confirmation.enabled=false", "evolution.challenge_top=0", "evolution.remeasure_every=0",
    "baselines=[]", "evolution.experience=false", "evolution.warm_up=4",
)  # fmt: skip


def named(text: str) -> dict[str, float]:
    return dict(zip(TRAITS, traits(parse(text)), strict=True))


def test_traits_say_how_the_output_grows_with_the_input() -> None:
    step = math.log(SCALES[1] / SCALES[0])
    for text, power in (("max(x, zero)", 1.0), ("x * x", 2.0), ("x / rms_batch(x)", 0.0)):
        found = named(text)
        assert found["growth_to_large"] == pytest.approx(power * step, abs=0.01)
        assert found["gradient_growth_to_large"] == pytest.approx((power - 1) * step, abs=0.01)
    assert named("x / rms_batch(x)")["log_std"] == pytest.approx(0.0, abs=0.05)
    assert named("x * x")["log_std_deep"] > 3.0  # it explodes
    assert named("sigmoid(x)")["log_std_deep"] < named("x / rms_batch(x)")["log_std_deep"] - 1.0
    assert named("x * x")["log_peak_deep"] > named("x / rms_batch(x)")["log_peak_deep"]


def test_traits_are_finite_and_repeat_whatever_the_graph() -> None:
    rng, table = random.Random(4), draw_table(Space(op_set="extended", draw="typed"))
    graphs = [random_graph(rng, table, 10) for _ in range(800)]
    graphs = [graph for graph in graphs if structural_fault(graph) is None]
    graphs += [entry.graph for entry in CATALOG.values()]
    assert len(graphs) > 100
    for graph in graphs:
        found = traits(graph)
        assert len(found) == len(TRAITS)
        assert all(map(math.isfinite, found))
        assert found == traits(graph)


def answer(job: Job) -> tuple[float, list[Message]]:
    """Layers whose output grows as the input does fall at signal; the others are all alike."""
    assert job.graph is not None
    found = dict(zip(TRAITS, traits(job.graph), strict=True))
    if not (abs(found["growth_to_large"]) < 0.3 and abs(found["log_std_deep"]) < 2.0):
        rejection = Rejection(code="signal", detail="it grows")
        return 1.0, [JobDone(job_id=job.id, rejection=rejection, worker="test")]
    done = [
        EvaluationDone(
            job_id=job.id,
            evaluation=Evaluation(
                anchor=run.anchor, seed=run.seed, learning_rate=run.learning_rate,
                split=run.split, score=0.5, steps=10, seconds=1.0,
            ),
        )
        for run in job.runs
    ]  # fmt: skip
    return 30.0, [*done, JobDone(job_id=job.id, worker="test")]


def started(*more: str, seed: int = 0) -> MemoryStore:
    store = MemoryStore()
    config = load_preset("quickstart", (*SETTINGS, *more), seed=seed)
    store.create(ID, "test", ev.Created(config=config))
    return store


def unborn(store: MemoryStore) -> State:
    """The search before anything was proposed."""
    return recover(iter([next(iter(store.events(ID)))]))


def controller(store: MemoryStore) -> Controller:
    return Controller(store, SimulatedPool(answer, 1), store.acquire(ID, "me", 1e6))


def searched(*more: str, seed: int = 0) -> tuple[MemoryStore, State]:
    store = started(*more, seed=seed)
    return store, controller(store).run()


def test_a_search_that_chooses_has_far_fewer_candidates_rejected() -> None:
    def rejected(choice: int) -> list[int]:
        found = []
        for seed in range(3):
            _, state = searched(f"evolution.choose_of={choice}", seed=seed)
            assert state.evaluated == 40
            assert bool(state.funnel["passed_over"].count) == (choice > 1)
            found.append(state.rejected["signal"])
        return found

    chosen, plain = rejected(4), rejected(1)
    assert all(few < many for few, many in zip(chosen, plain, strict=True))
    assert sum(chosen) < 0.7 * sum(plain)


def test_who_was_passed_over_is_counted_and_no_number_is_given_twice() -> None:
    store, state = searched()
    known, proposals = set[int](), 0
    for entry in store.events(ID):
        event = entry.event
        if event.kind == "candidate_duplicate":
            assert event.birth not in known
            known.add(event.birth)
        if event.kind != "candidate_queued":
            continue
        births = [event.birth, *(birth for birth, _, _ in event.skipped.examples)]
        assert len(births) == len(set(births))
        assert not known & {*births}
        known |= {*births}
        proposals += sum(event.skipped.origins.values())
        assert max(births) <= event.birth + event.skipped.after < state.next_birth
    assert proposals == state.next_birth
    assert len(known) <= state.next_birth
    assert state.examples["passed_over"] > 10
    queued = [entry.event for entry in store.events(ID) if entry.event.kind == "candidate_queued"]
    assert state.funnel["passed_over"].count > len(queued)
    # Every new function is one of the candidates or was passed over; what is drawn or looked at
    # again within a hunt was passed over, too, and is not new.
    new = sum(one.new for one in state.operators.values())
    assert len(queued) < new <= state.funnel["passed_over"].count + len(queued)
    assert sum(one.proposals for one in state.operators.values()) == state.next_birth
    assert "again" in state.operators
    assert (state.operators["again"].new, state.operators["again"].evaluated) == (0, 0)


def test_nothing_is_chosen_before_enough_is_known() -> None:
    state = searched()[1]
    drawn = [parse("max(x, zero)"), parse("x / rms_batch(x)")]
    assert Odds().of(state, drawn) is not None
    state.choice.decided = AFTER - 1
    assert Odds().of(state, drawn) is None
    assert {Odds().wanted(state, birth) for birth in range(50)} == {1}
    fallen = [trial._replace(mean=None) for trial in state.choice.trials]
    state.choice.trials.clear()
    state.choice.trials.extend(fallen)
    state.choice.decided = len(fallen)
    assert Odds().of(state, drawn) is None  # nobody came through: nothing tells layers apart


def test_odds_tell_layers_that_came_through_from_the_others() -> None:
    state = searched()[1]
    good, bad = parse("tanh(x) / std_batch(x)"), parse("x * x + max(x, zero)")
    odds = Odds().of(state, [bad, good])
    assert odds is not None
    assert 0.0 <= odds[0] < 0.1 < odds[1] <= 1.0
    brood = Brood(partial(Odds().of, state), 2)
    brood.add(bad)
    assert not brood.enough
    brood.add(good)
    assert brood.enough
    assert brood.best() == 1
    wanted = [Odds().wanted(state, birth) for birth in range(200)]
    assert set(wanted) == {1, 4}
    assert 0.02 < wanted.count(1) / 200 < 0.2  # for one in ten the first is tried


def test_the_more_jobs_at_a_time_the_fewer_functions_are_looked_at() -> None:
    state = searched("evolution.experience=true")[1]
    state.choice.looks = 600

    def wanted(jobs: int) -> int:
        state.choice.jobs = jobs
        return max(Odds().wanted(state, birth) for birth in range(10))

    assert [wanted(jobs) for jobs in (1, AT_ONCE, 2 * AT_ONCE, 12)] == [600, 600, 300, 200]
    assert wanted(10_000) == 1


def test_looking_ends_at_a_function_with_good_odds() -> None:
    worth = {parse(f"x * {number}"): number / 100 for number in (1, 2)}
    low, high = worth
    brood = Brood(lambda graphs: [worth[graph] for graph in graphs], 500)
    for _ in range(BATCH - 1):
        brood.add(low)
    assert not brood.enough
    worth[high] = ENOUGH
    brood.add(high)
    assert brood.enough
    assert brood.best() == BATCH - 1


def test_odds_are_told_and_audited_by_lot() -> None:
    store, state = searched("evolution.choose_of=20", "budget.evaluations=60")
    queued = [one.event for one in store.events(ID) if isinstance(one.event, ev.CandidateQueued)]
    begun = 0
    for event in queued:
        assert event.skipped.by_lot is by_lot(state, begun)
        begun = event.birth + event.skipped.after + 1
    told = [event for event in queued if event.skipped.odds is not None]
    assert queued.index(told[0]) >= AFTER
    lots = [event for event in told if event.skipped.by_lot]
    found = calibration(state)
    assert found["by_lot"]["decided"] == len(lots) > 0
    assert found["chosen"]["decided"] == len(told) - len(lots) > 20
    through = {birth for birth, member in state.members.items() if member.evaluated}
    assert found["by_lot"]["through"] == sum(event.birth in through for event in lots)
    assert -1.0 <= found["correlation"] <= 1.0
    assert state.report is not None
    assert state.report["odds"] == found
    assert load_state(dump_state(state)).choice.trials == state.choice.trials
    # What is tried by lot was the first that was met; what is chosen has the best odds.
    mean = {lot: np.mean([e.skipped.odds for e in told if e.skipped.by_lot is lot])
            for lot in (True, False)}  # fmt: skip
    assert mean[False] > mean[True]


def test_functions_breed_by_their_odds_and_alike_ones_are_one_parent() -> None:
    layers = [entry.graph for entry in CATALOG.values()][:BATCH]
    brood = Brood(lambda graphs: [0.01 * len(graph.nodes) for graph in graphs], 2 * BATCH)
    assert not brood.breeds
    for graph in layers:
        brood.add(graph)
    assert brood.breeds
    rng = random.Random(3)
    chosen = [brood.parent(rng) for _ in range(300)]
    sizes = [len(graph.nodes) for graph in layers]
    assert np.mean([sizes[place] for place in chosen]) > np.mean(sizes) + np.std(sizes) / 2
    twins = Brood(lambda graphs: [0.1] * len(graphs), 2 * BATCH)
    for _ in range(BATCH):
        twins.add(layers[0])
    assert {twins.parent(rng) for _ in range(20)} == {0}


def test_who_is_bred_comes_of_candidates_or_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evosearch.odds.ENOUGH", 2.0)  # looking goes on to the end
    store, state = searched("evolution.choose_of=60", "budget.evaluations=20")
    bred = [
        event for event in (entry.event for entry in store.events(ID))
        if isinstance(event, ev.CandidateQueued) and event.operator.startswith("bred")
    ]  # fmt: skip
    assert bred
    each = contributions(operator_yields(state))
    # The quickstart's operators by name, however their parents came to be.
    assert set(each) == {"random", "bred", "again", *state.config.evolution.operators}
    assert len(bred) < each["bred"].new_functions < each["bred"].proposals
    assert each["again"].new_functions == 0
    for name in state.config.evolution.operators:
        assert 0 < each[name].new_functions < each[name].proposals
    assert {event.origin for event in bred} == {"mutation", "random"}
    for event in bred:
        assert bool(event.parents) == (event.origin == "mutation")
        assert all(state.members[parent].evaluated for parent in event.parents)


def test_runners_up_are_looked_at_again_and_the_best_of_them_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evosearch.odds.ENOUGH", 2.0)
    store, state = searched("evolution.choose_of=60", "budget.evaluations=20")
    second, tried = dict[str, str](), 0
    for entry in store.events(ID):
        if not isinstance(event := entry.event, ev.CandidateQueued):
            continue
        if format_formula(event.graph) in second:
            assert event.operator == second[format_formula(event.graph)]
            tried += 1
        told = [format_formula(graph) for graph, _ in event.skipped.runners_up]
        assert len(told) <= RUNNERS_UP
        assert format_formula(event.graph) not in told
        second |= dict(zip(told, event.skipped.made_by, strict=True))
    assert tried > 3
    assert RUNNERS_UP < len(state.choice.runners_up) <= RESERVE


def test_runners_up_have_the_best_odds_but_one_and_no_two_are_alike() -> None:
    different = {tuple(np.round(traits(one.graph))): one.graph for one in CATALOG.values()}
    layers = [*different.values()][:BATCH]
    assert len(layers) == BATCH
    worth = {graph: 0.01 * place for place, graph in enumerate(layers)}
    brood = Brood(lambda graphs: [worth[graph] for graph in graphs], 2 * BATCH)
    brood.add(layers[-2], again=True)  # remembered already
    for graph in (*layers[:-2], layers[-1]):
        brood.add(graph)
    assert brood.best() == BATCH - 1
    ranked = [BATCH - 2 - place for place in range(RUNNERS_UP - 1)]  # one more was the older one
    assert brood.runners_up() == ranked
    twins = Brood(lambda graphs: [0.1] * len(graphs), 2 * BATCH)
    for graph in (*[layers[0]] * 5, layers[1]):
        twins.add(graph)
    assert twins.best() == 0
    assert twins.runners_up() == [5]


def test_fewer_are_looked_at_where_the_latter_half_brings_nothing() -> None:
    low, high = parse("x * 1"), parse("x * 2")

    def gain(*drawn: Graph, wanted: int = 2 * BATCH, good: float = 0.2) -> int:
        brood = Brood(lambda graphs: [good if one == high else 0.1 for one in graphs], wanted)
        for graph in drawn:
            brood.add(graph)
        brood.best()
        return brood.gain

    half = [low] * BATCH
    assert gain(*half, *half[1:], high) == 1
    assert gain(*half[1:], high, *half) == -1
    assert gain(*half[1:], high, good=ENOUGH) == 0
    assert gain(low, wanted=1) == 0
    for choose_of, looks, change, following in (
        (1000, 400, 1, 800), (1000, 800, 1, 1000), (1000, 400, 0, 400), (1000, 400, -1, 200),
        (1000, 60, -1, FEWEST), (4, 4, -1, 4),
    ):  # fmt: skip
        state = unborn(started(f"evolution.choose_of={choose_of}"))
        assert state.choice.looks == choose_of
        state.choice.looks = looks
        assert looks_after(state, change) == following


def test_a_search_says_how_many_it_looks_at() -> None:
    store, state = searched("evolution.choose_of=200", "budget.evaluations=10")
    told = [
        entry.event.skipped.looks for entry in store.events(ID)
        if isinstance(entry.event, ev.CandidateQueued)
    ]  # fmt: skip
    assert None in told  # before enough is known
    assert state.choice.looks == next(looks for looks in reversed(told) if looks)
    assert state.choice.looks < 200
    assert (
        load_state(dump_state(state)).choice.looks
        == recover(store.events(ID)).choice.looks
        == state.choice.looks
    )


HUNTS = ("evolution.choose_of=100", "evolution.experience=true", "budget.evaluations=6")


def test_a_search_that_breeds_goes_on_after_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evosearch.odds.ENOUGH", 2.0)
    store, state = searched(*HUNTS)
    assert any(one.new for name, one in state.operators.items() if name.startswith("bred"))
    queued = [entry.event for entry in store.events(ID)]
    looks = {one.skipped.looks for one in queued if isinstance(one, ev.CandidateQueued)} - {None}
    assert {50, 100} <= looks
    assert_a_kill_leaves_no_mark(
        lambda: started(*HUNTS), controller, first=4, step=len(list(store.events(ID))) // 3
    )


@pytest.mark.parametrize("jobs", [1, 8])
def test_a_search_that_breeds_replays_whatever_its_pool_held(
    jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evosearch.odds.ENOUGH", 2.0)
    store = started(*HUNTS)
    pool = SimulatedPool(answer, jobs)
    state = Controller(store, pool, store.acquire(ID, "me", 1e6)).run()
    assert state.choice.jobs == jobs
    assert (
        load_state(dump_state(state)).choice.jobs == recover(store.events(ID)).choice.jobs == jobs
    )
    hunts = [
        event.skipped for event in (entry.event for entry in store.events(ID))
        if isinstance(event, ev.CandidateQueued) and event.skipped.looks
    ]  # fmt: skip
    assert {one.jobs for one in hunts} == {jobs}
    seen = [one.counts["passed_over"] for one in hunts]
    assert seen[0] >= 99  # what the pool holds counts from the second candidate on
    assert (min(seen) < FEWEST - 1) == (jobs > AT_ONCE)
    done = replay(list(store.events(ID)))
    assert done.difference is None
    assert done.proposals > 6


def test_slices_change_nothing_of_a_hunt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evosearch.odds.ENOUGH", 2.0)
    state = unborn(started(*HUNTS))
    whole, cuts, now = Proposer(state).propose(state), 0, 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    proposer = Proposer(state, clock)
    while (found := proposer.seek(state, now + 40.0)) is None:
        cuts += 1
    assert cuts > 10
    assert list(map(without_times, found)) == list(map(without_times, whole))


def without_times(event: ev.Event) -> object:
    data = json.loads(ev.dump_event(event))
    data.get("skipped", {}).pop("jobs", None)
    return ev.without_times(data)


def test_a_runner_up_that_was_tried_is_one_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evosearch.odds.ENOUGH", 2.0)
    store, _ = searched("evolution.choose_of=60", "budget.evaluations=20")
    state, left = unborn(store), 0
    for entry in store.events(ID, after=1):
        held = {one.graph for one in state.choice.runners_up}
        state.follow(entry)
        if isinstance(event := entry.event, ev.CandidateQueued):
            left += event.graph in held
            assert event.graph not in {one.graph for one in state.choice.runners_up}
    assert left > 3


def test_a_restart_forgets_the_runners_up() -> None:
    more = ("evolution.choose_of=4", "evolution.restart_after=5", "budget.evaluations=12")
    store, state = searched(*more)
    assert state.begun_at > 0
    replayed, seen = unborn(store), []
    for entry in store.events(ID, after=1):
        before, held = replayed.begun_at, len(replayed.choice.runners_up)
        replayed.follow(entry)
        if replayed.begun_at != before:
            seen.append((held > 0, len(replayed.choice.runners_up)))
    assert (True, 0) in seen
    assert {left for _, left in seen} == {0}


def test_a_search_that_chooses_replays_and_goes_on_after_a_kill() -> None:
    store, state = searched()
    loaded = load_state(dump_state(state))
    assert state.choice.runners_up
    assert (loaded.choice.trials, loaded.choice.runners_up) == (
        state.choice.trials,
        state.choice.runners_up,
    )
    again = recover(store.events(ID))
    assert (again.choice.trials, again.choice.decided) == (
        state.choice.trials,
        state.choice.decided,
    )
    assert again.choice.runners_up == state.choice.runners_up
    assert_a_kill_leaves_no_mark(
        lambda: started("budget.evaluations=12"), controller, first=5, step=37
    )
