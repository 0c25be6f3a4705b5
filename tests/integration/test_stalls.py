"""A search whose controller died raises the alert, once a stall, whoever looks; disks too."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from api.alerts import Alerts
from api.controlling import Controlling
from api.disks import least_free, watched_folders
from api.settings import load_settings
from api.shared_pool import SharedPool
from api.stalls import StallWatch
from db.schema import searches
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.events import BudgetChanged, StatusChanged
from tests.acceptance.command import age_lease, environment
from tests.contract.conftest import sql_store, url
from tests.simulated_worker import answer
from tests.support.controlling import create, store
from tests.support.postgres import postgres
from tests.support.receiver import Receiver, receiver
from tests.support.web_process import WebProcess
from workers.simulated import SimulatedPool

__all__ = ["postgres", "receiver", "sql_store", "store", "url"]
ID = "aaaaaaaa"
STALLED = 1.0


def until(done: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_a_killed_controllers_search_is_told_once_by_two_web_processes(
    store: SqlStore, tmp_path: Path, receiver: Receiver
) -> None:
    create(store, ID, "budget.evaluations=100000")
    database = f"sqlite:///{tmp_path}/store.db"
    command = [sys.executable, "-m", "tests.support.simulated_controller", database, "me", "0.05"]
    hook = {"alert_webhook": receiver.url, "stalled_minutes": STALLED / 60}

    def controller() -> subprocess.Popen[bytes]:
        before = store.search(ID).last_seq
        made = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE)
        until(lambda: store.search(ID).last_seq > before + 5)
        return made

    with ExitStack() as open_now:
        running = controller()
        open_now.callback(lambda: kill(running))
        for _ in range(2):
            web = WebProcess(tmp_path / "store.db", **hook)
            open_now.callback(web.close)
            web.start()
        for stall in (1, 2):
            kill(running)
            time.sleep(2 * STALLED)  # its lease holds: it might only be slow
            assert receiver.kinds() == ["stalled"] * (stall - 1)
            age_lease(tmp_path, 12, "store.db")
            until(lambda stall=stall: len(receiver.told) >= stall)  # type: ignore[misc]
            time.sleep(2 * STALLED)  # both have looked several times since
            assert receiver.kinds() == ["stalled"] * stall
            running = controller()
    told = receiver.told[0][1]
    assert told["search"] == ID
    assert "no controller runs it" in told["text"]


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def pair(sql_store: SqlStore, receiver: Receiver) -> Iterator[list[StallWatch]]:
    """What two processes look with, each by its own connection; stepped by hand."""
    stores = [SqlStore(sql_store.engine.url.render_as_string(hide_password=False)) for _ in "ab"]
    made = [StallWatch(one, watching(one, receiver), 60.0) for one in stores]
    yield made
    for watch, one in zip(made, stores, strict=True):
        watch.close()
        one.close()


def watching(store: SqlStore, receiver: Receiver) -> Alerts:
    return Alerts(receiver.url, None, 60.0, claim=ServiceWrites(store).claim_stall)


def age(store: SqlStore, seconds: float) -> None:
    """As if its last event had come, and the search been added, so long ago."""
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    with store.engine.begin() as connection:
        connection.execute(update(searches).values(updated_at=then, added_at=then))


def test_one_alert_a_stall_on_both_databases(
    sql_store: SqlStore, pair: list[StallWatch], receiver: Receiver
) -> None:
    create(sql_store, ID)

    def look(expected: int) -> None:
        for watch in (*pair, *pair):
            watch.look()
        until(lambda: len(receiver.told) >= expected, 10)
        time.sleep(0.2)
        assert receiver.kinds() == ["stalled"] * expected

    look(0)  # it is young
    age(sql_store, 59.0)
    look(0)
    age(sql_store, 61.0)
    look(1)
    lease = sql_store.acquire(ID, "me", 600)
    sql_store.append(lease, [BudgetChanged(evaluations=9)])
    age(sql_store, 61.0)
    look(1)  # whoever holds it tells of it
    sql_store.release(lease)
    look(2)  # a stall of its own: an event lies between
    lease = sql_store.acquire(ID, "me", 600)
    sql_store.append(lease, [StatusChanged(status="paused")])
    sql_store.release(lease)
    age(sql_store, 999.0)
    look(2)


def test_a_controller_and_a_web_process_tell_one_stall_once(
    store: SqlStore, receiver: Receiver
) -> None:
    create(store, ID)
    alerts, other = watching(store, receiver), watching(store, receiver)
    control = Controlling(store, SharedPool(SimulatedPool(answer, 2)), "me", alerts=alerts)
    try:
        until(lambda: control.step() or control.held)  # type: ignore[func-returns-value]
        state = control._held[ID].controller.state
        for one in (alerts, other, alerts):
            one.stalled(ID, state.seq, "silent")
        until(lambda: receiver.told, 10)
    finally:
        control.close()
        alerts.close()
        other.close()
    assert receiver.kinds() == ["stalled"]
    assert not ServiceWrites(store).claim_stall("nothing", 1)


def test_every_folder_that_fills_is_watched(tmp_path: Path, receiver: Receiver) -> None:
    """An idle controller tells, of the fullest disk; a server's database is elsewhere."""
    own = {"data_dir": tmp_path, "cache": tmp_path / "not" / "made", "pool": "ray"}
    local = load_settings({"db": f"sqlite:///{tmp_path}/store.db", **own})
    assert set(watched_folders(local)) == {"database", "data", "cache", "temporary files", "Ray"}
    server = load_settings({"db": "postgresql://somebody@nowhere/x", **own, "pool": "inline"})
    assert set(watched_folders(server)) == {"data", "cache", "temporary files"}
    found = least_free(server)
    assert found is not None
    assert found[0] > 0
    fullest = least_free(load_settings({"db": "postgresql://x@y/z", "cache": Path("/proc/1")}))
    assert fullest is not None
    assert fullest == (0, "cache, /proc/1")  # a file system that has no room
    empty = SqlStore(f"{tmp_path}/store.db")
    alerts = Alerts(receiver.url, None, 60.0, disk_free=lambda: fullest)
    control = Controlling(empty, SharedPool(SimulatedPool(answer, 2)), "me", alerts=alerts)
    control.step()
    control.close()
    alerts.close()
    empty.close()
    assert [told["text"] for _, told in receiver.told] == ["0 MB are left: cache, /proc/1"]
