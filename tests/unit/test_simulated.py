"""The simulated pool: when jobs begin and end, who is idle, and time that passes outside of it."""

from __future__ import annotations

import pytest

from evosearch.config import Anchor, Task
from evosearch.records import Job, JobDone, Run, Subject
from workers.simulated import SimulatedPool

TASK = Task(anchors=(Anchor(name="resnet"),))


def job(job_id: str) -> Job:
    runs = (Run(anchor="resnet", seed=0, learning_rate=0.1),)
    subject = Subject(baseline="bn-relu")
    return Job(id=job_id, purpose="baseline", subject=subject, graph=None, runs=runs, task=TASK)


def pool(workers: int, **seconds: float) -> SimulatedPool:
    return SimulatedPool(lambda one: (seconds[one.id], [JobDone(job_id=one.id)]), workers, 10)


def ids(found: SimulatedPool) -> list[str]:
    return [message.job_id for message in found.poll(0.0)]


def test_jobs_end_in_the_order_of_their_times_and_nobody_idles() -> None:
    made = pool(2, a=5.0, b=2.0, c=1.0)
    for name in "abc":
        made.submit(job(name))
    assert [(ids(made), made.now) for _ in range(3)] == [(["b"], 2.0), (["c"], 3.0), (["a"], 5.0)]
    assert made.idle == 2.0  # of the second worker, after c
    assert ids(made) == []


def test_waiting_jobs_begin_while_the_controller_is_at_something_else() -> None:
    made = pool(1, a=1.0, b=1.0, c=3.0)
    for name in "abc":
        made.submit(job(name))
    made.advance(10.0)
    assert ids(made) == ["a", "b", "c"]  # at 1, 2 and 5
    assert made.now == 10.0
    assert made.idle == 5.0


def test_a_worker_without_a_waiting_job_idles_until_one_is_submitted() -> None:
    made = pool(1, a=1.0, b=1.0)
    made.submit(job("a"))
    made.advance(4.0)
    assert ids(made) == ["a"]
    assert made.now == 4.0
    made.submit(job("b"))
    assert made.idle == 3.0
    assert ids(made) == ["b"]
    assert made.now == 5.0


def test_a_cancelled_job_frees_its_worker() -> None:
    made = pool(1, a=100.0, b=1.0)
    made.submit(job("a"))
    made.submit(job("b"))
    made.advance(3.0)
    made.cancel("a")
    assert ids(made) == ["b"]
    assert made.now == pytest.approx(4.0)
