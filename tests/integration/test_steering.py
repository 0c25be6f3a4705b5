"""Commands act at once on every search: waiting, in trouble, on its way in, at length at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, insert

from api.controlling import Controlling, Trouble
from db.queries import Queries
from db.queries_rest import RestQueries
from db.schema import commands
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch.errors import PluginError, StoreError
from evosearch.ports import Enqueue, Extend, Pause, Resume, Stop
from evosearch.records import Job, Message
from evosearch.screen import Screen, Verdict
from evosearch.snapshot import dump_state, reopen
from evosearch.state import State
from primitives.formula import parse
from tests.support.controlling import (
    control,
    controlling,
    create,
    seconds_until,
    status,
    step_until,
    store,
)

__all__ = ["control", "store"]


def idle(job: Job) -> tuple[float, Sequence[Message]]:
    return 1e9, []


def test_searches_that_wait_for_their_turn_obey(store: SqlStore) -> None:
    control, alerts = controlling(store, idle, max_searches=2)
    for name in ("aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"):
        create(store, name)
    seconds_until(control, lambda: sorted(control.held) == ["aaaaaaaa", "bbbbbbbb"])
    store.send("cccccccc", Pause())
    store.send("dddddddd", Enqueue(graph=parse("tanh(x)"), note="mine"))
    assert seconds_until(control, lambda: status(store, "cccccccc") == "paused") < 2
    assert seconds_until(control, lambda: "mine" in notes(store, "dddddddd")) < 2
    store.send("cccccccc", Enqueue(graph=parse("tanh(x)"), note="paused"))
    assert seconds_until(control, lambda: "paused" in notes(store, "cccccccc")) < 2
    store.send("cccccccc", Extend(evaluations=9))
    store.send("cccccccc", Resume())
    assert seconds_until(control, lambda: status(store, "cccccccc") == "running") < 2
    assert Queries(store).search_row("cccccccc").budget == 9
    assert sorted(control.held) == ["aaaaaaaa", "bbbbbbbb"]
    store.send("dddddddd", Stop())
    assert seconds_until(control, lambda: status(store, "dddddddd") == "stopped") < 2
    store.send("aaaaaaaa", Stop())  # and now it is the turn of the next one
    seconds_until(control, lambda: sorted(control.held) == ["bbbbbbbb", "cccccccc"])
    control.close()
    alerts.close()


def notes(store: SqlStore, name: str) -> list[str]:
    """Notes of the layers that people had added."""
    return [
        e.event.note for e in store.events(name)
        if isinstance(e.event, ev.CandidateQueued) and e.event.origin == "enqueued"
    ]  # fmt: skip


def test_a_search_that_cannot_be_run_can_be_stopped(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise PluginError("the plug-in is gone")

    monkeypatch.setattr("api.openings.ensure", missing)
    control, alerts = controlling(store)
    create(store, "aaaaaaaa")
    seconds_until(control, lambda: control._trouble.get("aaaaaaaa", Trouble()).times >= 2)
    store.send("aaaaaaaa", Enqueue(graph=parse("tanh(x)")))
    store.send("aaaaaaaa", Pause())
    assert seconds_until(control, lambda: status(store, "aaaaaaaa") == "paused") < 2
    store.send("aaaaaaaa", Stop())
    assert seconds_until(control, lambda: status(store, "aaaaaaaa") == "stopped") < 2
    assert RestQueries(store).commanded() == []
    control.close()
    alerts.close()


def test_a_command_that_nobody_can_read_troubles_its_search_alone(store: SqlStore) -> None:
    control, alerts = controlling(store)
    create(store, "aaaaaaaa", "budget.evaluations=2000")
    create(store, "bbbbbbbb")
    step_until(control, lambda: len(control.held) == 2)
    row = {"search_id": "aaaaaaaa", "command": '{"kind": "rename"}', "sent_at": datetime.now(UTC)}
    with store.engine.begin() as connection:
        connection.execute(insert(commands), row)
    step_until(control, lambda: "aaaaaaaa" in control._trouble)
    assert control.held == ["bbbbbbbb"]
    create(store, "cccccccc")
    step_until(control, lambda: "cccccccc" in control.held)  # new ones are still looked for
    ends = ("bbbbbbbb", "cccccccc")
    step_until(control, lambda: all(status(store, one) == "finished" for one in ends))
    times = control._trouble["aaaaaaaa"].times
    for _ in range(3):  # told at each try, not at each look
        control._looked = float("-inf")
        control.step()
    assert control._trouble["aaaaaaaa"].times <= times + 1
    lease = store.acquire("aaaaaaaa", "another", 60)  # it is free
    with pytest.raises(StoreError, match=r"command 1: a command cannot be read.*newer"):
        store.commands(lease)
    with store.engine.begin() as connection:
        connection.execute(delete(commands))
    store.release(lease)
    control._trouble.clear()  # as after the seconds that a search in trouble waits
    step_until(control, lambda: control.held == ["aaaaaaaa"])
    control.close()
    alerts.close()


def test_a_search_that_takes_long_to_open_keeps_nobody_waiting(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = threading.Event()

    def slow(store: SqlStore, search_id: str, *_: object) -> Any:
        if search_id == "aaaaaaaa":
            assert opened.wait(60)
        return reopen(store, search_id)

    monkeypatch.setattr("evosearch.controller.reopen", slow)
    control, alerts = controlling(store, idle)
    create(store, "aaaaaaaa")
    create(store, "bbbbbbbb")
    seconds_until(control, lambda: control.held == ["bbbbbbbb"])
    store.send("bbbbbbbb", Pause())
    assert seconds_until(control, lambda: status(store, "bbbbbbbb") == "paused") < 2
    store.send("aaaaaaaa", Extend(evaluations=77))
    assert seconds_until(control, lambda: budget(store, "aaaaaaaa") == 77) < 2
    opened.set()
    seconds_until(control, lambda: control.held == ["aaaaaaaa"])
    # What was written meanwhile is known to the one that was opened.
    assert control._held["aaaaaaaa"].controller.state.target == 77
    control.close()
    alerts.close()


def budget(store: SqlStore, name: str) -> int:
    return Queries(store).search_row(name).budget


def test_a_snapshot_that_takes_long_keeps_nobody_waiting(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, asked = threading.Event(), threading.Event()

    def slow(state: State) -> str:
        asked.set()
        assert go.wait(60)
        return dump_state(state)

    monkeypatch.setattr("evosearch.controller.dump_state", slow)
    monkeypatch.setattr("evosearch.snapshot.LEAST_EVENTS", 40)
    control, alerts = controlling(store)
    create(store, "aaaaaaaa", "budget.evaluations=2000")
    step_until(control, asked.is_set)
    count = store.search("aaaaaaaa").last_seq
    store.send("aaaaaaaa", Extend(evaluations=77))
    store.send("aaaaaaaa", Pause())
    assert seconds_until(control, lambda: status(store, "aaaaaaaa") == "paused") < 2
    assert store.search("aaaaaaaa").last_seq == count + 2
    for _ in range(5):
        control.step()
    assert control.held == ["aaaaaaaa"]
    go.set()
    seconds_until(control, lambda: not control.held)
    snapshot = store.snapshot("aaaaaaaa")
    assert snapshot is not None
    assert snapshot.seq == count
    store.send("aaaaaaaa", Resume())
    step_until(control, lambda: store.search("aaaaaaaa").last_seq > count + 10)
    assert budget(store, "aaaaaaaa") == 77
    control.close()
    alerts.close()


def test_a_paused_search_is_not_read_anew_for_every_command(
    store: SqlStore, control: Controlling, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store, "aaaaaaaa", "budget.evaluations=2000")
    step_until(control, lambda: store.search("aaaaaaaa").evaluated >= 2)
    store.send("aaaaaaaa", Pause())
    step_until(control, lambda: status(store, "aaaaaaaa") == "paused" and not control.held)

    def never(*_: object) -> None:
        raise AssertionError("the whole log is read")

    monkeypatch.setattr("evosearch.controller.reopen", never)
    for number in range(2):
        store.send("aaaaaaaa", Enqueue(graph=parse(f"tanh(x + {number} * x)"), note="mine"))
        step_until(control, lambda: not RestQueries(store).commanded() and not control.held)
    store.send("aaaaaaaa", Resume())
    evaluated = store.search("aaaaaaaa").evaluated
    step_until(control, lambda: store.search("aaaaaaaa").evaluated > evaluated)


def test_a_search_that_finds_nothing_new_for_long_keeps_nobody_waiting(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Screen.judge

    def barren(screen: Screen, graph: Any, *more: Any) -> Verdict:
        time.sleep(0.002)
        found = judge(screen, graph, *more)
        return found._replace(code="constant") if screen._constraint is not None else found

    monkeypatch.setattr(Screen, "judge", barren)
    control, alerts = controlling(store, idle, 40)
    create(store, "aaaaaaaa", "space.where='live_nodes <= 9'")
    create(store, "bbbbbbbb")
    seconds_until(control, lambda: len(control.held) == 2)
    stuck = control._held["aaaaaaaa"].controller
    assert seconds_until(control, lambda: not stuck.filled) < 10
    store.send("bbbbbbbb", Pause())
    assert seconds_until(control, lambda: status(store, "bbbbbbbb") == "paused") < 2
    store.send("aaaaaaaa", Pause())
    assert seconds_until(control, lambda: status(store, "aaaaaaaa") == "paused") < 2
    control.close()
    alerts.close()
