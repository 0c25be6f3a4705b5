"""Disks and servers that fail in the middle of a search: a clear line, and nothing is lost."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from api import controlling
from api.alerts import Alerts
from api.controlling import Controlling
from api.shared_pool import SharedPool
from db import engine
from db.check import check
from db.sql_store import SqlStore
from evosearch.controller import Controller
from evosearch.errors import StoreError
from evosearch.events import ENDED, Created, dump_event, without_times
from evosearch.presets import load_preset
from tests.simulated_worker import answer
from tests.support.postgres import Server
from workers.simulated import SimulatedPool

SEARCH = ("budget.evaluations=8", "confirmation.resamples=50", "confirmation.final_seeds=3",
          "evolution.choose_of=1")  # fmt: skip
FAULTS = {
    "full": r"disk is full.*make room", "read-only": r"read-only.*check the rights",
    "locked": r"locked.*close it",
}  # fmt: skip
"""What goes wrong -> what the message says."""

BUSY = 0.02
"""Seconds that a store waits for a lock: nobody but a test has one, and for long."""


class Disk:
    """The disk under a store: full, read-only or locked while that is said."""

    def __init__(self, store: SqlStore) -> None:
        self._path, self._fault = store.url, ""
        event.listen(store.engine, "checkout", self._prepare)

    def _prepare(self, connection: sqlite3.Connection, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        most = pages if self._fault == "full" else 10**9
        connection.execute(f"PRAGMA max_page_count = {most}")
        connection.execute(f"PRAGMA query_only = {int(self._fault == 'read-only')}")

    @contextmanager
    def broken(self, fault: str) -> Iterator[None]:
        """Goes wrong in that way in this context."""
        other = sqlite3.connect(self._path, isolation_level=None)
        if fault == "locked":
            other.execute("BEGIN IMMEDIATE")
        self._fault = fault
        yield
        self._fault = ""
        other.close()


def new_search(store: SqlStore) -> None:
    config = load_preset("quickstart", SEARCH, seed=1)
    store.create("run", "", Created(config=config))


def told(store: SqlStore) -> list[object]:
    return [without_times(json.loads(dump_event(one.event))) for one in store.events("run")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The log of the search where nothing goes wrong."""
    store = SqlStore(f"{tmp_path_factory.mktemp('quiet')}/store.db")
    new_search(store)
    Controller(store, SimulatedPool(answer, 3), store.acquire("run", "me", 60)).run(0.0)
    log = told(store)
    store.close()
    return log


def steps(running: Controller, count: int) -> None:
    for _ in range(count):
        running.step(0.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_controller_goes_on_where_its_store_refused(
    tmp_path: Path, fault: str, undisturbed: list[object]
) -> None:
    store = SqlStore(f"{tmp_path}/store.db", busy_seconds=BUSY)
    disk = Disk(store)
    new_search(store)
    running = Controller(store, SimulatedPool(answer, 3), store.acquire("run", "me", 60))
    refused = 0
    for at in (20, 45, 90, 130):
        while running.state.seq < at:
            running.step(0.0)
        with disk.broken(fault):
            for _ in range(3):
                with pytest.raises(StoreError, match=FAULTS[fault]) as caught:
                    steps(running, 200)  # a full disk has room for a few more rows in its pages
                assert "\n" not in str(caught.value)
                refused += 1
    assert refused == 12
    assert running.run(0.0).status == "finished"
    assert told(store) == undisturbed
    assert check(store) == []
    store.close()


@pytest.fixture(autouse=True)
def _without_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is told by the tests: the loop need not rest between its steps."""
    monkeypatch.setattr(controlling, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.02)


class Controlled:
    """The controller process's loop over simulated workers, by a clock that it moves itself."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.now = store, 0.0
        self._alerts = Alerts(None, None, 3600.0)
        pool = SharedPool(SimulatedPool(answer, 3))
        self.loop = Controlling(store, pool, "me", alerts=self._alerts, clock=lambda: self.now)

    def step(self) -> None:
        self.now += 0.5 if self.loop.held else 5.0  # a search in trouble waits long
        self.loop.step()

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(5000):
            if done():
                return
            self.step()
        raise AssertionError("it did not come to that")

    def to_the_end(self) -> None:
        self.until(lambda: self.store.search("run").status in ENDED)
        self.loop.close()
        self._alerts.close()
        assert self.store.search("run").status == "finished"
        assert check(self.store) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_the_service_goes_on_by_itself_once_the_disk_is_well(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqlStore(f"{tmp_path}/store.db", busy_seconds=BUSY)
    disk, control = Disk(store), Controlled(store)
    new_search(store)
    for at in (20, 110):
        control.until(lambda at=at: store.search("run").last_seq >= at)  # type: ignore[misc]
        with disk.broken(fault):
            for _ in range(25):
                control.step()
    control.to_the_end()
    words = {"full": "disk is full", "read-only": "read-only", "locked": "locked"}
    assert words[fault] in caplog.text
    store.close()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGQUIT])
def test_the_service_goes_on_by_itself_after_its_server_restarts(
    postgres: Server, sign: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqlStore(postgres.new_database(), patience=0.05)
    new_search(store)
    control = Controlled(store)
    control.until(lambda: store.search("run").last_seq >= 40)
    postgres.stop(sign)
    try:
        for _ in range(3):
            control.step()
    finally:
        postgres.start()
    control.to_the_end()
    assert "the store cannot be read, it is asked again" in caplog.text
    store.close()
