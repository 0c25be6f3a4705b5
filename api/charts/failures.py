"""Failures of a search by cause and by worker, counted as the log is read; none is left out."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime

from api.rest.chart_schemas import CauseView, FailuresView, WorkerFailures

BIRTHS_KEPT = 12
MOST_WORKERS = 200
"""Workers that are told of, those with the most failures first."""


@dataclass(slots=True)
class Cause:
    """What failed for one cause. ``jobs``: those that another worker takes up again, or later."""

    last: datetime
    candidates: int = 0
    jobs: int = 0
    births: deque[int] = field(default_factory=lambda: deque(maxlen=BIRTHS_KEPT))


@dataclass(slots=True)
class Failures:
    """All failures of a search; ``at`` is when, in seconds since 1970."""

    causes: dict[str, Cause] = field(default_factory=dict)
    workers: dict[str, Counter[str]] = field(default_factory=dict)
    at: array[float] = field(default_factory=lambda: array("d"))

    def add(self, at: datetime, cause: str, worker: str, birth: int | None) -> None:
        """One more; ``birth`` where it was a candidate's end."""
        known = self.causes.setdefault(cause, Cause(at))
        known.last = at
        if birth is None:
            known.jobs += 1
        else:
            known.candidates += 1
            known.births.append(birth)
        if worker:
            self.workers.setdefault(worker, Counter())[cause] += 1
        self.at.append(at.timestamp())

    def since(self, moment: datetime) -> int:
        """How many there were after a moment; they come nearly in order."""
        start, count = moment.timestamp(), 0
        for one in reversed(self.at):
            if one <= start:
                break
            count += 1
        return count


def failures_view(failures: Failures) -> FailuresView:
    """The causes, the most frequent first, and the workers."""
    causes = sorted(failures.causes.items(), key=lambda one: -(one[1].candidates + one[1].jobs))
    workers = sorted(failures.workers.items(), key=lambda one: (-one[1].total(), one[0]))
    return FailuresView(
        total=len(failures.at),
        causes=[
            CauseView(
                cause=name, candidates=one.candidates, jobs=one.jobs, last=one.last,
                births=list(one.births)[::-1],
            )
            for name, one in causes
        ],
        workers=[
            WorkerFailures(worker=name, causes=dict(one)) for name, one in workers[:MOST_WORKERS]
        ],
    )  # fmt: skip
