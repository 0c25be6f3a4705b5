"""One pool for several searches: shares, and messages that reach the right one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from api.runner import _NoWorkers
from api.shared_pool import SharedPool
from evosearch.config import Anchor, Task
from evosearch.ports import Pool
from evosearch.records import Job, JobDone, Subject
from workers.cache import CachedPool, EvaluationCache
from workers.evaluate import Context
from workers.inline import InlinePool
from workers.simulated import SimulatedPool

TASK = Task(anchors=(Anchor(name="resnet"),))


def job(name: str) -> Job:
    return Job(id=name, purpose="search", subject=Subject(birth=1), graph=None, runs=(), task=TASK)


def pool(workers: int = 8) -> SharedPool:
    return SharedPool(SimulatedPool(lambda one: (1.0, [JobDone(job_id=one.id)]), workers))


def test_messages_reach_their_search_under_their_own_names() -> None:
    shared = pool()
    one, two = shared.view("aa"), shared.view("bb")
    shared.share({"aa": 1, "bb": 1})
    one.submit(job("c1"))
    two.submit(job("c1"))
    two.submit(job("c2"))
    assert shared.running() == {"aa": ["c1"], "bb": ["c1", "c2"]}
    while any(shared.running().values()):
        shared.pump(0.0)
    assert [message.job_id for message in one.poll(0.0)] == ["c1"]
    assert sorted(message.job_id for message in two.poll(0.0)) == ["c1", "c2"]
    assert one.poll(0.0) == []


def test_capacity_follows_priorities_and_nobody_starves() -> None:
    shared = pool(8)
    one, two, three = (shared.view(name) for name in ("aa", "bb", "cc"))
    assert one.capacity == 0
    shared.share({"aa": 30, "bb": 10})
    assert (one.capacity, two.capacity, three.capacity) == (6, 2, 0)
    shared.share({"aa": 100, "bb": 1, "cc": 1})
    assert (two.capacity, three.capacity) == (1, 1)
    shared.share({"cc": 1})
    assert (one.capacity, three.capacity) == (0, 8)


def test_a_cancelled_job_is_never_heard_of_again() -> None:
    shared = pool()
    one = shared.view("aa")
    one.submit(job("c1"))
    one.submit(job("c2"))
    shared.pump(0.0)
    one.cancel("c1")
    one.cancel("c2")
    shared.pump(0.0)
    assert one.poll(0.0) == []


def test_a_forgotten_search_leaves_nothing_behind() -> None:
    real = SimulatedPool(lambda one: (1.0, [JobDone(job_id=one.id)]), 4)
    shared = SharedPool(real)
    one = shared.view("aa")
    one.submit(job("c1"))
    shared.forget("aa")
    assert shared.pump(0.0) == 0
    assert real.poll(0.0) == []


def test_an_idle_search_leaves_its_share_to_the_others() -> None:
    shared = pool(12)
    one, two, three = (shared.view(name) for name in ("aa", "bb", "cc"))
    one.submit(job("c1"))
    shared.share({"aa": 1, "bb": 1, "cc": 1}, idle=["aa"])
    assert (one.capacity, two.capacity, three.capacity) == (1, 6, 6)
    for number in range(20):
        two.submit(job(f"c{number}"))
    # More at hand than its part: it is given no more, and takes nothing from the others.
    shared.share({"aa": 1, "bb": 1, "cc": 1}, idle=["aa", "bb"])
    assert (one.capacity, two.capacity, three.capacity) == (1, 6, 6)
    shared.share({"aa": 1, "bb": 1, "cc": 1}, idle=["aa", "bb", "cc"])
    assert three.capacity == 1
    shared.share({"aa": 1, "bb": 1, "cc": 2})
    assert (one.capacity, two.capacity, three.capacity) == (3, 3, 6)


class Quarters(SimulatedPool):
    """Workers that share a GPU by four."""

    gpu_share = 0.25


def test_every_pool_tells_what_of_a_gpu_a_worker_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also the view of one search, by which its GPU-hours would be counted."""
    real = Quarters(lambda one: (1.0, [JobDone(job_id=one.id)]))
    shared = SharedPool(CachedPool(real, EvaluationCache(tmp_path)))
    assert (shared.gpu_share, shared.view("aa").gpu_share) == (0.25, 0.25)
    plain: list[Pool] = [pool().view("aa"), InlinePool(Context(device="cpu")), _NoWorkers()]
    assert [one.gpu_share for one in plain] == [0.0] * 3
    monkeypatch.setattr("workers.inline.choose", torch.device)
    assert InlinePool(Context(device="cuda")).gpu_share == 1.0
