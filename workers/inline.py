"""The pool that evaluates in the caller's own process, one job at a time, bitwise repeatably."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evosearch.errors import WorkerError
from evosearch.ports import WorkerReport
from evosearch.records import Job, JobDone, Message
from workers.device import choose
from workers.evaluate import Context, run_job
from workers.measures import refuse_timed


class InlinePool:
    """A `Pool` of one worker: `poll` computes the next message of the job at hand."""

    def __init__(self, context: Context | None = None) -> None:
        self._context = context or Context()
        self._waiting: deque[Job] = deque()
        self._running: tuple[str, Iterator[Message]] | None = None
        self._closed = False

    @property
    def capacity(self) -> int:
        return 1

    @property
    def device_kind(self) -> str:
        """What it computes on: cpu or cuda."""
        return choose(self._context.device).type

    @property
    def gpu_share(self) -> float:
        """A whole GPU, or none."""
        return 1.0 if self.device_kind == "cuda" else 0.0

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            WorkerError: the pool is closed.
            ConfigError: the job measures a time, which would not repeat.
        """
        if self._closed:
            raise WorkerError("the pool is closed", hint="make a new one")
        refuse_timed(job.task)
        self._context.preempted = False
        self._waiting.append(job)

    def interrupt(self) -> None:
        """End the job at hand at its next step; it is not lost, it can be submitted again.

        Its training is kept where the context has a folder for that.
        """
        self._context.preempted = True

    def poll(self, timeout: float) -> list[Message]:
        """The next message, computed now however long it takes; none without a job."""
        if self._running is None:
            if not self._waiting:
                return []
            job = self._waiting.popleft()
            self._running = (job.id, run_job(job, self._context))
        with one_thread():
            message = next(self._running[1])
        if isinstance(message, JobDone):
            self._running = None
            if self._context.preempted and message.failure is not None:
                return []  # taken back, and no failure of the layer's
        return [message]

    def cancel(self, job_id: str) -> None:
        """Drop the job, wherever it is; an unknown id is no error."""
        self._waiting = deque(job for job in self._waiting if job.id != job_id)
        if self._running is not None and self._running[0] == job_id:
            self._running = None

    def workers(self) -> list[WorkerReport]:
        """The one worker, this process: busy between the messages of a job."""
        if self._running is None:
            return [WorkerReport(self._context.worker, "idle")]
        return [WorkerReport(self._context.worker, "busy", self._running[0])]

    def close(self) -> None:
        """Drop everything; idempotent."""
        self._waiting.clear()
        self._running = None
        self._closed = True


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch computes on one thread: sums then have one order, so bits repeat."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
