"""Opens searches and writes their snapshots aside: of a large one both take long.

States of searches that were let go are kept a while, so that the next command to a paused one does
not read everything anew. Leases are taken and given back elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from api.lease import Keeper
from api.shared_pool import PoolView
from api.stop_rules import StopRules
from db.sql_store import SqlStore
from evosearch.controller import Controller
from evosearch.errors import EvosearchError
from evosearch.plugins import ensure
from evosearch.ports import Lease
from evosearch.trouble import FailureWatch

AT_ONCE = 4
"""Searches that are opened side by side."""
KEPT, KEPT_SECONDS = 2, 600.0
"""States of searches that were let go: how many are kept, and how long."""
SLICE_SECONDS = 0.2
"""How long a step of one search may look for proposals while others wait."""


@dataclass(slots=True)
class Held:
    """A search that this process runs. ``guest``: it is here for its commands, not for workers.

    ``saving``: its snapshot is being written aside; nothing may change its state meanwhile.
    """

    controller: Controller
    keeper: Keeper
    rules: StopRules
    watch: FailureWatch
    guest: bool
    saving: Future[None] | None = None

    def saved(self) -> bool:
        """Whether no snapshot is being written; takes in what was written meanwhile.

        Raises:
            EvosearchError: the snapshot could not be written.
        """
        if self.saving is None:
            return True
        if not self.saving.done():
            return False
        self.saving.result()
        self.saving = None
        self.controller.catch_up()
        return True


@dataclass(slots=True)
class Opening:
    """A search that is on its way in."""

    lease: Lease
    keeper: Keeper
    watch: FailureWatch
    guest: bool
    found: Future[tuple[Controller, StopRules]]


class Openings:
    """The searches on their way in; used by one thread, beside those that it starts."""

    def __init__(self, store: SqlStore, gpus: float, clock: Callable[[], float]) -> None:
        self._store, self._gpus, self._clock = store, gpus, clock
        self._threads: ThreadPoolExecutor | None = None
        self._kept: dict[str, tuple[float, Controller]] = {}
        self.now: dict[str, Opening] = {}

    def begin(self, lease: Lease, view: PoolView, watch: FailureWatch, *, guest: bool) -> None:
        """Start to open a search whose lease was just taken."""
        keeper = Keeper(self._store, lease)
        keeper.__enter__()
        kept = self._kept.pop(lease.search_id, (0.0, None))[1]
        found = self._aside().submit(self._open, lease, view, kept, guest)
        self.now[lease.search_id] = Opening(lease, keeper, watch, guest, found)

    def _open(
        self, lease: Lease, view: PoolView, kept: Controller | None, guest: bool
    ) -> tuple[Controller, StopRules]:
        plugins = self._store.search(lease.search_id).config.task.plugins
        if not guest:  # whoever only takes commands trains nothing
            ensure(plugins, registered_only=True)
        controller = kept
        if controller is None:
            controller = Controller(
                self._store,
                view,
                lease,
                clock=time.perf_counter,
                slice_seconds=SLICE_SECONDS,
                saves=False,
                load=partial(ensure, registered_only=True),
            )
            if controller.state.config.task.plugins != plugins:  # others since a moment ago
                controller.code_changed()
        else:
            controller.take_up(view, lease)
        rules = StopRules.of(self._store, lease.search_id, self._gpus, self._clock)
        return controller, rules

    def save(self, held: Held) -> None:
        """Begin to write the search's snapshot."""
        held.saving = self._aside().submit(held.controller.save)

    def _aside(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, "open")
        return self._threads

    def done(self) -> list[tuple[str, Opening]]:
        """Searches that are open by now, or could not be opened; each is told once."""
        over = [(name, one) for name, one in self.now.items() if one.found.done()]
        for name, _ in over:
            del self.now[name]
        return over

    def keep(self, controller: Controller) -> None:
        """Remember the state of a search that is let go, in place of the oldest."""
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[controller.lease.search_id] = (self._clock() + KEPT_SECONDS, controller)

    def forget_old(self) -> None:
        """Let go of states that were kept for long."""
        now = self._clock()
        self._kept = {name: one for name, one in self._kept.items() if one[0] > now}

    def close(self) -> list[Opening]:
        """Wait for what is on its way; returns it, to be given back."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None
        left, self.now = [*self.now.values()], {}
        return left


def result_of(opening: Opening) -> Held | EvosearchError:
    """The open search, caught up with what was written meanwhile, or what is wrong with it."""
    try:
        controller, rules = opening.found.result()
        controller.catch_up()
    except EvosearchError as err:
        return err
    return Held(controller, opening.keeper, rules, opening.watch, opening.guest)
