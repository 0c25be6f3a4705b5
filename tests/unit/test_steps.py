"""Steps that are cut into slices, commands between them, and what the log says of fresh seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.ports import Command, Enqueue, Extend, Pause, Remeasure, Resume, Stop
from evosearch.presets import load_preset
from evosearch.records import Job, JobDone, Message, Rejection
from evosearch.replay import replay
from evosearch.state import State, recover
from evosearch.steering import plain_events, refusal
from primitives.formula import parse
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

Script = Callable[[Job], tuple[float, Sequence[Message]]]
SMALL = ("budget.evaluations=25", "evolution.remeasure_every=5", "confirmation.resamples=200",
         "evolution.choose_of=1")  # fmt: skip


def start(*overrides: str) -> MemoryStore:
    store = MemoryStore()
    config = load_preset("quickstart", [*SMALL, *overrides], seed=0)
    store.create("search01", "test", ev.Created(config=config))
    return store


def controller(store: MemoryStore, script: Script = answer, workers: int = 1) -> Controller:
    lease = store.acquire("search01", "me", 3600)
    return Controller(store, SimulatedPool(script, workers), lease)


def log(store: MemoryStore) -> list[str]:
    return [
        json.dumps(ev.without_times(json.loads(ev.dump_event(entry.event))))
        for entry in store.events("search01")
    ]


def finished(store: MemoryStore, workers: int = 1) -> State:
    state = controller(store, answer, workers).run()
    assert state.status == "finished"
    return state


ALL: tuple[Command, ...] = (
    Pause(), Resume(), Stop(), Extend(evaluations=9), Enqueue(graph=parse("tanh(x)")),
    Remeasure(birth=1),
)  # fmt: skip


@pytest.mark.parametrize("status", ["running", "paused", "stopped", "finished", "failed"])
@pytest.mark.parametrize("phase", ["search", "confirm", "tune", "final", "done"])
def test_what_commands_mean_in_every_status_and_phase(status: str, phase: str) -> None:
    found = [plain_events(command, status, phase) for command in ALL]
    late = [refusal(command, phase) is not None for command in ALL]
    assert late == [False] * 3 + [phase != "search"] * 3
    changes = {"running": ["paused", None, "stopped"], "paused": [None, "running", "stopped"]}
    told = [one[0].status if one else None for one in found[:3]]  # type: ignore[union-attr]
    assert told == changes.get(status, [None] * 3)
    open_ = status in changes and phase == "search"
    assert bool(found[3]) == open_
    assert found[4:] == [None if open_ else ()] * 2


def test_slices_of_a_step_change_nothing_that_is_proposed() -> None:
    whole, sliced = start(), start()
    finished(whole, workers=3)
    now = 0.0

    def ticking() -> float:
        nonlocal now
        now += 1.0
        return now

    lease = sliced.acquire("search01", "me", 3600)
    pool = SimulatedPool(answer, 3)
    made = Controller(sliced, pool, lease, clock=ticking, slice_seconds=20.0)
    unfilled = 0
    while not made.over:
        before = now
        made.step()
        if made.state.phase == "search":
            unfilled += not made.filled
            # A candidate takes three looks at the clock, and what follows it some more.
            assert made.filled or now - before <= 40
    assert unfilled > 20, "no step was cut, so the test shows nothing"
    assert log(sliced) == log(whole)


def test_a_cut_step_acts_on_commands_and_begins_anew_after_them() -> None:
    store, now = start(), 0.0

    def ticking() -> float:
        nonlocal now
        now += 1.0
        return now

    lease = store.acquire("search01", "me", 3600)
    made = Controller(
        store, SimulatedPool(answer, 2), lease, clock=ticking, slice_seconds=2.0
    )  # fmt: skip
    while made.filled:
        made.step()
    layer = parse("tanh(x)")
    store.send("search01", Enqueue(graph=layer))
    birth = made.state.next_birth
    made.step()
    assert made.state.members[birth].origin == "enqueued"
    store.send("search01", Pause())
    made.step()
    assert made.state.status == "paused"
    store.send("search01", Resume())
    made.step()
    while not made.over:
        made.step()
    assert replay(store.events("search01")).difference is None


def test_a_budget_of_none_ends_a_search_that_has_evaluated_nothing() -> None:
    store = start()

    def hopeless(job: Job) -> tuple[float, Sequence[Message]]:
        if job.purpose != "search":
            return answer(job)
        rejected = Rejection(code="signal", detail="all")
        return 0.01, [JobDone(job_id=job.id, rejection=rejected)]

    made = controller(store, hopeless)
    for _ in range(30):
        made.step()
    store.send("search01", Extend(evaluations=0, reason="2 hours are used up"))
    state = made.run()
    assert state.status == "finished"
    assert state.report is not None
    assert state.report["leader"] is None
    assert state.report["notes"] == ["2 hours are used up"]
    assert state.report["verdict"] == "no candidate was evaluated: 2 hours are used up"


def test_what_is_confirmed_follows_from_the_log() -> None:
    store = start("evolution.challenge_top=3", "evolution.remeasure_share=0.5")
    state = finished(store)
    rose, best = 0, None
    again = recover(iter([next(store.events("search01"))]))
    for entry in store.events("search01", after=1):
        event = entry.event
        again.follow(entry)
        if event.kind == "job_finished" and event.standing is not None:
            fresh: dict[str, list[float]] = {}
            for purpose, one in again.results[event.subject.key]:
                if purpose in ("remeasure", "confirm"):
                    fresh.setdefault(one.anchor, []).append(one.score)
            mean = float(np.mean([np.mean(scores) for scores in fresh.values()]))
            if best is None or mean > best:
                best, rose = mean, again.evaluated
    assert best is not None
    assert (state.confirmed, state.confirmed_at) == (best, rose)
