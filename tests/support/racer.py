"""A controller that fights for one search: ``python -m tests.support.racer URL OWNER SECONDS``.

It takes the lease, opens the search, runs a few steps of the real controller over simulated
workers, and often sleeps past its lease in the middle, as a stopped process would. It prints as
JSON what became of it, and what it wrote under which epoch of the lease.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence

from db.sql_store import SqlStore
from evosearch import snapshot
from evosearch.controller import Controller
from evosearch.errors import LeaseHeld, LeaseLost
from evosearch.events import Event
from evosearch.ports import Lease
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

ID = "race"
LEASE_SECONDS = 0.4
SNAPSHOT_EVENTS = 100
"""Snapshots are written often, so that they are fought for too."""


class NotingStore(SqlStore):
    """A store that notes who wrote which events."""

    written: list[tuple[int, int, int]]
    """(epoch of the lease, first event, last event) of each append that was not refused."""

    def append(self, lease: Lease, events: Sequence[Event], done: Sequence[int] = ()) -> int:
        last = super().append(lease, events, done)
        if events:
            self.written.append((lease.epoch, last - len(events) + 1, last))
        return last


def turn(store: SqlStore, lease: Lease, rng: random.Random) -> None:
    """One owner's turn, from opening the search to losing or leaving the lease."""
    running = Controller(store, SimulatedPool(answer, 3), lease)
    for _ in range(rng.randint(2, 12)):
        if rng.random() < 0.15:
            time.sleep(rng.uniform(0.5, 2.5) * LEASE_SECONDS)
        running.step(0.0)
    if rng.random() < 0.5:
        store.release(lease)


def main(url: str, owner: str, seconds: float) -> None:
    """Fights for that long, then prints what happened."""
    snapshot.LEAST_EVENTS = SNAPSHOT_EVENTS
    rng, told = random.Random(owner), Counter[str]()
    store = NotingStore(url)
    store.written = []
    end = time.monotonic() + seconds
    # A slow machine gets more time, until a late writer was met.
    while time.monotonic() < end + (0 if told["lost"] and told["owned"] > 5 else 60):
        try:
            lease = store.acquire(ID, owner, LEASE_SECONDS)
        except LeaseHeld:
            told["held"] += 1
            time.sleep(0.01)
            continue
        told["owned"] += 1
        try:
            turn(store, lease, rng)
        except LeaseLost:
            told["lost"] += 1
    store.close()
    print(json.dumps({"told": told, "written": store.written}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
