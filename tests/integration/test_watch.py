"""`search watch` tells the same, whether it reads the store or listens to a service."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api import feed
from api.commands_watch import follow
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.errors import NotFound
from evosearch.events import StatusChanged
from tests.acceptance.command import COMMAND, ROOT
from tests.support.events import CREATED, RandomSearch
from tests.support.service import running

ID = "abcd2345"
FREE = {"rate": 10_000.0, "burst": 10_000}
ENDING = StatusChanged(status="stopped", reason="asked to")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = SqlStore(f"{tmp_path}/store.db")
    made.create(ID, "", CREATED)
    yield made
    made.close()


def write(store: SqlStore, batches: int, pause: float = 0.0) -> int:
    """A search from its beginning to its end; returns the number of its last event."""
    lease = store.acquire(ID, "writer", 600)
    for batch in itertools.islice(RandomSearch(5).batches(), batches):
        store.append(lease, batch)
        time.sleep(pause)
    return store.append(lease, [ENDING])


def watching(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "search", "watch", ID, *words]
    more = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=folder, env=os.environ | more, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split()[0]) for line in lines]


def test_the_store_and_a_service_tell_the_same_lines(store: SqlStore, tmp_path: Path) -> None:
    """While events come; a watcher that is interrupted goes on behind what it has printed."""
    from_store = ("--db", f"sqlite:///{tmp_path}/store.db")
    with running(tmp_path, **FREE) as service:
        watchers = [watching(tmp_path, *from_store), watching(tmp_path, "--url", service.url)]
        cut = watching(tmp_path, *from_store)
        assert cut.stdout is not None
        first = [cut.stdout.readline()]
        writer = threading.Thread(target=write, args=(store, 150, 0.01))
        writer.start()
        first += [cut.stdout.readline() for _ in range(30)]
        cut.send_signal(signal.SIGINT)
        printed = first + cut.stdout.readlines()
        assert "Traceback" not in cut.communicate(timeout=60)[1]
        again = watching(tmp_path, *from_store, "--since", str(numbers(printed)[-1]))
        told = [one.communicate(timeout=120)[0].splitlines(keepends=True)
                for one in (*watchers, again)]  # fmt: skip
        writer.join()
    last = store.search(ID).last_seq
    assert [one.returncode for one in (*watchers, again)] == [0, 0, 0]
    assert told[0] == told[1] == printed + told[2]
    assert numbers(told[0]) == list(range(1, last + 1))
    assert "stopped" in told[0][-1]


def followed(store: SqlStore, since: int, tell: Any) -> None:
    asyncio.run(asyncio.wait_for(follow(store, ID, since, tell), 60))


def test_a_slow_reader_loses_nothing(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAGE", 7)
    monkeypatch.setattr(feed.Listener, "__init__", _small)
    monkeypatch.setattr("api.commands_watch.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("api.commands_watch.AGAIN_SECONDS", 0.01)
    seen: list[int] = []

    def slowly(event: dict[str, Any]) -> None:
        seen.append(event["seq"])
        time.sleep(0.002)

    writer = threading.Thread(target=write, args=(store, 60))
    writer.start()
    followed(store, 0, slowly)
    writer.join()
    assert seen == list(range(1, store.search(ID).last_seq + 1))
    assert _small.lost > 0  # type: ignore[attr-defined]


def _small(self: feed.Listener, search_id: str | None) -> None:
    """A listener that is let go early, and counted."""
    _small.lost = getattr(_small, "lost", -1) + 1  # type: ignore[attr-defined]
    self.search_id, self.queue, self.lost = search_id, asyncio.Queue(3), False


def test_what_is_over_is_told_and_no_more(store: SqlStore) -> None:
    last = write(store, 5)
    seen: list[int] = []
    followed(store, last - 2, lambda event: seen.append(event["seq"]))
    assert seen == [last - 1, last]
    followed(store, last, lambda event: seen.append(event["seq"]))
    assert seen == [last - 1, last]


def test_a_search_that_is_deleted_ends_it(store: SqlStore) -> None:
    timer = threading.Timer(1.0, lambda: ServiceWrites(store).delete(ID))
    timer.start()
    with pytest.raises(NotFound):
        followed(store, 0, lambda _: None)
    timer.join()
