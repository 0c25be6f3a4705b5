"""A candidate that trains on without a word: told apart, tried elsewhere once, quarantined."""

from __future__ import annotations

import time

from db.memory import MemoryStore
from evosearch.config import (
    Anchor,
    Budget,
    Checks,
    Confirmation,
    Quality,
    SearchConfig,
    Signal,
    Stability,
    Task,
)
from evosearch.controller import Controller
from evosearch.events import Created
from evosearch.propose import Proposer
from evosearch.state import State
from workers.ray_pool import RayPool

UNCHECKED = Checks(
    signal=Signal(enabled=False), quality=Quality(enabled=False), stability=Stability(enabled=False)
)


class OneSleeps:
    """A pool in which one candidate of a search would train for ever, wherever it goes."""

    def __init__(self, pool, victim):
        self.pool, self.victim = pool, victim
        self.poll, self.cancel = pool.poll, pool.cancel

    @property
    def capacity(self):
        return self.pool.capacity

    def submit(self, one):
        if one.id == self.victim:
            # No message comes before the first training's end.
            task = one.task.model_copy(update={"steps": 1_000_000, "batch_size": 32})
            one = one.model_copy(update={"task": task, "checks": None})
        self.pool.submit(one)


def test_a_candidate_that_sleeps_for_ever_is_tried_on_two_workers_and_quarantined():
    config = SearchConfig(
        task=Task(anchors=(Anchor(name="resnet"),), steps=5, batch_size=32),
        checks=UNCHECKED,
        baselines=(),
        budget=Budget(evaluations=4),
        confirmation=Confirmation(enabled=False),
    )
    store = MemoryStore()
    store.create("sleeps", "test", Created(config=config))
    first = Proposer(State(Created(config=config))).propose(State(Created(config=config)))[-1]
    ray_pool = RayPool(2, hang_seconds=5.0)
    try:
        pool = OneSleeps(ray_pool, f"c{first.birth}")
        controller = Controller(store, pool, store.acquire("sleeps", "me", 3600))
        deadline = time.monotonic() + 120
        found = []
        while not any(one.kind == "candidate_failed" for one in found):
            assert time.monotonic() < deadline, controller.state.failures
            controller.step(0.5)
            found = [entry.event for entry in store.events("sleeps")]
    finally:
        ray_pool.close()
    lost = [one for one in found if one.kind == "job_lost"]
    failed = [one for one in found if one.kind == "candidate_failed"]
    assert [one.id for one in lost] == [pool.victim]
    assert [(one.birth, one.quarantined) for one in failed] == [(first.birth, True)]
    assert {one.failure.cause for one in lost + failed} == {"hung"}
    assert lost[0].worker != failed[0].worker
    assert controller.state.evaluated >= 4
