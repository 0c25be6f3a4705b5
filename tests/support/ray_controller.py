"""A controller with two Ray workers, to be killed: ``URL TRAINED PLACE STATEMENTS``.

Ray cannot be forked, so this is a process of its own. It notes in the file TRAINED what it asks the
workers to train, and dies at the commit that PLACE and STATEMENTS name, if PLACE is not empty.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import cast

from evosearch import snapshot
from evosearch.controller import Controller
from evosearch.ports import Pool
from evosearch.records import Job, Message
from tests.support.kills import ID, PLACES, SNAPSHOT_EVENTS, DeadlyStore, Place
from workers.ray_pool import RayPool


class Noted:
    """A pool that notes every run it is asked for."""

    def __init__(self, pool: Pool, notes: Path) -> None:
        self._pool, self._notes = pool, notes

    @property
    def capacity(self) -> int:
        return self._pool.capacity

    def submit(self, job: Job) -> None:
        with self._notes.open("a") as file:
            file.writelines(f"{job.id} {run.model_dump_json()}\n" for run in job.runs)
        self._pool.submit(job)

    def poll(self, timeout: float) -> list[Message]:
        return self._pool.poll(timeout)

    def cancel(self, job_id: str) -> None:
        self._pool.cancel(job_id)

    def close(self) -> None:
        self._pool.close()


def main(url: str, trained: str, place: str, statements: str) -> None:
    """Runs the search to its end, or dies."""
    snapshot.LEAST_EVENTS = SNAPSHOT_EVENTS
    store, pool = DeadlyStore(url), Noted(RayPool(2), Path(trained))
    if place in PLACES:
        store.arm(cast(Place, place), int(statements))
    lease = store.acquire(ID, "me", 3600)
    Controller(store, pool, lease, clock=time.perf_counter).run(0.05)
    pool.close()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
