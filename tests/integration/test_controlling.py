"""The controller of many searches: picks them up, obeys within moments, isolates trouble."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import bindparam, update

from api.alerts import Alerts
from api.controlling import POLL_SECONDS, Controlling
from api.lease import Keeper
from api.shared_pool import SharedPool
from api.stop_rules import StopRules
from db.controllers import Controllers
from db.queries import Queries
from db.schema import evaluations, events
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from db.worked import LEAST_SILENCE, LONGEST_SILENCE, worked_seconds
from evosearch import events as ev
from evosearch.errors import NotFound
from evosearch.ports import Pause, Remeasure, Resume
from evosearch.presets import load_preset
from evosearch.records import CheckRun, Job, JobDone, Message, Rejection
from evosearch.state import State, recover
from tests.simulated_worker import answer
from tests.support.controlling import control, controlling, create, status, step_until, store
from workers.simulated import SimulatedPool

__all__ = ["control", "store"]


def test_searches_created_by_rows_run_side_by_side_to_their_end(
    store: SqlStore, control: Controlling
) -> None:
    create(store, "aaaaaaaa", "evolution.warm_up=4")
    create(store, "bbbbbbbb", "evolution.warm_up=4", priority=90)
    ends = ("aaaaaaaa", "bbbbbbbb")
    step_until(control, lambda: all(status(store, one) == "finished" for one in ends))
    logs = [[json.loads(ev.dump_event(entry.event)) for entry in store.events(one)] for one in ends]
    assert [log[-1]["kind"] for log in logs] == ["status_changed"] * 2
    assert control.held == []
    # The same config met the same workers: its random streams do not know the search's id.
    assert [e["graph"] for e in logs[0] if e["kind"] == "candidate_queued"][:5] == [
        e["graph"] for e in logs[1] if e["kind"] == "candidate_queued"
    ][:5]


def test_pause_resume_and_remeasure_are_obeyed(store: SqlStore, control: Controlling) -> None:
    create(store, "aaaaaaaa", "budget.evaluations=2000")
    step_until(control, lambda: store.search("aaaaaaaa").evaluated >= 3)
    births = [
        entry.event.birth for entry in store.events("aaaaaaaa")
        if isinstance(entry.event, ev.CandidateEvaluated)
    ]  # fmt: skip
    store.send("aaaaaaaa", Remeasure(birth=births[0], seeds=2))

    def measured() -> bool:
        return sum(
            isinstance(e.event, ev.JobFinished) and e.event.purpose == "remeasure"
            for e in store.events("aaaaaaaa")
        ) >= 2  # fmt: skip

    step_until(control, measured)
    begin = time.monotonic()
    store.send("aaaaaaaa", Pause())
    step_until(control, lambda: status(store, "aaaaaaaa") == "paused")
    assert time.monotonic() - begin < 60
    assert control.held == []
    store.send("aaaaaaaa", Resume())
    step_until(control, lambda: status(store, "aaaaaaaa") == "running")


def test_a_deleted_search_is_let_go(store: SqlStore, control: Controlling) -> None:
    create(store, "aaaaaaaa", "budget.evaluations=2000")
    create(store, "bbbbbbbb")
    step_until(control, lambda: store.search("aaaaaaaa").evaluated >= 2)
    ServiceWrites(store).delete("aaaaaaaa")
    step_until(control, lambda: status(store, "bbbbbbbb") == "finished")
    assert control.held == []
    with pytest.raises(NotFound):
        store.search("aaaaaaaa")


def test_delete_and_priority_are_acted_on_within_two_seconds(
    store: SqlStore, tmp_path: Path
) -> None:
    def slow(job: Job) -> tuple[float, Sequence[Message]]:
        return 1e9, []  # no message comes that the controller could notice it by

    pool, now = SharedPool(SimulatedPool(slow, 10)), [0.0]
    alerts = Alerts(None, None, 3600.0)
    control = Controlling(store, pool, "me", alerts=alerts, clock=lambda: now[0])

    def seconds_until(done: Callable[[], bool]) -> float:
        """By a clock that moves at each step by all that a step may wait."""
        begin = now[0]
        while not done():
            assert now[0] - begin < 60, "it did not come to that"
            now[0] += POLL_SECONDS
            control.step()
        return now[0] - begin

    def shares() -> dict[str, int]:
        return {search: len(jobs) for search, jobs in pool.running().items()}

    create(store, "aaaaaaaa")
    create(store, "bbbbbbbb")
    seconds_until(lambda: shares() == {"aaaaaaaa": 5, "bbbbbbbb": 5})
    ServiceWrites(store).annotate("bbbbbbbb", priority=40)
    assert seconds_until(lambda: shares()["bbbbbbbb"] == 8) < 2
    ServiceWrites(store).delete("bbbbbbbb")
    assert seconds_until(lambda: control.held == ["aaaaaaaa"]) < 2
    assert seconds_until(lambda: shares() == {"aaaaaaaa": 10}) < 2
    control.close()
    alerts.close()


@pytest.mark.parametrize("limit", ["budget.train_steps=2000", "budget.no_gain=4"])
def test_a_limit_ends_the_search_phase_and_is_confirmed(
    store: SqlStore, control: Controlling, limit: str
) -> None:
    create(store, "aaaaaaaa", "budget.evaluations=2000", limit)
    step_until(control, lambda: status(store, "aaaaaaaa") == "finished", 20_000)
    info = store.search("aaaaaaaa")
    assert info.evaluated < 100
    kinds = [entry.event.kind for entry in store.events("aaaaaaaa")]
    assert "budget_changed" in kinds
    assert "reported" in kinds


def test_hours_count_over_restarts_and_idle_time_does_not(
    store: SqlStore, control: Controlling
) -> None:
    limits = ("budget.evaluations=2000", "budget.hours=2.0")
    create(store, "aaaaaaaa", *limits)
    step_until(control, lambda: store.search("aaaaaaaa").evaluated >= 3)
    control.close()
    count = store.search("aaaaaaaa").last_seq
    assert count > 14
    assert worked_seconds(store, "aaaaaaaa") < 600
    with store.engine.begin() as connection:
        connection.execute(update(evaluations).values(seconds=LONGEST_SILENCE))
    # As if it had run for an hour and a half, then a night had passed, then the same again.
    age(store, "aaaaaaaa", [5400.0 * seq / count for seq in range(count)])
    assert worked_seconds(store, "aaaaaaaa") == pytest.approx(5400 * (count - 2) / count, abs=1)
    half = count // 2
    times = [5400.0 * seq / half + (36_000.0 if seq > half else 0.0) for seq in range(count)]
    age(store, "aaaaaaaa", times)
    worked = worked_seconds(store, "aaaaaaaa")
    assert worked == pytest.approx(2 * 5400 + LONGEST_SILENCE, rel=0.1)
    with store.engine.begin() as connection:  # its trainings explain no more than seconds
        connection.execute(update(evaluations).values(seconds=1.0))
    assert worked_seconds(store, "aaaaaaaa") == pytest.approx(LEAST_SILENCE * (count - 2), rel=0.01)
    with store.engine.begin() as connection:
        connection.execute(update(evaluations).values(seconds=LONGEST_SILENCE))
    step_until(control, lambda: status(store, "aaaaaaaa") == "finished", 20_000)
    assert store.search("aaaaaaaa").evaluated < 100


@pytest.mark.parametrize("limit", ["budget.hours=0.0001", "budget.train_steps=100"])
def test_a_limit_ends_a_search_whose_candidates_are_all_rejected(
    store: SqlStore, limit: str
) -> None:
    def hopeless(job: Job) -> tuple[float, Sequence[Message]]:
        if job.purpose != "search":
            return answer(job)
        check = CheckRun(check="quality", anchor="resnet", seconds=0.1, steps=40)
        return 0.01, [JobDone(job_id=job.id, checks=(check,), rejection=Rejection(code="quality"))]

    control, alerts = controlling(store, hopeless)
    create(store, "aaaaaaaa", limit)
    begin = time.monotonic()
    step_until(control, lambda: status(store, "aaaaaaaa") == "finished")
    assert time.monotonic() - begin < 30
    report = next(e.event.report for e in store.events("aaaaaaaa") if e.event.kind == "reported")
    assert report["leader"] is None
    assert "are used up" in report["verdict"]
    control.close()
    alerts.close()


def test_the_target_is_reached_on_fresh_seeds_by_the_anchors_scores(
    store: SqlStore, control: Controlling
) -> None:
    create(store, "aaaaaaaa", "budget.evaluations=2000", "budget.target=0.7",
           "evolution.challenge_top=3", "evolution.remeasure_share=0.5")  # fmt: skip
    step_until(control, lambda: status(store, "aaaaaaaa") == "finished", 20_000)
    log = [*store.events("aaaaaaaa")]
    (ended,) = [e for e in log if e.event.kind == "budget_changed"]
    state = recover(e for e in log if e.seq < ended.seq)
    assert state.confirmed is not None
    assert state.confirmed >= 0.7
    assert ended.event.reason == f"the target 0.7 is reached: {state.confirmed:.4f}"


def test_a_restart_forgets_no_gain(store: SqlStore) -> None:
    create(store, "aaaaaaaa", "budget.evaluations=2000", "budget.no_gain=12",
           "evolution.remeasure_share=0.0")  # fmt: skip
    for _ in range(100):
        control, alerts = controlling(store)
        before = store.search("aaaaaaaa").evaluated
        # Each controller sees less than it takes to give up.
        step_until(
            control, lambda before=before: store.search("aaaaaaaa").evaluated >= before + 4
            or status(store, "aaaaaaaa") == "finished",
        )  # fmt: skip
        control.close()
        alerts.close()
        if Queries(store).search_row("aaaaaaaa").phase != "search":
            break
    assert store.search("aaaaaaaa").evaluated < 100


def age(store: SqlStore, name: str, seconds: list[float]) -> None:
    """Sets the times of a search's events, counted from now on."""
    now = datetime.now(UTC)
    rows = [{"number": seq, "moment": now + timedelta(seconds=after)}
            for seq, after in enumerate(seconds, 1)]  # fmt: skip
    change = (
        update(events)
        .where(events.c.search_id == name, events.c.seq == bindparam("number"))
        .values(at=bindparam("moment"))
    )
    with store.engine.begin() as connection:
        connection.execute(change, rows)


def test_pauses_are_no_work(store: SqlStore, control: Controlling) -> None:
    create(store, "aaaaaaaa", "budget.evaluations=2000")
    step_until(control, lambda: store.search("aaaaaaaa").evaluated >= 2)
    store.send("aaaaaaaa", Pause())
    step_until(control, lambda: status(store, "aaaaaaaa") == "paused")
    paused = store.search("aaaaaaaa").last_seq
    store.send("aaaaaaaa", Resume())
    step_until(control, lambda: store.search("aaaaaaaa").last_seq > paused + 1)
    control.close()
    count = store.search("aaaaaaaa").last_seq
    age(store, "aaaaaaaa", [0.0 if seq <= paused else 1000.0 for seq in range(1, count + 1)])
    assert worked_seconds(store, "aaaaaaaa") == 0.0


def test_gpu_hours_are_those_of_the_workers() -> None:
    config = load_preset("quickstart", ["budget.gpu_hours=1.0"])
    state = State(ev.Created(config=config))
    state.evaluated = 1
    spent, now = 0.0, 0.0
    rules = StopRules(0.5, lambda: now, worker_seconds=lambda: spent)
    assert rules.due(state) is None
    spent = 7000.0
    now = 61.0
    assert rules.due(state) is None
    spent, now = 7200.0, 122.0
    assert rules.due(state) == "1 GPU-hours are used up"


def test_alerts_reach_the_command_once(store: SqlStore, tmp_path: Path) -> None:
    hook = tmp_path / "hook.sh"
    hook.write_text(f"#!/bin/sh\ncat >> {tmp_path}/alerts\necho >> {tmp_path}/alerts\n")
    hook.chmod(0o755)
    alerts = Alerts(None, str(hook), 3600.0, disk_free=lambda: (5, "data"))
    control = Controlling(store, SharedPool(SimulatedPool(answer, 4)), "me", alerts=alerts)
    create(store, "aaaaaaaa")
    step_until(control, lambda: status(store, "aaaaaaaa") == "finished")
    control.close()
    alerts.close()
    told = [json.loads(line) for line in (tmp_path / "alerts").read_text().split("\n") if line]
    kinds = [one["alert"] for one in told]
    assert kinds.count("finished") == 1
    assert kinds.count("disk_nearly_full") == 1


def test_the_keeper_of_a_deleted_searchs_lease_says_so(store: SqlStore) -> None:
    create(store, "aaaaaaaa")
    lease = store.acquire("aaaaaaaa", "me", 60)
    with Keeper(store, lease, every=0.01) as keeper:
        ServiceWrites(store).delete("aaaaaaaa")
        for _ in range(3000):
            time.sleep(0.01)
            try:
                keeper.check()
            except NotFound:
                break
        else:
            raise AssertionError("the keeper did not notice")


def test_the_beat_tells_what_the_pool_sees_and_invents_nothing(store: SqlStore) -> None:
    """Jobs that wait for a worker are nobody's: they keep none busy."""
    pool = SimulatedPool(answer, 2, 6)
    alerts = Alerts(None, None, 3600.0)
    control = Controlling(store, SharedPool(pool), "me", alerts=alerts)
    Controllers(store).register("me", "here", 1, "simulated", {})
    create(store, "aa")
    step_until(control, lambda: len(pool._waiting) > 2)
    control._beat()
    (row,) = Controllers(store).list()
    assert [one["state"] for one in row.workers] == ["busy", "busy"]
    assert {one["search"] for one in row.workers} == {"aa"}
    running = {job.partition(":")[2] for _, _, job, _ in pool._running}
    assert {one["job"] for one in row.workers} == running
    control.close()
    control._beat()
    (row,) = Controllers(store).list()
    assert [one["state"] for one in row.workers] == ["idle", "idle"]
    alerts.close()
