"""What the workers of a pool are at, remembered between one look and the next.

A pool says at each look what it sees; this keeps since when it saw it, what went wrong at whom, and
who died. Nothing here asks a worker anything.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from evosearch.ports import WorkerReport, WorkerState

DEAD_SECONDS = 3600.0
"""How long a dead worker is told of."""
DEAD_KEPT = 20


@dataclass(slots=True)
class Reports:
    """The memory of one pool's reports. ``clock``: seconds that never go back."""

    clock: Callable[[], float] = time.monotonic
    _failures: dict[str, Counter[str]] = field(default_factory=dict)
    _since: dict[str, tuple[WorkerState, str | None, float]] = field(default_factory=dict)
    _dead: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=DEAD_KEPT))

    def failed(self, name: str, cause: str) -> None:
        """A job failed at that worker, or the worker itself."""
        self._failures.setdefault(name, Counter())[cause] += 1

    def gone(self, name: str) -> None:
        """The worker is dead or was put down; another one takes its place."""
        self._dead.append((name, self.clock()))

    def told(
        self, seen: Iterable[tuple[str, WorkerState | None, str | None]]
    ) -> list[WorkerReport]:
        """Reports of (name, state, job); the state of one who does not answer yet is None.

        Who has never answered is starting; who has answered before is at what it was at.
        """
        now, found = self.clock(), []
        kept: dict[str, tuple[WorkerState, str | None, float]] = {}
        for name, state, job in seen:
            before = self._since.get(name)
            if state is None and before is not None and before[0] != "starting":
                state = "busy" if job else "idle"
            state, job = state or "starting", job if state == "busy" else None
            same = before is not None and before[:2] == (state, job)
            kept[name] = (state, job, before[2] if before is not None and same else now)
            found.append(self._report(name, state, job, now - kept[name][2]))
        self._since = kept
        dead = [(name, now - at) for name, at in self._dead if now - at <= DEAD_SECONDS]
        known = {*kept, *(name for name, _ in dead)}
        self._failures = {name: one for name, one in self._failures.items() if name in known}
        return found + [self._report(name, "dead", None, age) for name, age in dead]

    def _report(
        self, name: str, state: WorkerState, job: str | None, seconds: float
    ) -> WorkerReport:
        return WorkerReport(name, state, job, seconds, dict(self._failures.get(name, {})))
