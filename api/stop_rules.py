"""When a search has had enough beside its number of evaluations: steps, hours, GPU-hours, no gain.

A limit that is reached ends the search phase; the confirmation follows as it always does. Hours
count while a controller runs the search, whichever it was; GPU-hours are those of the workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Self

from db.queries_rest import RestQueries
from db.sql_store import SqlStore
from db.worked import worked_seconds
from evosearch.ports import Extend, Store
from evosearch.state import State

ASK_SECONDS = 60.0
"""How often the store is asked what the workers have spent."""


class StopRules:
    """The limits of one search; each is judged at most once a second."""

    def __init__(
        self,
        gpus_per_worker: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        worked: float = 0.0,
        worker_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``worked``: seconds that earlier controllers ran the search.

        ``worker_seconds``: what its workers have spent until now, asked for once a minute.
        """
        self._clock, self._gpus = clock, gpus_per_worker
        self._began, self._judged = clock() - worked, float("-inf")
        self._worker_seconds, self._asked, self._spent = worker_seconds, float("-inf"), 0.0
        self._limit: float | None = None

    @classmethod
    def of(
        cls,
        store: Store,
        search_id: str,
        gpus_per_worker: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """The rules of a search in a store, with what it has used up so far."""
        if not isinstance(store, SqlStore):  # in memory a search has had no other controller
            return cls(gpus_per_worker, clock)
        return cls(
            gpus_per_worker,
            clock,
            worked=worked_seconds(store, search_id),
            worker_seconds=partial(RestQueries(store).worker_seconds, search_id),
        )

    def end_phase(self, store: Store, search_id: str, state: State) -> str | None:
        """Once a limit is reached, let the budget end where the search stands.

        A search without any evaluated candidate ends with its report, and without a leader.

        Returns:
            Why, when this was done; the next step takes it in, and nothing is due any more.
        """
        reason = self.due(state)
        if reason is not None:
            store.send(search_id, Extend(evaluations=state.evaluated, reason=reason))
        return reason

    def due(self, state: State) -> str | None:
        """Why the search phase should end now; None while it should not."""
        now = self._clock()
        if state.phase != "search" or state.status != "running" or now - self._judged < 1.0:
            return None
        if state.evaluated >= state.target:
            return None
        self._judged = now
        budget = state.budget
        steps = sum(state.train_steps.values())
        if budget.train_steps is not None and steps >= budget.train_steps:
            return f"{steps} of {budget.train_steps} training steps are used up"
        hours = (now - self._began) / 3600
        if budget.hours is not None and hours >= budget.hours:
            return f"{budget.hours:g} hours are used up"
        most = budget.gpu_hours
        if most is not None and self._gpu_hours(now, most) >= most:
            return f"{most:g} GPU-hours are used up"
        return self._gain(state)

    def _gpu_hours(self, now: float, limit: float) -> float:
        """GPU-hours used up; asked for at once where the limit is a new one."""
        old = now - self._asked >= ASK_SECONDS or limit != self._limit
        if old and self._gpus:
            self._asked, self._limit, self._spent = now, limit, self._worker_seconds()
        return self._gpus * self._spent / 3600

    def _gain(self, state: State) -> str | None:
        """Scores on fresh seeds count; the seed that selected a candidate flatters it."""
        budget, leading = state.budget, state.confirmed
        if budget.target is not None and leading is not None and leading >= budget.target:
            return f"the target {budget.target:g} is reached: {leading:.4f}"
        if budget.no_gain is not None and state.evaluated - state.confirmed_at >= budget.no_gain:
            return f"no confirmed gain in {budget.no_gain} evaluations"
        return None
