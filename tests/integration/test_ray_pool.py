"""Ray actors: jobs, death, hanging, cancelling, decoy folders, Ctrl-C and a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import ray

from evosearch.config import Anchor, Checks, Quality, Signal, Stability, Task
from evosearch.events import without_times
from evosearch.objectives import Objective
from evosearch.plugins import load, read_source
from evosearch.records import Job, JobDone, Run, Subject
from workers.inline import InlinePool
from workers.ray_pool import RayPool

ROOT = Path(__file__).resolve().parents[2]
CHECKS = Checks(
    signal=Signal(), quality=Quality(steps=5, accuracy=0.0), stability=Stability(steps=1)
)

NO_CHECKS = Checks(
    signal=Signal(enabled=False), quality=Quality(enabled=False), stability=Stability(enabled=False)
)
SENT = """
import evosearch as es

@es.evaluator("sent", objectives=[es.Objective("a", worst=0.0)])
def sent(layer, ctx):
    layer(4)
    return {"a": 0.5}
"""


def job(job_id="j1", steps=10, runs=1, **changed):
    settings = {
        "id": job_id,
        "purpose": "baseline",
        "subject": Subject(baseline="bn-relu"),
        "graph": None,
        "runs": tuple(Run(anchor="resnet", seed=seed, learning_rate=0.2) for seed in range(runs)),
        "task": Task(anchors=(Anchor(name="resnet"),), steps=steps, batch_size=32, select_rows=60),
        **changed,
    }
    return Job(**settings)


def endless(job_id="endless"):
    return job(job_id, steps=1_000_000)


def collect(pool, count, seconds=60.0):
    """Messages until so many jobs have ended; fails instead of waiting for ever."""
    messages, deadline = [], time.monotonic() + seconds
    while sum(isinstance(message, JobDone) for message in messages) < count:
        assert time.monotonic() < deadline, f"only {messages} after {seconds} s"
        messages += pool.poll(1.0)
    return messages


def fill(pool, count, seconds=60.0):
    """Wait until so many workers are up again."""
    deadline = time.monotonic() + seconds
    while len(pool._actors) < count:
        assert time.monotonic() < deadline
        assert pool.poll(0.1) == []


def ends(messages):
    return {message.job_id: message for message in messages if isinstance(message, JobDone)}


def worker_pids(pool):
    return {
        actor.name: ray.get(actor.handle.ready.remote()) for actor in pool._actors if not actor.jobs
    }


@pytest.fixture(scope="class")
def pool():
    pool = RayPool(2)
    yield pool
    pool.close()
    assert not ray.is_initialized()


class TestOnePool:
    """One start of Ray for all of these; what one kills, the pool must replace."""

    def test_jobs_stream_back_and_equal_the_inline_pools(self, pool):
        assert pool.capacity == 6
        assert pool.poll(0.1) == []
        jobs = [job(f"j{n}", runs=2, checks=CHECKS if n % 2 else None) for n in range(5)]
        for work in jobs:
            pool.submit(work)
        messages = collect(pool, 5)
        assert len({message.worker for message in ends(messages).values()}) == 2
        inline, expected = InlinePool(), []
        for work in jobs:
            inline.submit(work)
        while new := inline.poll(0.0):
            expected += new
        for work in jobs:
            ours, theirs = (
                without_times([m.model_dump(mode="json") for m in log if m.job_id == work.id])
                for log in (messages, expected)
            )
            assert ours == theirs
        assert not [message for message in messages if getattr(message, "failure", None)]

    def test_a_killed_worker_is_a_recorded_failure_and_the_next_job_works(self, pool):
        pids = worker_pids(pool)
        pool.submit(endless("a"))
        time.sleep(0.5)
        victim = next(actor for actor in pool._actors if actor.jobs)
        os.kill(pids[victim.name], signal.SIGKILL)
        done = ends(collect(pool, 1))["a"]
        assert done.failure.cause == "died"
        assert done.worker == victim.name
        assert "\n" not in done.failure.detail
        pool.submit(job("after"))
        assert ends(collect(pool, 1))["after"].failure is None
        fill(pool, 2)
        assert pool.capacity == 6

    def test_the_report_names_who_works_who_waits_and_who_died(self, pool):
        pids = worker_pids(pool)
        pool.submit(endless("e"))
        time.sleep(0.5)
        pool.poll(0.0)
        told = {one.name: one for one in pool.workers() if one.state != "dead"}
        victim = next(actor for actor in pool._actors if actor.jobs)
        assert sorted(one.state for one in told.values()) == ["busy", "idle"]
        assert (told[victim.name].state, told[victim.name].job) == ("busy", "e")
        os.kill(pids[victim.name], signal.SIGKILL)
        collect(pool, 1)
        after = {one.name: one for one in pool.workers()}
        assert after[victim.name].state == "dead"
        assert after[victim.name].failures == {"died": 1}
        living = [one for one in after.values() if one.state != "dead"]
        assert len(living) == 2
        assert "busy" not in {one.state for one in living}
        deadline = time.monotonic() + 60
        while {one.state for one in pool.workers()} != {"idle", "dead"}:
            assert time.monotonic() < deadline
            pool.poll(0.1)

    def test_jobs_behind_a_killed_one_are_not_lost(self, pool):
        pids = worker_pids(pool)
        for name in ("a", "b"):
            pool.submit(endless(name).model_copy(update={"checks": NO_CHECKS}))
        for name in ("c", "d"):
            pool.submit(job(name, checks=NO_CHECKS))
        assert [len(actor.jobs) for actor in pool._actors] == [2, 2]
        time.sleep(0.5)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        done = ends(collect(pool, 4))
        assert {name: end.failure is not None for name, end in done.items()} == {
            "a": True, "b": True, "c": False, "d": False,
        }  # fmt: skip

    def test_a_plugin_of_a_job_that_was_taken_back_is_sent_with_the_next(self, pool, tmp_path):
        """What was on its way to a worker and cancelled has not arrived there."""
        file = tmp_path / "sent.py"
        file.write_text(SENT)
        plugin = load(read_source(str(file))).plugin
        file.unlink()
        anchor = Anchor(name="sent", objectives=(Objective("a", worst=0.0),))
        task = Task(anchors=(anchor,), steps=2, plugins=(plugin,))
        run = Run(anchor="sent", seed=0, learning_rate=0.2)

        def own(name):
            return job(name, checks=NO_CHECKS, runs=0).model_copy(
                update={"task": task, "runs": (run,)}
            )

        fill(pool, 2)
        for name in ("a", "b"):
            pool.submit(job(name, steps=300, checks=NO_CHECKS))
        for name in ("c", "d"):
            pool.submit(own(name))
        assert [len(actor.jobs) for actor in pool._actors] == [2, 2]
        for name in ("c", "d"):
            pool.cancel(name)
        assert all(one.failure is None for one in ends(collect(pool, 2)).values())
        for name in ("e", "f", "g", "h"):
            pool.submit(own(name))
        done = ends(collect(pool, 4))
        assert {name: one.failure for name, one in done.items()} == dict.fromkeys("efgh")
        assert all(plugin.sha256 in actor.has for actor in pool._actors)

    def test_cancelled_jobs_say_nothing_more(self, pool):
        names = ("a", "b", "c", "d", "e", "f")
        fill(pool, 2)
        before = {actor.name for actor in pool._actors}
        for name in names:
            pool.submit(endless(name).model_copy(update={"checks": CHECKS}))
        time.sleep(0.3)
        for name in names:
            pool.cancel(name)
        pool.cancel("never-heard-of")
        begin = time.monotonic()
        pool.submit(job("after"))
        messages = collect(pool, 1)
        assert time.monotonic() - begin < 4.0, "cancelled jobs end at their next step"
        assert {message.job_id for message in messages} == {"after"}
        assert {actor.name for actor in pool._actors} == before, "and no worker is killed"
        assert pool.poll(0.5) == []


DECOY_SCRIPT = textwrap.dedent(
    """
    import os, signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    sys.path.insert(0, ROOT)
    from evosearch.config import Anchor, Task
    from evosearch.records import Job, Run, Subject
    from workers.ray_pool import RayPool

    pool = RayPool(1)
    print("started", flush=True)
    work = Job(
        id="j", purpose="baseline", subject=Subject(baseline="bn-relu"), graph=None,
        runs=tuple(Run(anchor="resnet", seed=n, learning_rate=0.2) for n in range(8)),
        task=Task(anchors=(Anchor(name="resnet"),), steps=100),
    )
    pool.submit(work)
    interrupts, messages = 0, []
    while not messages or messages[-1].kind != "job_done":
        try:
            messages += pool.poll(1.0)
        except KeyboardInterrupt:
            interrupts += 1
    print(interrupts, len(messages), messages[-1].failure, flush=True)
    pool.close()
    """
)


def test_decoy_folders_are_not_imported_and_ctrl_c_spares_the_workers(tmp_path):
    for name in ("api", "db", "workers", "primitives", "evosearch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('decoy')\n")
    (tmp_path / "own.py").write_text(f"ROOT = {str(ROOT)!r}\n" + DECOY_SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "own.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "started\n", process.stderr.read()
        time.sleep(0.7)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out == "1 9 None\n", err
    assert err == ""
    assert process.returncode == 0
