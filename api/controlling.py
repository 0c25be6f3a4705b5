"""Runs all running searches of a store over one pool: takes leases, steps, lets go.

It serves no HTTP and shares only the store with those who do. What a search does is decided in
`evosearch`; an error in one search must not stop the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from api.alerts import Alerts, together
from api.lease import LEASE_SECONDS, Keeper
from api.obey import act_plainly
from api.openings import Held, Openings, result_of
from api.shared_pool import SharedPool
from db.controllers import Controllers
from db.queries_rest import Notes, RestQueries
from db.sql_store import SqlStore
from evosearch.errors import (
    EvosearchError,
    LeaseHeld,
    LeaseLost,
    NotFound,
    StoreError,
    WorkerError,
)
from evosearch.events import CandidateFailed, Event
from evosearch.ports import Lease, Pause
from evosearch.state import State
from evosearch.trouble import FailureWatch

log = logging.getLogger("evosearch.controller")
LOOK_SECONDS = 0.5
"""How often new searches and commands are looked for."""
BEAT_SECONDS = 1.0
POLL_SECONDS = 0.25
BACK_OFF = (1.0, 5.0, 30.0, 120.0)
"""Waits before a search that failed here is tried again."""


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
        self._alerts, self._max = alerts, max_searches
        self._openings = Openings(store, gpus_per_worker, clock)
        self._held: dict[str, Held] = {}
        self._trouble: dict[str, Trouble] = {}
        self._looked = self._beaten = float("-inf")

    @property
    def held(self) -> list[str]:
        """Searches that are run here now."""
        return [*self._held]

    def step(self) -> None:
        """Look for searches, act on commands, fill the pool, take in what came.

        A store that is away is asked again; searches whose leases run out meanwhile are let go.

        Raises:
            WorkerError: the workers are gone; a new process is needed.
        """
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            try:
                self._look()
            except StoreError as err:
                log.warning("the store cannot be read, it is asked again: %s", err)
        for search_id, opening in self._openings.done():
            self._opened(search_id, result_of(opening), opening.keeper)
        for search_id in self.held:
            self._step(search_id)
        if now - self._beaten >= BEAT_SECONDS:
            self._beaten = now
            self._beat()
            self._alerts.look_at_disks()
        if all(held.controller.filled for held in self._held.values()):
            if not any(self._pool.running().values()):
                time.sleep(POLL_SECONDS / 2)
            self._pool.pump(POLL_SECONDS)
        else:
            self._pool.pump(0.0)  # somebody still looks for proposals

    def close(self) -> None:
        """Let go of all searches; their jobs at hand are dropped and will be made again."""
        for opening in self._openings.close():
            self._give_back(opening.lease.search_id, opening.keeper)
        for search_id in self.held:
            self._let_go(search_id)

    def _look(self) -> None:
        self._openings.forget_old()
        guests = self._obey()
        runnable = self._queries.runnable()
        for search_id in runnable:
            if self._backs_off(search_id):
                continue
            if search_id in self._held or search_id in self._openings.now:
                continue
            if search_id in guests:
                self._take(search_id, guest=True)
            elif self._taken() < self._max and self._running(search_id):
                self._take(search_id, guest=False)
        for search_id in [*self._held]:
            if search_id not in runnable and self._runs(search_id):
                log.warning("search %s was deleted", search_id, extra={"search": search_id})
                self._let_go(search_id)
        running = [one for one, held in self._held.items()
                   if held.controller.state.status == "running" and not held.guest]  # fmt: skip
        notes = self._queries.notes(running)
        self._pool.share(
            {one: notes.get(one, Notes()).priority for one in running},
            idle=[one for one in running if not self._held[one].controller.hungry],
        )

    def _running(self, search_id: str) -> bool:
        stands = self._queries.stands(search_id)
        return stands is not None and stands[0] == "running"

    def _taken(self) -> int:
        """Searches that have a share of the workers, or will have one in a moment."""
        coming = sum(not one.guest for one in self._openings.now.values())
        return coming + sum(not one.guest for one in self._held.values())

    def _obey(self) -> list[str]:
        """Act on the commands of searches that take no steps; returns those that must be opened.

        A search may wait for its turn, be in trouble, or on its way in: it is paused and stopped
        all the same.
        """
        guests = []
        for search_id in self._queries.commanded():
            held = self._held.get(search_id)
            if held is not None and held.saving is None:
                continue  # its controller acts on them
            lease = self._lease_of(search_id)
            try:
                mine = lease or self._store.acquire(search_id, self._owner, LEASE_SECONDS)
                status, phase = self._queries.stands(search_id) or ("stopped", "done")
                try:
                    left = act_plainly(self._store, mine, status, phase)
                finally:
                    if lease is None:
                        self._store.release(mine)
            except (LeaseHeld, LeaseLost, NotFound):
                continue  # another one runs it, or it was deleted this moment
            except EvosearchError as err:
                if not self._backs_off(search_id):
                    self._troubled(search_id, err)
                continue
            if left and lease is None and (status == "paused" or self._taken() >= self._max):
                guests.append(search_id)
        return guests

    def _lease_of(self, search_id: str) -> Lease | None:
        """The lease of a search that is here, or on its way in."""
        if search_id in self._openings.now:
            return self._openings.now[search_id].lease
        return self._held[search_id].controller.lease if search_id in self._held else None

    def _runs(self, search_id: str) -> bool:
        held = self._held[search_id]
        return held.saving is None and held.controller.state.status == "running"

    def _take(self, search_id: str, *, guest: bool) -> None:
        try:
            lease = self._store.acquire(search_id, self._owner, LEASE_SECONDS)
        except (LeaseHeld, NotFound):
            return  # another one runs it, or it was deleted this moment
        self._openings.begin(lease, self._pool.view(search_id), FailureWatch(), guest=guest)

    def _opened(self, search_id: str, found: Held | EvosearchError, keeper: Keeper) -> None:
        if isinstance(found, EvosearchError):
            self._give_back(search_id, keeper)
            self._pool.forget(search_id)
            if not isinstance(found, (LeaseLost, NotFound)):
                self._troubled(search_id, found)
            return

        def tell(state: State, event: Event) -> None:
            if isinstance(event, CandidateFailed):
                log.warning(
                    "candidate failed: %s", event.failure.cause,
                    extra={"search": search_id, "candidate": event.birth},
                )  # fmt: skip

        hear = self._alerts.listener(search_id, found.controller.state)
        found.controller.listen(together(hear, found.watch.hear, tell))
        self._held[search_id] = found
        log.info("running search %s", search_id, extra={"search": search_id})

    def _step(self, search_id: str) -> None:
        held = self._held[search_id]
        try:
            held.keeper.check()
            if not held.saved():
                return
            held.controller.step(0.0)
            if held.controller.save_due:
                self._openings.save(held)
                return
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
        if held.guest or held.controller.over or held.controller.state.status == "paused":
            log.info("search is %s", held.controller.state.status, extra={"search": search_id})
            self._trouble.pop(search_id, None)
            self._let_go(search_id, keep=not held.controller.over)

    def _let_go(self, search_id: str, *, keep: bool = False) -> None:
        held = self._held.pop(search_id)
        if held.saving is not None:
            with suppress(EvosearchError):
                held.saving.result()
        held.controller.let_go()
        self._pool.forget(search_id)
        if keep:
            self._openings.keep(held.controller)
        self._give_back(search_id, held.keeper)

    def _give_back(self, search_id: str, keeper: Keeper) -> None:
        try:
            keeper.__exit__(None, None, None)
        except EvosearchError as err:  # the lease expires by itself
            log.warning("the lease cannot be given back: %s", err, extra={"search": search_id})

    def _backs_off(self, search_id: str) -> bool:
        """Whether it failed here a short while ago."""
        trouble = self._trouble.get(search_id)
        return trouble is not None and self._clock() < trouble.until

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
        """What the pool reports of its workers, as rows."""
        return [
            {"name": one.name, "state": one.state, "search": search, "job": one.job,
             "seconds": one.seconds, "failures": dict(one.failures)}
            for search, one in self._pool.workers()
        ]  # fmt: skip
