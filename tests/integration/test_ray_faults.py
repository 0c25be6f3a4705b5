"""Ray workers that run out of memory, are told to go, join late, or train to NaN."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import ray

from evosearch.config import Anchor, Checks, Quality, Signal, Stability, Task
from evosearch.errors import WorkerError
from evosearch.records import EvaluationDone, Job, JobDone, Run, Subject
from primitives.graph import Graph, Node
from workers import ray_pool
from workers.inline import InlinePool
from workers.ray_pool import RayPool

ROOT = Path(__file__).resolve().parents[2]
CUBE = Graph((Node("square", (0,)), Node("mul", (0, 4))))
UNCHECKED = Checks(
    signal=Signal(enabled=False), quality=Quality(enabled=False), stability=Stability(enabled=False)
)


def job(job_id="j1", steps=10, batch_size=32, **changed):
    settings = {
        "id": job_id,
        "purpose": "baseline",
        "subject": Subject(baseline="bn-relu"),
        "graph": None,
        "runs": (Run(anchor="resnet", seed=0, learning_rate=0.2),),
        "task": Task(
            anchors=(Anchor(name="resnet"),), steps=steps, batch_size=batch_size, select_rows=60
        ),
        **changed,
    }
    return Job(**settings)


def collect(pool, count, seconds=120.0):
    messages, deadline = [], time.monotonic() + seconds
    while sum(isinstance(message, JobDone) for message in messages) < count:
        assert time.monotonic() < deadline, f"only {messages} after {seconds} s"
        messages += pool.poll(1.0)
    return messages


def up(pool, seconds=60.0):
    """Wait until the worker is up again."""
    deadline = time.monotonic() + seconds
    while not pool._actors:
        assert time.monotonic() < deadline
        assert pool.poll(0.1) == []


def ends(messages):
    return {message.job_id: message for message in messages if isinstance(message, JobDone)}


def cpu_seconds(pid):
    """What the process has computed so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def pool(folder):
    # A Ray of two CPUs with one worker, so that there is room for another one.
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="error", object_store_memory=80 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )  # fmt: skip
    made = RayPool(1, gpu_share=0.0, memory_limit=3 * 2**30, checkpoints=str(folder))
    yield made
    made.close()
    ray.shutdown()


def test_a_preempted_training_goes_on_where_it_was(pool, folder):
    pid = ray.get(pool._actors[0].handle.ready.remote())
    work = job("long", steps=900)
    rested = cpu_seconds(pid)
    pool.submit(work)
    while cpu_seconds(pid) < rested + 0.6:  # in the middle of training, however busy the machine
        assert pool.poll(0.05) == []
    os.kill(pid, signal.SIGTERM)
    failure = ends(collect(pool, 1))["long"].failure
    assert failure.cause == "preempted"
    assert "told to go at step" in failure.detail
    step = int(failure.detail.split("at step ")[1].split()[0])
    assert 0 < step < 900
    assert len(list(folder.iterdir())) == 1
    pool.submit(work.model_copy(update={"attempt": 2}))
    messages = collect(pool, 1)
    assert pool._settings["device"] == "cpu"  # no share of a GPU is none of it
    evaluation = next(m.evaluation for m in messages if isinstance(m, EvaluationDone))
    steps = sum(check.steps for m in messages for check in m.checks)
    assert steps == 900 - step
    assert list(folder.iterdir()) == []
    inline = InlinePool()
    inline.submit(work)
    whole = inline.poll(0.0)[0].evaluation
    assert (evaluation.score, evaluation.curve) == (whole.score, whole.curve)


def test_a_worker_that_died_idle_is_replaced_before_a_job_meets_it(pool, monkeypatch):
    monkeypatch.setattr(ray_pool, "SIGN_SECONDS", 0.1)
    up(pool)
    name, dead = pool._actors[0].name, ray.get(pool._actors[0].handle.ready.remote())
    os.kill(dead, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while name in {actor.name for actor in pool._actors}:
        assert time.monotonic() < deadline
        assert pool.poll(0.0) == []
        time.sleep(0.05)
    up(pool)
    assert ray.get(pool._actors[0].handle.ready.remote()) != dead
    replaced = pool._actors[0].name
    for _ in range(20):  # one that lives is left alone
        pool.poll(0.0)
        time.sleep(0.05)
    assert pool._actors[0].name == replaced
    pool.submit(job("after death"))
    assert ends(collect(pool, 1))["after death"].failure is None


def test_a_pool_that_closes_keeps_its_training_and_leaves_anothers_ray_running(pool, folder):
    """The last of this file, for it closes the pool."""
    up(pool)
    pid = ray.get(pool._actors[0].handle.ready.remote())
    pool.submit(job("last"))
    assert ends(collect(pool, 1))["last"].failure is None
    rested = cpu_seconds(pid)
    pool.submit(job("long", steps=900))
    while cpu_seconds(pid) < rested + 0.3:
        assert pool.poll(0.05) == []
    pool.close()
    assert [path.suffix for path in folder.iterdir()] == [".pt"]
    pool.close()
    assert ray.is_initialized()
    with pytest.raises(WorkerError, match="closed"):
        pool.submit(job())
