"""A pool of any number of workers under a fake clock, for studies of the controller and its tests.

It trains nothing: a function of the job says what a worker would have sent, and how long it would
have taken. This file must not read the real clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from evosearch.records import Job, Message

Script = Callable[[Job], tuple[float, Sequence[Message]]]
"""Job -> (seconds on a worker, its messages in order; the last one is a `JobDone`)."""


class SimulatedPool:
    """``workers`` simulated workers with room for ``backlog`` waiting jobs.

    ``now``: simulated seconds since the start. ``busy``: worker-seconds spent on finished jobs.
    """

    def __init__(self, script: Script, workers: int = 1, backlog: int = 0) -> None:
        self._script, self._workers = script, workers
        self.capacity = workers + backlog
        self.now = 0.0
        self.busy = 0.0
        self._waiting: list[Job] = []
        self._running: list[tuple[float, int, str, float, Sequence[Message]]] = []
        self._order = 0

    def submit(self, job: Job) -> None:
        """Queue a job; it starts as soon as a worker is free."""
        self._waiting.append(job)
        self._start()

    def poll(self, timeout: float) -> list[Message]:
        """The messages of the job that ends next; the clock moves to its end."""
        if not self._running:
            return []
        end, _, _, seconds, messages = heapq.heappop(self._running)
        self.now = end
        self.busy += seconds
        self._start()
        return list(messages)

    def cancel(self, job_id: str) -> None:
        """Forget a job, running or waiting."""
        self._waiting = [job for job in self._waiting if job.id != job_id]
        self._running = [entry for entry in self._running if entry[2] != job_id]
        heapq.heapify(self._running)

    def close(self) -> None:
        """Forget all jobs."""
        self._waiting.clear()
        self._running.clear()

    def advance(self, seconds: float) -> None:
        """Let simulated time pass, for instance what the controller itself took."""
        self.now += seconds

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            job = self._waiting.pop(0)
            seconds, messages = self._script(job)
            self._order += 1
            entry = (self.now + seconds, self._order, job.id, seconds, messages)
            heapq.heappush(self._running, entry)
