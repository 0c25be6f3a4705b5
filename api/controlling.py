"""Runs all running searches of a store over one pool: takes leases, steps, lets go.

It serves no HTTP and shares only the store with those who do. What a search does is decided in
`evosearch`; an error in one search must not stop the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from api.alerts import Alerts
from api.lease import Keeper
from api.shared_pool import SharedPool
from api.stop_rules import StopRules
from db.controllers import Controllers
from db.queries_rest import Notes, RestQueries
from db.sql_store import SqlStore
from evosearch.controller import Controller
from evosearch.errors import EvosearchError, LeaseHeld, LeaseLost, NotFound, WorkerError
from evosearch.events import Event
from evosearch.plugins import ensure
from evosearch.ports import Pause
from evosearch.state import State
from evosearch.trouble import FailureWatch

log = logging.getLogger("evosearch.controller")
LEASE_SECONDS = 15.0
LOOK_SECONDS = 0.5
"""How often new searches and commands are looked for."""
BEAT_SECONDS = 2.0
POLL_SECONDS = 0.25
BACK_OFF = (1.0, 5.0, 30.0, 120.0)
"""Waits before a search that failed here is tried again."""


@dataclass(slots=True)
class Held:
    """A search that this process runs."""

    controller: Controller
    keeper: Keeper
    rules: StopRules
    began: float
    watch: FailureWatch


@dataclass(slots=True)
class Trouble:
    """A search that failed here: how often, and when it is tried again."""

    times: int = 0
    until: float = 0.0


class Controlling:
    """The searches of one controller process; used by one thread."""

    def __init__(
        self,
        store: SqlStore,
        pool: SharedPool,
        owner: str,
        *,
        alerts: Alerts,
        max_searches: int = 4,
        gpus_per_worker: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._pool, self._owner, self._clock = store, pool, owner, clock
        self._queries, self._rows = RestQueries(store), Controllers(store)
        self._alerts, self._max, self._gpus = alerts, max_searches, gpus_per_worker
        self._held: dict[str, Held] = {}
        self._trouble: dict[str, Trouble] = {}
        self._looked = self._beaten = float("-inf")

    @property
    def held(self) -> list[str]:
        """Searches that are run here now."""
        return [*self._held]

    def step(self) -> None:
        """Look for searches, act on commands, fill the pool, take in what came.

        Raises:
            WorkerError: the workers are gone; a new process is needed.
            StoreError: the store is away for longer than leases hold.
        """
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()
        if now - self._beaten >= BEAT_SECONDS:
            self._beaten = now
            self._beat()
        for search_id in self.held:
            self._step(search_id)
        busy = any(self._pool.running().values())
        if not busy:
            time.sleep(POLL_SECONDS / 2)
        self._pool.pump(POLL_SECONDS)

    def close(self) -> None:
        """Let go of all searches; their jobs at hand are dropped and will be made again."""
        for search_id in self.held:
            self._let_go(search_id)

    def _look(self) -> None:
        runnable = self._queries.runnable()
        for search_id in runnable:
            trouble = self._trouble.get(search_id)
            if trouble is not None and self._clock() < trouble.until:
                continue
            if search_id not in self._held and len(self._held) < self._max:
                self._take(search_id)
        for search_id in [*self._held]:
            if search_id not in runnable and self._runs(search_id):
                log.warning("search %s was deleted", search_id, extra={"search": search_id})
                self._let_go(search_id)
        running = [one for one, held in self._held.items()
                   if held.controller.state.status == "running"]  # fmt: skip
        notes = self._queries.notes(running)
        self._pool.share({one: notes.get(one, Notes()).priority for one in running})

    def _runs(self, search_id: str) -> bool:
        return self._held[search_id].controller.state.status == "running"

    def _take(self, search_id: str) -> None:
        try:
            lease = self._store.acquire(search_id, self._owner, LEASE_SECONDS)
        except (LeaseHeld, NotFound):
            return  # another one runs it, or it was deleted this moment
        keeper = Keeper(self._store, lease)
        keeper.__enter__()
        watch = FailureWatch()
        hear = self._alerts.listener(search_id)

        def listener(state: State, event: Event) -> None:
            hear(state, event)
            watch.hear(state, event)

        try:
            ensure(self._store.search(search_id).config.task.plugins, registered_only=True)
            controller = Controller(
                self._store, self._pool.view(search_id), lease, clock=time.perf_counter,
                listener=listener,
            )  # fmt: skip
        except EvosearchError as err:
            keeper.__exit__(None, None, None)
            self._pool.forget(search_id)
            self._troubled(search_id, err)
            return
        rules = StopRules.of(self._store, search_id, controller.state, self._gpus, self._clock)
        self._held[search_id] = Held(controller, keeper, rules, self._clock(), watch)
        log.info("running search %s", search_id, extra={"search": search_id})

    def _step(self, search_id: str) -> None:
        held = self._held[search_id]
        try:
            held.keeper.check()
            held.controller.step(0.0)
            if held.watch.reason is not None:
                self._store.send(search_id, Pause())
                log.error("paused: %s", held.watch.reason, extra={"search": search_id})
                self._alerts.failed(search_id, held.watch.reason)
                held.watch.reason = None
            reason = held.rules.end_phase(self._store, search_id, held.controller.state)
            if reason is not None:
                log.info("ends its search phase: %s", reason, extra={"search": search_id})
            self._alerts.look(search_id, held.controller.state)
        except WorkerError:
            raise
        except (LeaseLost, NotFound) as err:
            log.warning("%s", err, extra={"search": search_id})
            self._let_go(search_id)
            return
        except EvosearchError as err:
            self._let_go(search_id)
            self._troubled(search_id, err)
            return
        if held.controller.over or held.controller.state.status == "paused":
            log.info("search is %s", held.controller.state.status, extra={"search": search_id})
            self._trouble.pop(search_id, None)
            self._let_go(search_id)

    def _let_go(self, search_id: str) -> None:
        held = self._held.pop(search_id)
        held.controller.let_go()
        self._pool.forget(search_id)
        try:
            held.keeper.__exit__(None, None, None)
        except EvosearchError as err:  # the lease expires by itself
            log.warning("the lease cannot be given back: %s", err, extra={"search": search_id})

    def _troubled(self, search_id: str, err: EvosearchError) -> None:
        trouble = self._trouble.setdefault(search_id, Trouble())
        wait = BACK_OFF[min(trouble.times, len(BACK_OFF) - 1)]
        trouble.times, trouble.until = trouble.times + 1, self._clock() + wait
        log.error("cannot be run, again in %g s: %s", wait, err, extra={"search": search_id})
        self._alerts.failed(search_id, str(err))

    def _beat(self) -> None:
        try:
            self._rows.beat(self._owner, self._pool.capacity, self._workers(), self.held)
        except EvosearchError as err:
            log.warning("no sign of life can be written: %s", err)

    def _workers(self) -> list[dict[str, Any]]:
        """Slots of the pool with the jobs at hand; a job waits its turn at its worker."""
        jobs = [(search, job) for search, ids in self._pool.running().items() for job in ids]
        found: list[dict[str, Any]] = []
        for number in range(self._pool.workers):
            if number < len(jobs):
                search, job = jobs[number]
                found.append({"name": f"worker-{number + 1}", "state": "busy",
                              "search": search, "job": job})  # fmt: skip
            else:
                found.append({"name": f"worker-{number + 1}", "state": "idle"})
        return found
