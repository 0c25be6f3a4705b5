"""A log replays to the decisions in it, and every decision that was changed is found."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.ports import Command, Enqueue, Extend, Pause, Remeasure, Resume
from evosearch.presets import load_preset
from evosearch.propose import remeasurement
from evosearch.replay import replay
from evosearch.state import recover
from primitives.graph import Graph
from primitives.named import layer_graph
from tests.unit.test_snapshot import eventful
from workers.simulated import SimulatedPool

OVERRIDES = (
    "budget.evaluations=20", "evolution.remeasure_every=4", "confirmation.resamples=50",
    "checks.hurdles.steps=[10, 30]", "checks.hurdles.after=5", "evolution.choose_of=1",
)  # fmt: skip


@cache
def recorded() -> tuple[ev.StoredEvent, ...]:
    """The log of a search of five workers, with a person's commands in it."""
    store = MemoryStore()
    store.create("s", "", ev.Created(config=load_preset("quickstart", OVERRIDES, seed=2)))
    running = Controller(store, SimulatedPool(eventful, 5), store.acquire("s", "me", 3600))
    graph = layer_graph("x / max(std_batch(x), v1 * x + std_instance(x))")
    orders: dict[int, tuple[Command, ...]] = {
        20: (Enqueue(graph=graph, note="mine"), Enqueue(graph=graph)),
        40: (Pause(), Resume()),
        60: (Extend(evaluations=24),),
    }
    steps = 0
    while not running.over:
        for command in orders.get(steps, ()):
            store.send("s", command)
        population = list(running.state.population)
        if steps == 80 and population:
            store.send("s", Remeasure(birth=population[-1], seeds=2))
        running.step()
        steps += 1
    assert running.state.status == "finished"
    return tuple(store.events("s"))


def test_the_recorded_outcomes_of_many_workers_replay_to_the_same_decisions() -> None:
    entries = recorded()
    kinds = {entry.event.kind for entry in entries}
    assert {"enqueued_refused", "budget_changed", "job_lost", "reported"} <= kinds
    seen: list[int] = []
    done = replay(entries, lambda _, at, of: seen.append(at), len(entries))
    assert done.difference is None
    assert done.events == len(entries) == seen[-1]
    assert done.proposals > 50
    assert done.decisions > 50


def queued(event: ev.Event) -> bool:
    return isinstance(event, ev.CandidateQueued) and event.origin == "mutation"


def kind(*names: str) -> Callable[[ev.Event], bool]:
    return lambda event: event.kind in names


CHANGES: dict[str, tuple[Callable[[ev.Event], bool], dict[str, object], str]] = {
    "graph": (queued, {"graph": Graph(layer_graph("x + v0").nodes)}, "graph.nodes"),
    "parents": (queued, {"parents": ()}, "parents"),
    "audit": (queued, {"audit": "flip"}, "audit"),
    "duplicate": (kind("candidate_duplicate"), {"of": 10**6}, "of"),
    "quarantined": (kind("candidate_evaluated"), {"standing": "worse"}, "standing.hypervolume"),
    "chosen": (kind("phase_entered"), {"chosen": (1,)}, "chosen"),
    "report": (kind("reported"), {"report": {}}, "report"),
    "attempt": (kind("job_lost"), {"attempt": 7}, "attempt"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_decision_is_found_where_it_stands(name: str) -> None:
    wanted, change, field = CHANGES[name]
    entries = list(recorded())
    place = next(i for i, entry in enumerate(entries) if wanted(entry.event))
    event = entries[place].event
    if change.get("audit") == "flip":
        change = {"audit": not event.audit}  # type: ignore[union-attr]
    if change.get("standing") == "worse":
        better = event.standing.hypervolume + 1.0  # type: ignore[union-attr]
        change = {"standing": event.standing.model_copy(update={"hypervolume": better})}  # type: ignore[union-attr]
    entries[place] = entries[place].model_copy(update={"event": event.model_copy(update=change)})
    done = replay(entries)
    assert done.difference is not None
    assert (done.difference.seq, done.difference.field) == (place + 1, field)
    assert done.difference.kind == event.kind
    assert done.events == place


def remeasured(entries: list[ev.StoredEvent], asked: bool) -> int:
    """Place of the last re-measurement that was, or was not, a person's wish."""
    return max(
        place for place, entry in enumerate(entries)
        if isinstance(entry.event, ev.JobQueued) and entry.event.purpose == "remeasure"
        and entry.event.asked is asked
    )  # fmt: skip


def of_another(entries: list[ev.StoredEvent], place: int, **change: object) -> ev.StoredEvent:
    """The re-measurement as one of another candidate, as it would have been written."""
    event, state = entries[place].event, recover(entries[:place])
    assert isinstance(event, ev.JobQueued)
    other = next(state.members[b] for b in state.population if b != event.subject.birth)
    wrong = remeasurement(state, other).model_copy(update={"asked": event.asked} | change)
    return entries[place].model_copy(update={"event": wrong})


def test_a_remeasurement_of_another_candidate_is_found_but_a_persons_wish_is_told() -> None:
    entries = list(recorded())
    own, wish = remeasured(entries, False), remeasured(entries, True)
    wrong = [*entries[:own], of_another(entries, own)]
    done = replay(wrong)
    assert done.difference is not None
    assert (done.difference.seq, done.difference.kind) == (own + 1, "job_queued")
    for place, change in ((wish, {}), (own, {"asked": True}), (own, {"asked": None})):
        told = [*entries[:place], of_another(entries, place, **change)]
        assert replay(told).difference is None


def test_a_remeasurement_that_was_not_due_is_found() -> None:
    entries = list(recorded())
    wish = remeasured(entries, True)
    event = entries[wish].event
    claimed = entries[wish].model_copy(update={"event": event.model_copy(update={"asked": False})})
    done = replay([*entries[:wish], claimed])
    assert done.difference is not None
    assert done.difference.seq == wish + 1


def test_another_outcome_changes_the_decisions_after_it() -> None:
    """An outcome is taken as it was recorded, but what follows from it must follow."""
    entries = list(recorded())
    places = [i for i, e in enumerate(entries) if isinstance(e.event, ev.EvaluationRecorded)
              and e.event.purpose == "search"]  # fmt: skip
    place = places[len(places) // 2]
    event = entries[place].event
    assert isinstance(event, ev.EvaluationRecorded)
    better = event.evaluation.model_copy(update={"score": 0.99})
    entries[place] = entries[place].model_copy(
        update={"event": event.model_copy(update={"evaluation": better})}
    )
    done = replay(entries)
    assert done.difference is not None
    assert done.difference.seq > place + 1


def test_a_decision_that_nobody_took_is_found() -> None:
    entries = list(recorded())
    state = recover(entries[:30])
    entries[30] = entries[30].model_copy(
        update={"event": ev.StatusChanged(status="finished", reason="the budget is used up")}
    )
    assert state.status == "running"
    done = replay(entries[:31])
    assert done.difference is not None
    assert done.difference.seq == 31
