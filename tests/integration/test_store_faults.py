"""Disks that are full, folders that are read-only, locks, crashes: a clear line, nothing lost."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from api.lease import Keeper
from db.admin import backup
from db.check import check
from db.migrate import migrate
from db.queries_rest import Notes, RestQueries
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.controller import Controller
from evosearch.errors import LeaseLost, StoreError
from evosearch.events import Created
from evosearch.ports import Pause
from evosearch.presets import load_preset
from tests.simulated_worker import answer
from tests.support.events import CREATED, RandomSearch, queued
from tests.support.postgres import Server
from workers.simulated import SimulatedPool

ROOT = Path(__file__).parents[2]
SNAPSHOTS = int(os.environ.get("EVOSEARCH_SNAPSHOTS", "12"))
NOBODY = 65534


def start_writer(*args: str) -> subprocess.Popen[str]:
    """A process that writes a random search."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.writer", *args],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def filled(path: Path) -> SqlStore:
    """A store with one search, whose lease is free."""
    store = SqlStore(str(path))
    store.create("run", "", CREATED)
    lease = store.acquire("run", "me", 60)
    for batch in itertools.islice(RandomSearch(2).batches(), 20):
        store.append(lease, batch)
    store.release(lease)
    return store


@pytest.mark.parametrize("limit", [300_000, 700_000, 1_500_000])
def test_a_full_disk_loses_nothing(tmp_path: Path, limit: int) -> None:
    path = f"{tmp_path}/store.db"
    with start_writer(path, str(limit)) as writer:
        lines = writer.communicate(timeout=120)[0].splitlines()
    acknowledged, error = int(lines[-2]), lines[-1]
    assert error.startswith("StoreError: ")
    assert "disk" in error
    assert "check" in error or "make room" in error
    store = SqlStore(path)
    assert store.search("run").last_seq == acknowledged
    assert check(store) == []
    lease = store.acquire("run", "writer", 60)
    assert store.append(lease, [queued(10**6)]) == acknowledged + 1
    store.close()


def test_a_full_database_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.db")
    lease = store.acquire("run", "me", 60)
    with store.engine.connect() as connection:  # the pool hands out this very connection again
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    last = store.search("run").last_seq
    batch = [queued(birth) for birth in range(10**6, 10**6 + 500)]
    with pytest.raises(StoreError, match=r"disk is full.*make room"):
        store.append(lease, batch)
    assert store.search("run").last_seq == last
    with store.engine.connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 1000000"))
    assert store.append(lease, batch) == last + 500
    assert check(store) == []
    store.close()


def as_nobody(task: Callable[[], str]) -> str:
    """What the task returns in a child that has no rights of root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            answer = task()
        except BaseException as err:
            answer = f"{type(err).__name__}: {err}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def open_and_read(path: Path) -> str:
    """Opens the store and says what it holds."""
    store = SqlStore(str(path))
    last = store.search("run").last_seq
    store.create("new", "", CREATED)
    store.close()
    return str(last)


def test_a_folder_without_rights_is_told(tmp_path: Path) -> None:
    assert migrate  # modules that opening needs are loaded before the child gives up its rights
    store = filled(tmp_path / "store.db")
    last = store.search("run").last_seq
    store.close()
    (tmp_path / "store.db").chmod(0o444)
    outer = list(tmp_path.parents)[:-2]
    modes = {folder: folder.stat().st_mode for folder in outer}
    try:
        for folder in outer:
            if folder.stat().st_uid == os.geteuid():
                folder.chmod(modes[folder] | 0o011)
        tmp_path.chmod(0o555)
        for path in (tmp_path / "store.db", tmp_path / "none.db"):
            told = as_nobody(lambda path=path: open_and_read(path))  # type: ignore[misc]
            assert told.startswith("StoreError: "), told
            assert "check the rights" in told
            assert "\n" not in told
    finally:
        tmp_path.chmod(0o755)
        for folder, mode in modes.items():
            if folder.stat().st_uid == os.geteuid():
                folder.chmod(mode)
    (tmp_path / "store.db").chmod(0o644)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.db"]
    assert open_and_read(tmp_path / "store.db") == str(last)


def test_a_lock_is_waited_for_and_then_told(tmp_path: Path) -> None:
    filled(tmp_path / "store.db").close()
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    store = SqlStore(f"{tmp_path}/store.db", busy_seconds=0.3)
    lease = store.acquire("run", "me", 60)
    other.execute("BEGIN IMMEDIATE")
    before = time.monotonic()
    with pytest.raises(StoreError, match=r"locked.*close it"):
        store.append(lease, [queued(10**6)])
    assert time.monotonic() - before >= 0.25
    last = store.search("run").last_seq  # readers go on
    other.execute("ROLLBACK")
    assert store.append(lease, [queued(10**6)]) == last + 1
    other.close()
    store.close()


def test_opening_a_locked_file_is_told(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("CREATE TABLE searches (id TEXT)")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"locked.*close it"):
        SqlStore(f"{tmp_path}/store.db", busy_seconds=0.2)
    other.close()


def test_power_loss_at_arbitrary_moments(tmp_path: Path) -> None:
    """Database and log as they lay on disk, with what a torn last write may leave behind."""
    path, rng = tmp_path / "store.db", random.Random(1)
    seen = set()
    with start_writer(str(path)) as writer:
        assert writer.stdout is not None
        for number in range(SNAPSHOTS):
            for _ in range(rng.randint(3, 40)):
                line = writer.stdout.readline()
            time.sleep(rng.random() * 0.02)
            writer.send_signal(signal.SIGSTOP)
            copy = tmp_path / f"copy{number}.db"
            for suffix in ("", "-wal"):
                if (tmp_path / f"store.db{suffix}").exists():
                    shutil.copy(tmp_path / f"store.db{suffix}", f"{copy}{suffix}")
            writer.send_signal(signal.SIGCONT)
            with open(f"{copy}-wal", "ab") as log:
                log.write(rng.randbytes(rng.choice([0, 1, 24, 4096 + 24, 9000])))
            store = SqlStore(str(copy))
            assert store.search("run").last_seq >= int(line)
            assert check(store) == []
            seen.add(store.search("run").last_seq)
            store.close()
        writer.kill()
    assert len(seen) == SNAPSHOTS


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGQUIT])
def test_a_server_that_restarts_is_found_again(postgres: Server, sign: signal.Signals) -> None:
    store = SqlStore(postgres.new_database())
    store.create("run", "", CREATED)
    lease = store.acquire("run", "me", 60)
    search = RandomSearch(4).batches()
    for batch in itertools.islice(search, 20):
        last = store.append(lease, batch)
    postgres.stop(sign)
    waiting = next(search)
    try:
        with pytest.raises(StoreError, match=r"what was committed is safe") as caught:
            store.append(lease, waiting)
        assert "\n" not in str(caught.value)
    finally:
        postgres.start()
    assert store.search("run").last_seq == last
    store.append(lease, waiting)
    assert check(store) == []
    store.close()


def test_a_dropped_connection_is_replaced(postgres: Server) -> None:
    url = postgres.new_database()
    store, other = SqlStore(url), SqlStore(url)
    store.create("run", "", CREATED)
    lease = store.acquire("run", "me", 60)
    with other.engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        )
    assert store.append(lease, [queued(3)]) == 2
    other.close()
    store.close()


def cut(store: SqlStore, when: str) -> Callable[[], None]:
    """Breaks the store's connection at its next commit, before or after the server has done it.

    Returns what must be called in the end; it says whether the connection was broken.
    """
    dialect, broken = store.engine.dialect, []
    commit = dialect.do_commit

    def torn(connection: Any) -> None:
        dialect.do_commit = commit  # type: ignore[method-assign]
        broken.append(when)
        if when == "after":
            commit(connection)
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    dialect.do_commit = torn  # type: ignore[method-assign]
    return lambda: broken.remove(when)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["events", "command", "both"])
def test_a_commit_whose_connection_broke_is_made_once(
    postgres: Server, when: str, what: str
) -> None:
    store = SqlStore(postgres.new_database(), patience=20)
    store.create("run", "", CREATED)
    lease = store.acquire("run", "me", 60)
    store.append(lease, [queued(1)])
    done = [store.send("run", Pause())] if what != "events" else []
    events = [queued(2), queued(3)] if what != "command" else []
    was_cut = cut(store, when)
    last = store.append(lease, events, done)
    was_cut()
    assert last == 2 + len(events) == store.search("run").last_seq
    assert store.commands(lease) == []
    assert store.append(lease, [queued(4)]) == last + 1
    assert check(store) == []
    store.close()


def test_without_patience_a_broken_commit_is_told(postgres: Server) -> None:
    store = SqlStore(postgres.new_database())
    store.create("run", "", CREATED)
    lease = store.acquire("run", "me", 60)
    cut(store, "before")
    with pytest.raises(StoreError, match="what was committed is safe"):
        store.append(lease, [queued(1)])
    assert store.search("run").last_seq == 1
    store.close()


def test_a_late_writer_does_not_mistake_anothers_events_for_its_own(postgres: Server) -> None:
    """The commit is lost, and meanwhile another controller took over and wrote as much."""
    url = postgres.new_database()
    store, other = SqlStore(url, patience=20), SqlStore(url)
    store.create("run", "", CREATED)
    lease = store.acquire("run", "me", 0.0)
    cut(store, "before")
    torn = store.engine.dialect.do_commit

    def taken_over(connection: Any) -> None:
        connection.rollback()
        other.append(other.acquire("run", "you", 60), [queued(7)])
        torn(connection)

    store.engine.dialect.do_commit = taken_over  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        store.append(lease, [queued(1)])
    assert store.search("run").last_seq == 2
    store.close()
    other.close()


def test_a_search_goes_on_by_itself_after_its_server_restarts(postgres: Server) -> None:
    store = SqlStore(postgres.new_database(), patience=60)
    overrides = ["budget.evaluations=8", "confirmation.resamples=50", "confirmation.final_seeds=3",
                 "evolution.choose_of=1"]  # fmt: skip
    store.create("run", "", Created(config=load_preset("quickstart", overrides, seed=1)))
    lease = store.acquire("run", "me", 60)
    running = Controller(store, SimulatedPool(answer, 3), lease)
    restarts = iter([(signal.SIGINT, 40), (signal.SIGQUIT, 90)])
    sign, at = next(restarts)
    with Keeper(store, lease, every=0.2) as keeper:
        while not running.over:
            if running.state.seq >= at:
                postgres.stop(sign)
                back = threading.Timer(1.0, postgres.start)
                back.start()
                sign, at = next(restarts, (sign, 10**9))
            running.step(0.0)
            keeper.check()
    back.join()
    assert at == 10**9, "the server was not restarted twice"
    assert running.state.status == "finished"
    assert check(store) == []
    store.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_people_write_is_written_once_over_a_broken_commit(
    postgres: Server, when: str
) -> None:
    store = SqlStore(postgres.new_database(), patience=20)
    writes = ServiceWrites(store)

    def over(task: Callable[[], Any]) -> Any:
        was_cut = cut(store, when)
        found = task()
        was_cut()
        return found

    first = [Pause()]
    made = over(lambda: writes.create(
        "run", "", CREATED, Notes(), first=first, caller="c", key="k", request="r"
    ))  # fmt: skip
    assert made == "run"
    over(lambda: store.create("other", "", CREATED))
    lease = over(lambda: store.acquire("run", "me", 60))
    over(lambda: store.send("run", Pause()))
    over(lambda: writes.annotate("run", starred=True))
    assert [one.command for one in store.commands(lease)] == [Pause(), Pause()]
    assert RestQueries(store).notes(["run"])["run"].starred
    assert sorted(info.id for info in store.searches()) == ["other", "run"]
    over(lambda: writes.delete("other"))
    assert [info.id for info in store.searches()] == ["run"]
    assert check(store) == []
    store.close()


def test_a_backup_beside_a_writer_is_whole_each_time(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with start_writer(str(path)) as writer:
        assert writer.stdout is not None
        lasts = []
        for number in range(6):
            for _ in range(30):
                acknowledged = int(writer.stdout.readline())
            store = SqlStore(str(path))
            backup(store, tmp_path / f"copy{number}.db")
            store.close()
            copy = SqlStore(f"{tmp_path}/copy{number}.db")
            lasts.append(copy.search("run").last_seq)
            assert lasts[-1] >= acknowledged
            assert check(copy) == []
            copy.close()
        assert writer.poll() is None, "the writer was stopped by a backup"
        writer.kill()
    # A writer that gets no turn between two backups is no fault of theirs.
    assert lasts == sorted(lasts)
    assert lasts[0] < lasts[-1]
