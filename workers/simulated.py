"""A pool of any number of workers under a fake clock, for studies of the controller and its tests.

It trains nothing: a function of the job says what a worker would have sent, and how long it would
have taken. This file must not read the real clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence

from evosearch.ports import WorkerReport
from evosearch.records import Job, Message

Script = Callable[[Job], tuple[float, Sequence[Message]]]
"""Job -> (seconds on a worker, its messages in order; the last one is a `JobDone`)."""


class SimulatedPool:
    """``workers`` simulated workers with room for ``backlog`` waiting jobs.

    ``now``: simulated seconds since the start.
    A waiting job begins when a worker is free, even while the controller is at something else.
    """

    gpu_share = 0.0

    def __init__(self, script: Script, workers: int = 1, backlog: int = 0) -> None:
        self._script = script
        self.capacity = workers + backlog
        self.now = 0.0
        self._idle = 0.0
        self._free = [0.0] * workers
        """When each free worker became free: a heap."""
        self._waiting: deque[tuple[float, Job]] = deque()
        self._running: list[tuple[float, int, str, Sequence[Message]]] = []
        self._order = 0

    @property
    def idle(self) -> float:
        """Worker-seconds without a job, until now."""
        return self._idle + sum(max(0.0, self.now - since) for since in self._free)

    def submit(self, job: Job) -> None:
        """Queue a job; it starts as soon as a worker is free."""
        self._waiting.append((self.now, job))
        self._start()

    def poll(self, timeout: float) -> list[Message]:
        """The messages of the job that ends next; the clock moves to its end.

        After `advance` those of all jobs that have ended meanwhile.
        """
        if not self._running:
            return []
        messages = self._end()
        while self._running and self._running[0][0] < self.now:
            messages += self._end()
        return messages

    def cancel(self, job_id: str) -> None:
        """Forget a job, running or waiting."""
        self._waiting = deque(entry for entry in self._waiting if entry[1].id != job_id)
        left = [entry for entry in self._running if entry[2] != job_id]
        for _ in range(len(self._running) - len(left)):
            heapq.heappush(self._free, self.now)
        self._running = left
        heapq.heapify(self._running)
        self._start()

    def workers(self) -> list[WorkerReport]:
        """One that is busy for each job that runs, and the free ones; they are never dead."""
        jobs: list[str | None] = [job for _, _, job, _ in sorted(self._running, key=_order)]
        return [
            WorkerReport(f"worker-{number}", "busy" if job else "idle", job)
            for number, job in enumerate(jobs + [None] * len(self._free), 1)
        ]

    def close(self) -> None:
        """Forget all jobs."""
        self._waiting.clear()
        self._free += [self.now] * len(self._running)
        heapq.heapify(self._free)
        self._running.clear()

    def advance(self, seconds: float) -> None:
        """Let simulated time pass, for instance what the controller itself took."""
        self.now += seconds

    def _end(self) -> list[Message]:
        end, _, _, messages = heapq.heappop(self._running)
        self.now = max(self.now, end)
        heapq.heappush(self._free, end)
        self._start()
        return list(messages)

    def _start(self) -> None:
        while self._waiting and self._free:
            submitted, job = self._waiting.popleft()
            free = heapq.heappop(self._free)
            begin = max(free, submitted)
            self._idle += begin - free
            seconds, messages = self._script(job)
            self._order += 1
            heapq.heappush(self._running, (begin + seconds, self._order, job.id, messages))


def _order(entry: tuple[float, int, str, Sequence[Message]]) -> int:
    """In what order the job began."""
    return entry[1]
