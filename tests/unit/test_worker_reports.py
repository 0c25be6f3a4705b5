"""What pools say of their workers."""

from __future__ import annotations

from api.shared_pool import SharedPool
from evosearch.ports import WorkerReport
from evosearch.records import JobDone
from tests.unit.test_shared_pool import job
from workers.reports import DEAD_SECONDS, Reports
from workers.simulated import SimulatedPool


def test_a_report_says_since_when_and_what_went_wrong() -> None:
    now = [100.0]
    reports = Reports(lambda: now[0])
    assert reports.told([("a", None, None)]) == [WorkerReport("a", "starting", None, 0.0)]
    now[0] = 103.0
    assert reports.told([("a", None, "j1")])[0].state == "starting"  # jobs may wait at it already
    assert reports.told([("a", "busy", "j1")]) == [WorkerReport("a", "busy", "j1", 0.0)]
    now[0] = 105.0
    reports.failed("a", "error")
    assert reports.told([("a", "busy", "j1")]) == [
        WorkerReport("a", "busy", "j1", 2.0, {"error": 1})
    ]
    (asked,) = reports.told([("a", None, "j1")])  # it is asked whether it lives, and works on
    assert (asked.state, asked.seconds) == ("busy", 2.0)
    (other,) = reports.told([("a", "busy", "j2")])
    assert (other.job, other.seconds) == ("j2", 0.0)


def test_the_dead_are_told_of_for_an_hour_beside_who_took_their_place() -> None:
    now = [0.0]
    reports = Reports(lambda: now[0])
    reports.told([("a", "busy", "j1")])
    reports.failed("a", "died")
    reports.gone("a")
    now[0] = 10.0
    assert reports.told([("b", None, None)]) == [
        WorkerReport("b", "starting", None, 0.0),
        WorkerReport("a", "dead", None, 10.0, {"died": 1}),
    ]
    now[0] = DEAD_SECONDS + 1.0
    assert [one.name for one in reports.told([("b", "idle", None)])] == ["b"]


def test_a_shared_pool_says_whose_job_a_worker_is_at() -> None:
    shared = SharedPool(SimulatedPool(lambda one: (1.0, [JobDone(job_id=one.id)]), 2, 4))
    view = shared.view("aa")
    for name in ("c1", "c2", "c3"):
        view.submit(job(name))
    told = shared.workers()
    assert [(search, one.state, one.job) for search, one in told] == [
        ("aa", "busy", "c1"), ("aa", "busy", "c2"),
    ]  # fmt: skip
    shared.forget("aa")
    assert [(search, one.state, one.job) for search, one in shared.workers()] == [
        (None, "idle", None), (None, "idle", None),
    ]  # fmt: skip
