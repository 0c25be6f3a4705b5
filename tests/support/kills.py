"""Controllers in processes of their own that are killed with SIGKILL, and what must hold after it.

A controller is forked, not started, so that hundreds of kills take minutes; one with Ray is started
and takes seconds. Faults are injected here, around the store of the child; the product knows
nothing of them. The parent must hold no connection to the database while it forks.
"""

from __future__ import annotations

import bisect
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy import event as hooks

from db.check import check
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch import snapshot
from evosearch.controller import Controller
from evosearch.pareto import hypervolume, non_dominated
from evosearch.ports import Lease, Pool, Snapshot
from evosearch.presets import load_preset
from evosearch.records import Job, Message
from evosearch.replay import replay
from evosearch.state import recover
from tests.acceptance.command import TINY
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

ID = "killed01"
Place = Literal["before", "middle", "after"]
"""Of a commit: before COMMIT is sent, after a few of its statements, once it has returned."""
PLACES: tuple[Place, ...] = ("middle", "before", "after")

SMALL = ("confirmation.final_seeds=3", "confirmation.top=2",
         "confirmation.tune_seeds=1", "evolution.remeasure_every=4",
         "evolution.choose_of=1")  # fmt: skip
SNAPSHOT_EVENTS = 25
"""Snapshots are written far more often than in a real search, so that they are killed too."""


@dataclass(slots=True)
class Case:
    """A kind of pool, a way to new databases, and the search that runs in them."""

    pool: Literal["inline", "simulated", "ray"]
    new_url: Callable[[], str]
    folder: Path
    evaluations: int
    overrides: tuple[str, ...] = ()
    searches: int = 0

    def create(self) -> str:
        """A new database with the search in it."""
        overrides = SMALL if self.pool == "simulated" else TINY[1::2]
        more = (*self.overrides, f"budget.evaluations={self.evaluations}")
        config = load_preset("quickstart", ["confirmation.resamples=50", *overrides, *more], seed=3)
        url = self.new_url()
        store = SqlStore(url)
        store.create(ID, "", ev.Created(config=config))
        store.close()
        self.searches += 1
        return url

    @property
    def trained(self) -> Path:
        """The runs that the workers of the newest search were asked for, a line each."""
        return self.folder / f"trained{self.searches}"


@dataclass(slots=True)
class Hit:
    """What the store held when its controller was killed."""

    phase: str
    last: str
    pending: int
    runs: set[str] = field(default_factory=set)


class DeadlyStore(SqlStore):
    """A store that kills its process at its first commit of events or of a snapshot."""

    place: Place | None = None
    statements = 0
    armed = False

    def arm(self, place: Place, statements: int) -> None:
        """Die at that place; ``middle`` is after so many statements."""
        self.place, self.statements = place, statements
        hooks.listen(self.engine, "commit", lambda _: self._die_if("before", "middle"))
        hooks.listen(self.engine, "after_cursor_execute", lambda *_: self._count())

    def append(self, lease: Lease, events: Sequence[ev.Event], done: Sequence[int] = ()) -> int:
        self.armed = True
        last = super().append(lease, events, done)
        self._die_if("after")
        return last

    def save(self, lease: Lease, snapshot: Snapshot) -> None:
        self.armed = True
        super().save(lease, snapshot)
        self._die_if("after")

    def _count(self) -> None:
        self.statements -= self.armed
        if self.statements <= 0:
            self._die_if("middle")

    def _die_if(self, *places: Place) -> None:
        if self.armed and self.place in places:
            os.kill(os.getpid(), signal.SIGKILL)


def _pool(case: Case) -> Pool:
    if case.pool == "inline":
        from workers.inline import InlinePool

        return InlinePool()

    def script(job: Job) -> tuple[float, Sequence[Message]]:
        with case.trained.open("a") as file:
            file.writelines(f"{job.id} {run.model_dump_json()}\n" for run in job.runs)
        return answer(job)

    return SimulatedPool(script, workers=3, backlog=2)


def fork(case: Case, url: str, place: Place | None = None, statements: int = 1) -> int:
    """A controller of the search that runs to its end, or dies; returns its process id."""
    if case.pool == "ray":
        words = (url, str(case.trained), place or "", str(statements))
        return os.posix_spawn(
            sys.executable, [sys.executable, "-m", "tests.support.ray_controller", *words],
            {**os.environ, "OMP_NUM_THREADS": "1"}, setsid=True,
        )  # fmt: skip
    child = os.fork()
    if child:
        return child
    try:
        snapshot.LEAST_EVENTS = SNAPSHOT_EVENTS
        store = DeadlyStore(url)
        if place is not None:
            store.arm(place, statements)
        Controller(store, _pool(case), store.acquire(ID, "me", 3600)).run(0.01)
        store.close()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(pid: int) -> bool:
    """Waits for the process; True if it ended well, False if it was killed.

    Raises:
        RuntimeError: it failed.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # a Ray of its own outlives it for a moment
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the controller failed with exit code {code}")
    return code == 0


def log(url: str) -> list[Any]:
    """The search's events without times, and without the checks, which a resumed job skips."""
    store = SqlStore(url)
    told = [ev.without_times(json.loads(ev.dump_event(e.event))) for e in store.events(ID)]
    store.close()
    for one in told:
        one.pop("checks", None)
    return told


def times(url: str) -> list[float]:
    """When the search's events were stored, in seconds since 1970."""
    store = SqlStore(url)
    told = [entry.at.timestamp() for entry in store.events(ID)]
    store.close()
    return told


def wait_for_event(url: str, seq: int, pid: int) -> None:
    """Returns when the search has that event, or the process has ended."""
    store = SqlStore(url)
    while store.search(ID).last_seq < seq:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.005)
    store.close()


def look(url: str) -> Hit:
    """What the store holds after a kill; fails unless it is whole."""
    store = SqlStore(url)
    entries = list(store.events(ID))
    state, runs = recover(entries), set()
    for entry in entries:
        event = entry.event
        if isinstance(event, ev.EvaluationRecorded):
            done = event.evaluation
            key = f"{event.job_id} {done.anchor} {done.seed} {done.learning_rate} {done.split}"
            assert key not in runs, f"kept twice: {key}"
            runs.add(key)
    store.close()
    return Hit(state.phase, entries[-1].event.kind, len(state.pending), runs)


def trained_runs(case: Case) -> list[str]:
    """The runs that workers were asked for so far in the newest search."""
    if not case.trained.exists():
        return []
    found = []
    for line in case.trained.read_text().splitlines():
        job, _, text = line.partition(" ")
        run = json.loads(text)
        found.append(f"{job} {run['anchor']} {run['seed']} {run['learning_rate']} {run['split']}")
    return found


def assert_whole(url: str) -> None:
    """Fail unless the finished search is whole, replays, and has the front of all its scores."""
    store = SqlStore(url)
    problems, entries = check(store), list(store.events(ID))
    store.close()
    assert problems == []
    assert replay(entries).difference is None
    state = recover(entries)
    assert state.status == "finished"
    births = list(state.front.points)
    points = np.stack([state.front.points[birth] for birth in births])
    kept = non_dominated(points)
    assert state.front.members == {b for b, keep in zip(births, kept, strict=True) if keep}
    volume = hypervolume(points[kept], state.front.reference)
    assert abs(state.hypervolume - volume) < 1e-12


class Rounds:
    """Searches of one case that are killed until enough kills have hit, and what they hit."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.hits: Counter[str] = Counter()
        self.pending: Counter[int] = Counter()
        self.kills = self.repeated = 0
        self._kept: list[tuple[int, set[str]]] = []
        """After each kill of the newest search: runs trained so far, and the runs in the store."""
        url, begin = case.create(), time.time()
        assert ended(fork(case, url))
        assert_whole(url)
        self.expected = log(url)
        self._after = [seconds - begin for seconds in times(url)]
        """When its events were stored, from its beginning on."""
        self.seconds = self._after[-1]
        """What an uninterrupted run takes to its last event; what follows is tidying up."""

    def at_moments(self, moments: Sequence[float]) -> None:
        """Kill one search at these shares of the uninterrupted run's time, then finish it.

        Time is told by events: a kill comes so long after that event as the moment came in the
        uninterrupted run. A clock would never leave a long training that each kill begins anew.
        """
        url = self._new()
        for moment in sorted(moments):
            seconds = moment * self.seconds
            stored = bisect.bisect(self._after, seconds)
            pid = fork(self.case, url)
            wait_for_event(url, stored, pid)
            time.sleep(seconds - max([0.0, *self._after[:stored]]))
            os.kill(pid, signal.SIGKILL)
            if ended(pid):
                break
            self._hit(url)
        self._finish(url)

    def at_every_commit(self, limit: int = 10**9) -> None:
        """Kill one search in the middle of, before and after each of its commits."""
        url = self._new()
        for number in range(limit):
            place = PLACES[number % len(PLACES)]
            if ended(fork(self.case, url, place, statements=1 + number % 11)):
                break
            self._hit(url, place)
        self._finish(url)

    def _new(self) -> str:
        self._kept.clear()
        return self.case.create()

    def _hit(self, url: str, place: str = "any time") -> None:
        hit, trained = look(url), trained_runs(self.case)
        self.kills += 1
        self.hits[f"{hit.phase}, {place} after {hit.last}"] += 1
        self.pending[hit.pending] += 1
        self._kept.append((len(trained), hit.runs))

    def _finish(self, url: str) -> None:
        assert ended(fork(self.case, url))
        assert_whole(url)
        if self.case.pool == "inline":
            assert log(url) == self.expected
            return
        final, trained = look(url).runs, trained_runs(self.case)
        assert_once(self._kept, final, trained)
        self.repeated += len(trained) - len(set(trained))


def assert_once(
    kept_after: Sequence[tuple[int, set[str]]], final: set[str], trained: Sequence[str]
) -> None:
    """Fail if a result that was in the store after a kill is lost, or was trained for again."""
    for count, kept in kept_after:
        assert kept <= final, "a finished evaluation was lost"
        again = kept.intersection(trained[count:])
        assert not again, f"trained again although its result was kept: {again}"
    assert final <= set(trained), "a result that nobody trained for"
