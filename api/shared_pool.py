"""One pool for several searches: each sees a pool of its own, with a share of the workers.

Job ids carry their search in front, so that no two searches meet. Shares follow priorities; a
search that has nothing to do leaves its share to the others. This file must not know what a
search decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace

from evosearch.ports import Pool, WorkerReport
from evosearch.records import Job, Message

SEPARATOR = ":"


class SharedPool:
    """The real pool and its views; used by one thread."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._views: dict[str, PoolView] = {}

    @property
    def capacity(self) -> int:
        """Jobs that the real pool wants to hold."""
        return self._pool.capacity

    @property
    def gpu_share(self) -> float:
        """Part of a GPU that a worker of the real pool holds: what GPU-hours are counted with."""
        return self._pool.gpu_share

    def view(self, search_id: str) -> PoolView:
        """A pool for that search, with room for nothing until `share` gives it some."""
        view = self._views[search_id] = PoolView(self._pool, search_id)
        return view

    def forget(self, search_id: str) -> None:
        """The search is let go: its jobs are taken back."""
        view = self._views.pop(search_id, None)
        if view is not None:
            view.close()

    def share(self, priorities: Mapping[str, int], idle: Collection[str] = ()) -> None:
        """Divide the capacity by priority; each search that is named gets at least one job.

        ``idle``: searches with nothing more to do than what they have given to the pool. They
        keep room for that, and what is left of their part goes to the others.
        """
        room, asking = float(self._pool.capacity), dict(priorities)
        rooms = dict.fromkeys(self._views, 0)
        # Whoever needs less than its part first: what it leaves makes the others' parts larger.
        for name in sorted(idle, key=lambda one: len(self._views[one].jobs) / priorities[one]):
            has = len(self._views[name].jobs)
            if has < room * asking[name] / sum(asking.values()):
                rooms[name] = max(1, has)
                room -= has
                del asking[name]
        total = sum(asking.values())
        for name, part in asking.items():
            rooms[name] = max(1, round(room * part / total))
        for search_id, view in self._views.items():
            view.capacity = rooms[search_id]

    def pump(self, timeout: float) -> int:
        """Wait for messages and hand them to their searches; returns their number."""
        messages = self._pool.poll(timeout)
        for message in messages:
            search_id, _, job_id = message.job_id.partition(SEPARATOR)
            view = self._views.get(search_id)
            if view is not None:
                view.deliver(message.model_copy(update={"job_id": job_id}))
        return len(messages)

    def running(self) -> dict[str, list[str]]:
        """Search -> its jobs in the pool."""
        return {search_id: sorted(view.jobs) for search_id, view in self._views.items()}

    def workers(self) -> list[tuple[str | None, WorkerReport]]:
        """(search, worker) with the job under the search's own name; None where it has no job."""
        found: list[tuple[str | None, WorkerReport]] = []
        for one in self._pool.workers():
            if one.job is None:
                found.append((None, one))
                continue
            search_id, _, job_id = one.job.partition(SEPARATOR)
            found.append((search_id, replace(one, job=job_id)))
        return found

    def close(self) -> None:
        """Stop the real pool."""
        self._views.clear()
        self._pool.close()


class PoolView:
    """A `Pool` for one search; ``capacity`` is its share."""

    def __init__(self, pool: Pool, search_id: str) -> None:
        self._pool, self._prefix = pool, search_id + SEPARATOR
        self._inbox: deque[Message] = deque()
        self.jobs: set[str] = set()
        self.capacity = 0

    @property
    def gpu_share(self) -> float:
        """That of the real pool."""
        return self._pool.gpu_share

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self.jobs.add(job.id)
        self._pool.submit(job.model_copy(update={"id": self._prefix + job.id}))

    def deliver(self, message: Message) -> None:
        """A message has come for this search."""
        if message.job_id in self.jobs:
            if message.kind == "job_done":
                self.jobs.discard(message.job_id)
            self._inbox.append(message)

    def poll(self, timeout: float) -> list[Message]:
        """What has been delivered; never waits, for the real pool is pumped elsewhere."""
        messages = list(self._inbox)
        self._inbox.clear()
        return messages

    def cancel(self, job_id: str) -> None:
        """Drop a job, and what it sent."""
        self.jobs.discard(job_id)
        self._pool.cancel(self._prefix + job_id)
        self._inbox = deque(one for one in self._inbox if one.job_id != job_id)

    def workers(self) -> list[WorkerReport]:
        """Those of the real pool, whoever's jobs they are at."""
        return self._pool.workers()

    def close(self) -> None:
        """Take back all jobs."""
        for job_id in [*self.jobs]:
            self.cancel(job_id)
