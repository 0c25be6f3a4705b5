"""Faults of Ray workers inside a search: nothing finished is lost, nothing is done twice, the cause
is recorded, and the search completes its budget."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from api.cli import run
from db.memory import MemoryStore
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch.config import (
    Anchor,
    Budget,
    Checks,
    Confirmation,
    Quality,
    SearchConfig,
    Signal,
    Space,
    Stability,
    Task,
)
from evosearch.controller import Controller
from evosearch.plugins import load, read_source
from evosearch.ports import Pause, Resume, Stop, Store
from evosearch.records import Job, Message, Run
from evosearch.replay import replay
from workers.ray_actor import Worker
from workers.ray_pool import SIGN_SECONDS, RayPool
from workers.ray_start import start_actor

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = ROOT / "tests" / "support" / "sleeper.py"
UNCHECKED = Checks(
    signal=Signal(enabled=False), quality=Quality(enabled=False), stability=Stability(enabled=False)
)
ID = "aaaa2345"
HANG, SHORT = 10.0, 4.0
FIRST = "max(x / rms_batch(x), zero)"
"""The first candidate of each search, to which things happen."""


@pytest.fixture(scope="module")
def ray_pool() -> Iterator[RayPool]:
    # A Ray of three CPUs with two workers, so that there is room for another one.
    ray.init(
        address="local", num_cpus=3, include_dashboard=False, log_to_driver=False,
        logging_level="error", object_store_memory=80 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )  # fmt: skip
    # Workers that stand back for other tests would be taken for hung.
    made = RayPool(2, memory_limit=3 * 2**30, hang_seconds=HANG, nice=0)
    yield made
    made.close()
    ray.shutdown()


class Changed:
    """The pool, to which the first candidate's job comes changed; everything else as it is."""

    def __init__(self, pool: RayPool, change: Callable[[Job], Job]) -> None:
        self.pool, self.change = pool, change
        self.submitted: list[str] = []
        self.cancel, self.close = pool.cancel, pool.close

    @property
    def capacity(self) -> int:
        return self.pool.capacity

    def submit(self, job: Job) -> None:
        self.submitted.append(job.id)
        self.pool.submit(self.change(job) if job.id == "c0" else job)

    def poll(self, timeout: float) -> list[Message]:
        return self.pool.poll(timeout)


class Search:
    """A small search over the pool, whose first candidate's job is changed."""

    def __init__(
        self, pool: RayPool, change: Callable[[Job], Job] = lambda job: job,
        start_from: tuple[str, ...] = (FIRST,), evaluations: int = 4, store: Store | None = None,
    ) -> None:  # fmt: skip
        self.config = SearchConfig(
            space=Space(start_from=start_from),
            task=Task(anchors=(Anchor(name="resnet"),), steps=5, batch_size=32, select_rows=60),
            checks=UNCHECKED,
            baselines=(),
            budget=Budget(evaluations=evaluations),
            confirmation=Confirmation(enabled=False),
        )
        self.store = store or MemoryStore()
        self.store.create(ID, "test", ev.Created(config=self.config))
        self.pool = Changed(pool, change)
        self.controller = Controller(self.store, self.pool, self.store.acquire(ID, "me", 3600))

    def until(self, done: Callable[[], bool], seconds: float = 120.0) -> None:
        """Step until then; fails instead of waiting for ever."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, (self.controller.state.failures, self.events()[-3:])
            self.controller.step(0.2)

    def events(self) -> list[ev.Event]:
        return [entry.event for entry in self.store.events(ID)]

    def kinds(self, kind: str) -> list[ev.Event]:
        return [event for event in self.events() if event.kind == kind]

    def worker(self) -> int:
        """Process id of the worker that trains the first candidate, once it is at it."""
        found: list[int] = []

        def at_it() -> bool:
            found.extend(filter(None, [at_work(self.pool.pool, "c0")]))
            return bool(found)

        self.until(at_it)
        return found[0]

    def finish(self) -> None:
        """Go on to the end, and see that nothing was lost or done twice."""
        self.until(lambda: self.controller.over)
        state = self.controller.state
        assert state.status == "finished"
        assert state.evaluated >= self.config.budget.evaluations
        runs = Counter(
            (one.job_id, one.evaluation.anchor, one.evaluation.seed)
            for one in self.events()
            if isinstance(one, ev.EvaluationRecorded)
        )
        assert set(runs.values()) == {1}
        evaluated = [e.birth for e in self.events() if isinstance(e, ev.CandidateEvaluated)]
        assert len(evaluated) == len(set(evaluated)) == state.evaluated
        assert replay(self.store.events(ID)).difference is None


def longer(job: Job) -> Job:
    """The job with a training of many minutes."""
    return job.model_copy(update={"task": job.task.model_copy(update={"steps": 100_000})})


def at_work(pool: RayPool, job_id: str) -> int:
    """Process id of the worker that has the job, once it has taken some steps; 0 before."""
    for actor in pool._actors:
        if actor.jobs and actor.jobs[0].job.id == job_id:
            beats, _ = ray.get(
                actor.handle.alive.options(concurrency_group="signs").remote(), timeout=30
            )
            pid: int = PIDS[actor.name] if beats > actor.beats + 3 else 0
            return pid
    return 0


PIDS: dict[str, int] = {}


@pytest.fixture(autouse=True)
def full(ray_pool: RayPool) -> None:
    """Two workers that are up, whose process ids are known."""
    deadline = time.monotonic() + 120
    while len(ray_pool._actors) < 2:
        assert time.monotonic() < deadline
        assert ray_pool.poll(0.2) == []
    for actor in ray_pool._actors:
        if actor.name not in PIDS:
            PIDS[actor.name] = ray.get(actor.handle.ready.remote())


def test_a_worker_killed_in_the_middle_of_a_training(ray_pool: RayPool) -> None:
    search = Search(ray_pool, lambda job: longer(job) if job.attempt == 1 else job)
    os.kill(search.worker(), signal.SIGKILL)
    search.finish()
    (lost,) = search.kinds("job_lost")
    assert isinstance(lost, ev.JobLost)
    assert (lost.id, lost.failure.cause) == ("c0", "died")
    assert 0 in search.controller.state.front.points, "its retry was evaluated"


def test_a_preempted_worker_costs_no_life(ray_pool: RayPool) -> None:
    search = Search(ray_pool, lambda job: longer(job) if job.attempt == 1 else job)
    os.kill(search.worker(), signal.SIGTERM)
    search.finish()
    # On a busy machine another job may stand still for so long that it is taken for hung.
    lost = [one for one in search.kinds("job_lost") if getattr(one, "id", "") == "c0"]
    assert [one.failure.cause for one in lost] == ["preempted"], lost
    assert "told to go at step" in lost[0].failure.detail


def test_a_candidate_that_allocates_without_end(ray_pool: RayPool) -> None:
    greedy = {"batch_size": 3_000_000, "steps": 1}  # 6 GB behind the first layer

    def change(job: Job) -> Job:
        return job.model_copy(update={"task": job.task.model_copy(update=greedy)})

    search = Search(ray_pool, change)
    search.finish()
    (lost,) = search.kinds("job_lost")
    (failed,) = search.kinds("candidate_failed")
    assert isinstance(lost, ev.JobLost)
    assert isinstance(failed, ev.CandidateFailed)
    assert (lost.failure.cause, failed.failure.cause) == ("out_of_memory", "out_of_memory")
    assert lost.worker != failed.worker, "the retry went to another worker"
    assert failed.quarantined
    assert len(ray_pool._actors) == 2, "both workers live on"


def test_a_candidate_that_sleeps_for_ever(
    ray_pool: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_hang_seconds", SHORT)
    plugin = load(read_source(str(SLEEPER))).plugin

    def change(job: Job) -> Job:
        task = Task(anchors=(Anchor(name="sleeper"),), plugins=(plugin,))
        runs = (Run(anchor="sleeper", seed=0, learning_rate=0.1),)
        return job.model_copy(update={"task": task, "runs": runs})

    search = Search(ray_pool, change)
    search.until(lambda: bool(search.kinds("candidate_failed")))
    search.finish()
    (lost,) = search.kinds("job_lost")
    (failed,) = search.kinds("candidate_failed")
    assert isinstance(lost, ev.JobLost)
    assert isinstance(failed, ev.CandidateFailed)
    assert {lost.failure.cause, failed.failure.cause} == {"hung"}
    assert lost.worker != failed.worker
    assert failed.quarantined


def test_a_training_that_takes_its_time_is_not_taken_for_hung(
    ray_pool: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_hang_seconds", SHORT)
    search = Search(ray_pool, longer, evaluations=2)
    pid, begin = search.worker(), time.monotonic()
    search.until(lambda: time.monotonic() - begin > SHORT + SIGN_SECONDS + 1.0)
    assert search.kinds("job_lost") == []
    assert search.worker() == pid
    search.controller.let_go()


def test_a_candidate_that_returns_nan(ray_pool: RayPool) -> None:
    search = Search(ray_pool, start_from=("x * x * x",))
    search.pool.change = lambda job: job.model_copy(
        update={"task": job.task.model_copy(update={"steps": 40})}
    )
    search.finish()
    rejected = [e for e in search.events() if isinstance(e, ev.CandidateRejected) and not e.birth]
    assert [one.rejection.code for one in rejected] == ["not_finite"]
    assert not search.controller.state.failures


@pytest.mark.parametrize(("command", "status"), [(Stop(), "stopped"), (Pause(), "paused")])
def test_a_search_that_is_cancelled_or_paused_frees_its_workers_within_seconds(
    ray_pool: RayPool, command: Stop | Pause, status: str
) -> None:
    first = [True]

    def change(job: Job) -> Job:
        return longer(job) if first[0] else job

    search = Search(ray_pool, change)
    search.worker()
    names = {actor.name for actor in ray_pool._actors}
    search.store.send(ID, command)
    begin = time.monotonic()
    search.controller.step(0.0)
    assert search.controller.state.status == status
    while any(actor.jobs for actor in ray_pool._actors):
        assert ray_pool.poll(0.1) == []
        assert time.monotonic() - begin < 6.0
    assert {actor.name for actor in ray_pool._actors} == names, "no worker had to be killed"
    assert not search.controller.state.failures
    if status == "stopped":
        assert replay(search.store.events(ID)).difference is None
        return
    first[0] = False
    search.store.send(ID, Resume())
    search.finish()
    assert not search.controller.state.failures


def test_the_command_replays_it_and_finds_what_was_changed(
    ray_pool: RayPool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    search = Search(ray_pool, store=SqlStore(url))
    search.finish()
    search.store.close()
    assert run(["search", "replay", ID, "--db", url]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"search {ID} replays: {search.controller.state.seq:,} events")

    connection = sqlite3.connect(tmp_path / "store.db")
    query = "SELECT seq, payload FROM events WHERE kind = 'candidate_queued' ORDER BY seq DESC"
    seq, payload = connection.execute(query).fetchone()
    other = json.loads(payload) | {"digest": "0" * 64}
    connection.execute("UPDATE events SET payload = ? WHERE seq = ?", (json.dumps(other), seq))
    connection.commit()
    connection.close()
    assert run(["search", "replay", ID, "--db", url]) == 1
    told = capsys.readouterr().out
    assert f"differs at event {seq} (candidate_queued): digest is " in told
    assert told.count("\n") == 1


def test_a_worker_that_joins_late_takes_part(ray_pool: RayPool) -> None:
    known = {actor.name for actor in ray_pool._actors}
    search = Search(ray_pool, evaluations=2)
    search.until(lambda: search.controller.state.evaluated >= 1)
    ray_pool.grow(1)
    search.finish()
    deadline = time.monotonic() + 120
    while len(ray_pool._actors) < 3:
        assert time.monotonic() < deadline
        ray_pool.poll(0.2)
    later = Search(ray_pool, evaluations=1000)

    def helped() -> bool:
        workers = {e.worker for e in later.events() if isinstance(e, ev.CandidateEvaluated)}
        return bool(workers - known)

    later.until(helped)
    later.controller.let_go()


def test_a_machine_that_left_for_good_costs_no_candidate_anything(
    ray_pool: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker in its place never comes up: no job may wait for it."""
    away: list[object] = []

    def start(name: str, settings: dict[str, object]) -> object:
        if away:
            return start_actor(name, settings)
        elsewhere = ray.remote(num_cpus=1, resources={"a machine that left": 1})(Worker)
        away.append(elsewhere.remote(name, settings))  # type: ignore[attr-defined]
        return away[0]

    while any(actor.jobs for actor in ray_pool._actors):  # of the test before
        ray_pool.poll(0.1)
    monkeypatch.setattr("workers.ray_pool.start_actor", start)
    search = Search(ray_pool, lambda job: longer(job) if job.attempt == 1 else job, evaluations=3)
    os.kill(search.worker(), signal.SIGKILL)
    search.finish()
    assert search.controller.state.failures == {"died": 1}
    assert [one.handle for one in ray_pool._joining if one.handle in away] == away
    assert ray_pool.capacity == 3 * len(ray_pool._actors)
