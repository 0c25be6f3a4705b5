"""Controllers of many searches with simulated workers, for tests that step them by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.alerts import Alerts
from api.controlling import Controlling
from api.shared_pool import SharedPool
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch.presets import load_preset
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

SMALL = ("budget.evaluations=6", "confirmation.resamples=50", "confirmation.final_seeds=3",
         "evolution.choose_of=1")  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = SqlStore(f"{tmp_path}/store.db")
    yield made
    made.close()


def create(store: SqlStore, name: str, *overrides: str, priority: int = 10) -> None:
    config = load_preset("quickstart", [*SMALL, *overrides], seed=3)
    ServiceWrites(store).create(name, name, ev.Created(config=config), Notes(priority=priority))


@pytest.fixture
def control(store: SqlStore, tmp_path: Path) -> Iterator[Controlling]:
    alerts = Alerts(None, None, 3600.0)
    made = Controlling(store, SharedPool(SimulatedPool(answer, 4)), "me", alerts=alerts)
    yield made
    made.close()
    alerts.close()


def seconds_until(control: Controlling, done: Callable[[], bool]) -> float:
    """Real seconds of steps until it is so."""
    begin = time.monotonic()
    while not done():
        assert time.monotonic() - begin < 20, "it did not come to that"
        control.step()
    return time.monotonic() - begin


def step_until(control: Controlling, done: Callable[[], bool], steps: int = 5000) -> None:
    for _ in range(steps):
        if done():
            return
        control.step()
    raise AssertionError("it did not come to that")


def status(store: SqlStore, name: str) -> str:
    return store.search(name).status


def controlling(
    store: SqlStore, script: Any = answer, workers: int = 4, **more: Any
) -> tuple[Controlling, Alerts]:
    alerts = Alerts(None, None, 3600.0)
    pool = SharedPool(SimulatedPool(script, workers))
    return Controlling(store, pool, "me", alerts=alerts, **more), alerts
