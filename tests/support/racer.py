"""A stand-in for a controller that fights for one search: ``python -m tests.support.racer``.

It takes the lease, reads the log, trains what is queued, queues more, and often sleeps past its
lease in the middle, as a stopped process would. It prints what became of it as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter

from db.sql_store import SqlStore
from evosearch.errors import LeaseHeld, LeaseLost
from evosearch.events import (
    CandidateEvaluated,
    CandidateQueued,
    EvaluationRecorded,
    Event,
    StatusChanged,
)
from evosearch.ports import Lease
from tests.support.events import ANCHORS, evaluated, evaluation, queued, standing

LEASE_SECONDS = 0.15


def turn(store: SqlStore, lease: Lease, rng: random.Random) -> int:
    """One owner's turn, from reading the log to losing or leaving the lease."""
    waiting: dict[int, set[str]] = {}
    newest = 0
    for stored in store.events(lease.search_id):
        event = stored.event
        if isinstance(event, CandidateQueued):
            newest = event.birth
            waiting[newest] = set(ANCHORS)
        elif isinstance(event, EvaluationRecorded):
            waiting[event.subject.birth or 0].remove(event.evaluation.anchor)
        elif isinstance(event, CandidateEvaluated):
            del waiting[event.birth]
    mark = StatusChanged(status="running", reason=f"{lease.owner} {lease.epoch}")
    written = 0
    for _ in range(rng.randint(1, 6)):
        batch: list[Event] = [mark]
        if not waiting:
            newest += 1
            waiting[newest] = set(ANCHORS)
            batch.append(queued(newest))
        birth = min(waiting)
        if waiting[birth]:
            batch.append(evaluation(birth, waiting[birth].pop(), 0.5))
        else:
            del waiting[birth]
            batch.append(evaluated(birth, standing([0.5] * 3, (birth,))))
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0.5, 2.5) * LEASE_SECONDS)
        written = store.append(lease, batch)
    if rng.random() < 0.5:
        store.release(lease)
    return written


def main(url: str, owner: str, seconds: float) -> None:
    """Fights for that long, then prints how often what happened."""
    rng, told = random.Random(owner), Counter[str]()
    store = SqlStore(url)
    end = time.monotonic() + seconds
    # A slow machine gets more time, until a late writer was met.
    while time.monotonic() < end + (0 if told["lost"] and told["owned"] > 5 else 60):
        try:
            lease = store.acquire("race", owner, LEASE_SECONDS)
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
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
