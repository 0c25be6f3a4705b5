"""Snapshots are shortcuts: with the events after them they are the fold of the whole log."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch import snapshot
from evosearch.controller import Controller
from evosearch.errors import StateConflict
from evosearch.jobs import hurdles
from evosearch.members import Member
from evosearch.ports import Snapshot
from evosearch.presets import load_preset
from evosearch.records import EvaluationDone, Failure, Job, JobDone, Message
from evosearch.snapshot import dump_state, load_state, reopen, worth_saving
from evosearch.state import State, recover
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

ID = "search01"
DERIVED = {"config", "coordinates", "_hurdles_alone", "_without_signal", "_leading"}
"""Attributes that follow from the config, or from others when they are asked for."""
OVERRIDES = (
    "budget.evaluations=25", "evolution.remeasure_every=5", "confirmation.resamples=50",
    "checks.hurdles.steps=[10, 30, 40]", "checks.hurdles.after=5", "checks.hurdles.quantile=0.25",
    "evolution.operators={paper=0.3, rewire=0.3, cross=0.4}", "evolution.same_start=3",
    "evolution.restart_after=6", "evolution.primitive_floor=0.2", "evolution.choose_of=5",
)  # fmt: skip


def eventful(job: Job) -> tuple[float, list[Message]]:
    """The simulated worker, that dies now and then, and measures at the steps of hurdles."""
    seconds, messages = answer(job)
    if job.attempt == 1 and random.Random(job.id).random() < 0.05:
        return 0.1, [JobDone(job_id=job.id, failure=Failure(cause="died", detail="signal 9"))]
    told = []
    for message in messages:
        if isinstance(message, EvaluationDone):
            score = message.evaluation.score
            more = {
                "milestones": {10: score / 2, 30: score / 1.5, 40: score / 1.4},
                "curve": ((1, 2.0), (9, 0.5)),
            }
            message = message.model_copy(
                update={"evaluation": message.evaluation.model_copy(update=more)}
            )
        told.append(message)
    return seconds, told


def new_store() -> MemoryStore:
    store = MemoryStore()
    store.create(ID, "test", ev.Created(config=load_preset("quickstart", OVERRIDES, seed=4)))
    return store


def controller(store: MemoryStore) -> Controller:
    return Controller(store, SimulatedPool(eventful, 3), store.acquire(ID, "me", 3600))


@cache
def whole_log() -> tuple[tuple[ev.StoredEvent, ...], State]:
    """The events of a finished search, and the state of the controller that wrote them."""
    store = new_store()
    live = controller(store).run()
    assert live.status == "finished"
    return tuple(store.events(ID)), live


def assert_same(one: State, other: State) -> None:
    """Fail unless the two states are equal in every attribute, types and order included."""
    assert vars(one).keys() == vars(other).keys()
    assert one.leading() == other.leading()
    for name, mine in vars(one).items():
        theirs: Any = vars(other)[name]
        assert type(mine) is type(theirs), name
        if name == "front":
            assert mine.members == theirs.members
            assert list(mine.points) == list(theirs.points)
            assert all(np.array_equal(p, theirs.points[m]) for m, p in mine.points.items())
            continue
        if name == "choice":
            for part, kept in vars(mine).items():
                assert kept == vars(theirs)[part], part
                assert getattr(kept, "maxlen", 0) == getattr(vars(theirs)[part], "maxlen", 0), part
            continue
        assert mine == theirs, name
        if isinstance(mine, dict) and not isinstance(mine, Counter):
            assert list(mine) == list(theirs), name
        assert getattr(mine, "maxlen", None) == getattr(theirs, "maxlen", None), name


def test_a_snapshot_holds_every_attribute_of_the_state() -> None:
    """What `State` remembers besides needs a part of its own in `evosearch.snapshot`."""
    entries, _ = whole_log()
    told = json.loads(dump_state(recover(entries))).keys() - {"version", "config"}
    assert told == vars(recover(entries)).keys() - DERIVED
    fields = Member.__dataclass_fields__.keys()
    row = json.loads(dump_state(recover(entries)))["members"][0]
    assert len(row) == len(fields)


def test_the_comparison_sees_every_difference() -> None:
    entries, _ = whole_log()
    one, other = recover(entries), recover(entries)
    for name, same in [*vars(other).items()]:
        assert_same(one, other)
        setattr(other, name, object())
        with pytest.raises(AssertionError):
            assert_same(one, other)
        setattr(other, name, same)


def test_a_snapshot_and_the_events_after_it_are_the_fold_of_all_events() -> None:
    entries, _ = whole_log()
    expected = recover(entries)
    kinds = {entry.event.kind for entry in entries}
    assert {"job_lost", "job_finished", "candidate_rejected", "reported"} <= kinds
    assert expected.milestones
    rng = random.Random(0)
    cuts = {1, len(entries), *rng.sample(range(2, len(entries)), 40)}
    for cut in sorted(cuts):
        head = recover(entries[:cut])
        state = load_state(dump_state(head))
        assert_same(state, head)
        for entry in entries[cut:]:
            state.follow(entry)
        assert_same(state, expected)
        assert hurdles(state) == hurdles(expected)


def test_snapshots_of_snapshots_lose_nothing() -> None:
    entries, _ = whole_log()
    state = recover(entries[:1])
    for entry in entries[1:]:
        state.follow(entry)
        if state.seq % 50 == 0:
            state = load_state(dump_state(state))
    assert_same(state, recover(entries))


def test_the_live_state_gives_the_snapshot_that_its_events_give() -> None:
    entries, live = whole_log()
    assert json.loads(dump_state(live)) == json.loads(dump_state(recover(entries)))


@pytest.mark.parametrize("wrong", ["rubbish", "version", "field", "seq", "type", "empty"])
def test_a_snapshot_that_cannot_be_read_is_passed_over(wrong: str) -> None:
    store = new_store()
    running = controller(store)
    while running.state.seq < 100:
        running.step()
    seq = running.state.seq
    told = json.loads(dump_state(running.state))
    text = {
        "rubbish": "{", "empty": "{}", "version": json.dumps(told | {"version": 0}),
        "field": json.dumps({name: told[name] for name in told if name != "members"}),
        "type": json.dumps(told | {"members": [[1]]}), "seq": json.dumps(told | {"seq": seq - 1}),
    }[wrong]  # fmt: skip
    if wrong != "seq":
        with pytest.raises(StateConflict, match="snapshot"):
            load_state(text)
    store.save(running.lease, Snapshot(seq, text))
    state, saved = reopen(store, ID)
    assert saved == 0
    assert_same(state, recover(store.events(ID)))


def test_a_search_that_is_killed_again_and_again_uses_its_snapshots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "LEAST_EVENTS", 40)
    store, afters = new_store(), []
    read = store.events

    def spied(search_id: str, after: int = 0) -> Any:
        afters.append(after)
        return read(search_id, after)

    monkeypatch.setattr(store, "events", spied)
    status = "running"
    while status == "running":
        running = controller(store)  # takes the lease of the one that was killed
        assert_same(running.state, recover(read(ID)))
        for _ in range(30):
            running.step()
        status = running.state.status
    assert status == "finished"
    assert afters == sorted(afters)
    assert len(set(afters)) > 3
    last = store.search(ID).last_seq
    assert last - afters[-1] <= max(40, last / 4) + 60, "the events after the snapshot pile up"
    kept = store.snapshot(ID)
    assert kept is not None
    assert kept.seq <= store.search(ID).last_seq


def test_all_snapshots_together_cost_little_more_than_the_last() -> None:
    entries, _ = whole_log()
    state, saved, written = recover(entries[:1]), 0, []
    for seq in range(1, 2_000_000, 500):
        state.seq = seq
        if worth_saving(state, saved):
            saved = seq
            written.append(seq)
    assert sum(written) < 6 * written[-1]
    assert 2_000_000 - written[-1] < 2_000_000 / 4
