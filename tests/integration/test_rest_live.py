"""Live events: each once and in order, resumed where they broke off, slow readers let go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import commands_watch
from api.feed import Feed, Told
from api.places import LONGEST, MOST, read_place
from db.queries_rest import Notes, RestQueries
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.client import AsyncClient, Client, Event
from evosearch.errors import NotFound
from evosearch.events import StatusChanged
from evosearch.ports import Enqueue
from tests.support.events import CREATED, RandomSearch, graph
from tests.support.service import SEARCH, Running, fill, running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = SqlStore(f"{tmp_path}/store.db")
    yield made
    made.close()


def finish(store: SqlStore, name: str = SEARCH) -> int:
    """Ends the search; returns the number of its last event."""
    lease = store.acquire(name, "filler", 60)
    return store.append(lease, [StatusChanged(status="finished", reason="the end")])


def write_slowly(store: SqlStore, search: RandomSearch, batches: int, pause: float) -> None:
    lease = store.acquire(SEARCH, "filler", 60)
    for batch in itertools.islice(search.batches(), batches):
        store.append(lease, batch)
        time.sleep(pause)


def test_a_watcher_sees_every_event_once_and_in_order(tmp_path: Path, store: SqlStore) -> None:
    search = fill(store, 20)
    seen: list[Event] = []
    with running(tmp_path) as service:

        def watch() -> None:
            with Client(service.url) as client:
                seen.extend(client.watch(SEARCH))

        watcher = threading.Thread(target=watch)
        watcher.start()
        write_slowly(store, search, 60, 0.02)
        last = finish(store)
        watcher.join(30)
        assert not watcher.is_alive()
    assert [event.seq for event in seen] == list(range(1, last + 1))
    assert seen[0].kind == "created"
    assert all(event.id == str(event.seq) for event in seen)


def test_a_service_that_dies_costs_a_watcher_nothing(tmp_path: Path, store: SqlStore) -> None:
    search = fill(store, 5)
    seen: list[int] = []
    first = Running(settings_of(tmp_path, 0))
    first.start()
    port = first.port

    def watch() -> None:
        with Client(first.url) as client:
            seen.extend(event.seq for event in client.watch(SEARCH))

    watcher = threading.Thread(target=watch)
    watcher.start()
    write_slowly(store, search, 20, 0.02)
    first.stop()
    write_slowly(store, search, 20, 0.0)
    second = Running(settings_of(tmp_path, port))
    second.start()
    write_slowly(store, search, 20, 0.02)
    last = finish(store)
    watcher.join(30)
    second.stop()
    assert not watcher.is_alive()
    assert seen == list(range(1, last + 1))


def settings_of(folder: Path, port: int):  # type: ignore[no-untyped-def]
    from api.settings import load_settings

    return load_settings({"db": f"sqlite:///{folder}/store.db", "port": port, "poll_seconds": 0.05})


def lines_of(response: httpx.Response, count: int) -> list[tuple[str, dict[str, object]]]:
    """(id, data) of the next so many events."""
    found, data, ident = [], "", ""
    for line in response.iter_lines():
        if line.startswith("data: "):
            data = line[6:]
        elif line.startswith("id: "):
            ident = line[4:]
        elif not line and data:
            found.append((ident, json.loads(data)))
            data = ""
            if len(found) == count:
                break
    return found


def test_the_stream_of_all_resumes_without_loss_or_repeats(tmp_path: Path, store: SqlStore) -> None:
    one, two = fill(store, 5), fill(store, 5, seed=9, name="bbbbbbbb")
    names = {SEARCH: one, "bbbbbbbb": two}

    def write(count: int) -> None:
        for name, search in names.items():
            lease = store.acquire(name, "filler", 60)
            for batch in itertools.islice(search.batches(), count):
                store.append(lease, batch)

    with running(tmp_path) as service:
        url = service.url + "/api/v1/events/stream"
        before = {name: store.search(name).last_seq for name in names}
        with httpx.stream("GET", url, timeout=20) as response:
            time.sleep(0.5)
            write(6)
            got = lines_of(response, 8)
        write(6)
        fill(store, 3, seed=11, name="cccccccc")
        total = {name: store.search(name).last_seq for name in (*names, "cccccccc")}
        left = sum(total.values()) - sum(before.values()) - len(got)
        headers = {"Last-Event-ID": got[-1][0]}
        with httpx.stream("GET", url, headers=headers, timeout=20) as response:
            got += lines_of(response, left)
    for name, last in total.items():
        seqs = [data["seq"] for _, data in got if data["search"] == name]
        assert seqs == list(range(before.get(name, 0) + 1, last + 1))


async def heard(events: AsyncGenerator[Told | None], feed: Feed, count: int) -> list[Told]:
    """The next so many events; the feed reads the store when the listener has nothing more."""
    found: list[Told] = []
    async with contextlib.aclosing(events):
        async for told in events:
            if told is not None:
                found.append(told)
            elif len(found) < count:
                await feed._read()
            if len(found) >= count:
                return found
    return found


def feed_that_is_read_by_hand(store: SqlStore) -> Feed:
    return Feed(RestQueries(store), every=3600.0)


def append(store: SqlStore, search: RandomSearch, name: str, batches: int) -> int:
    """Writes so many batches; returns the number of the last event."""
    lease = store.acquire(name, "filler", 60)
    last = 0
    for batch in itertools.islice(search.batches(), batches):
        last = store.append(lease, batch)
    return last


def test_a_feed_behind_its_client_repeats_nothing(store: SqlStore) -> None:
    search = fill(store, 5)

    async def watch() -> None:
        feed = feed_that_is_read_by_hand(store)
        await feed.start()
        # The client was told by another process what this one has not read yet.
        known = append(store, search, SEARCH, 4)
        one, end = feed.listen(SEARCH, known), feed.listen_to_end(SEARCH, known)
        everyone = feed.listen_to_all(None)
        tasks = [asyncio.create_task(heard(each, feed, 1)) for each in (one, end)]
        place = (await heard(everyone, feed, known - feed_start))[-1].place
        await asyncio.sleep(0)
        last = append(store, search, SEARCH, 1)
        for task in tasks:
            assert [told.seq for told in await task] == [known + 1]
        behind = feed_that_is_read_by_hand(store)
        await behind.start()
        behind._known[SEARCH].seq = feed_start
        resumed = behind.listen_to_all(read_place(place))
        found = await heard(resumed, behind, last - known)
        assert [told.seq for told in found] == [*range(known + 1, last + 1)]
        assert read_place(found[0].place).seq(SEARCH) == known + 1
        await feed.stop()
        await behind.stop()

    feed_start = store.search(SEARCH).last_seq
    asyncio.run(watch())


def test_a_stream_of_all_over_many_searches_resumes_anywhere(store: SqlStore) -> None:
    names = [f"s{number:07}" for number in range(MOST + 40)]
    writes = ServiceWrites(store)
    for name in names:
        writes.create(name, name, CREATED, Notes())

    async def watch() -> list[Told]:
        feed, place, found = feed_that_is_read_by_hand(store), None, []
        await feed.start()
        search = RandomSearch(7)
        await feed._read()
        stream = feed.listen_to_all(None)
        task = asyncio.create_task(heard(stream, feed, 1))
        await asyncio.sleep(0)
        wanted = append(store, search, names[0], 3) + append(store, RandomSearch(8), names[-1], 3)
        found = await task
        writes.create("cccccccc", "", CREATED, Notes())
        await feed._read()
        while len(found) < wanted - 2 + 1:  # the first event of each was there before
            assert len(found[-1].place) <= LONGEST
            place = read_place(found[-1].place)
            more = await heard(feed.listen_to_all(place), feed, 2)
            assert more
            found += more
        await feed.stop()
        return found

    found = asyncio.run(watch())
    for name, first in ((names[0], 2), (names[-1], 2), ("cccccccc", 1)):
        last = store.search(name).last_seq
        assert [t.seq for t in found if t.search_id == name] == [*range(first, last + 1)]


def test_a_reader_that_meets_a_bug_says_so_and_goes_on(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    search, queries = fill(store, 5), RestQueries(store)
    ask, broken = queries.last_seqs, True

    def asked() -> Any:
        if broken:
            raise RuntimeError("nobody thought of this")
        return ask()

    async def until(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not true():
                await asyncio.sleep(0.01)

    async def watch() -> list[int]:
        nonlocal broken
        feed = Feed(queries, every=0.02)
        await feed.start()
        assert feed.ready
        monkeypatch.setattr(queries, "last_seqs", asked)
        await until(lambda: not feed.ready)
        last = append(store, search, SEARCH, 2)
        broken = False
        await until(lambda: feed.ready)
        found = await heard(feed.listen(SEARCH, before), feed, last - before)
        await feed.stop()
        return [told.seq for told in found]

    before = store.search(SEARCH).last_seq
    assert asyncio.run(watch()) == [*range(before + 1, store.search(SEARCH).last_seq + 1)]
    assert caplog.text.count("Traceback") == 1
    assert "nobody thought of this" in caplog.text


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30])
def test_a_made_up_place_is_refused(tmp_path: Path, store: SqlStore, last: str) -> None:
    fill(store, 2)
    with running(tmp_path) as service:
        headers = {"Last-Event-ID": last}
        one = httpx.get(f"{service.url}/api/v1/searches/{SEARCH}/events/stream", headers=headers)
        both = httpx.get(f"{service.url}/api/v1/events/stream", headers=headers)
    assert (one.status_code, both.status_code) == (400, 400)


def test_silence_has_a_heartbeat(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 2)
    with running(tmp_path, heartbeat_seconds=0.5) as service:
        url = f"{service.url}/api/v1/searches/{SEARCH}/events/stream"
        with httpx.stream("GET", url, timeout=10) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = itertools.islice(response.iter_lines(), 8)
            assert sum(line.startswith(": ping") for line in lines) >= 1


def test_a_reader_that_does_not_read_is_let_go(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 300)
    with running(tmp_path, slow_seconds=1.0) as service, socket.socket() as idle:
        # Small buffers, which accepted connections inherit, so that a short log overflows them.
        service.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        idle.connect(("127.0.0.1", service.port))
        path = f"/api/v1/searches/{SEARCH}/events/stream?after=0"
        idle.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        feed = service.app.service.feed
        assert wait_for(lambda: feed.count == 1)
        assert wait_for(lambda: feed.count == 0)
        # Whoever reads goes on being served.
        with Client(service.url) as client:
            last = finish(store)
            assert [event.seq for event in client.watch(SEARCH, after=last - 3)] == [
                last - 2, last - 1, last,
            ]  # fmt: skip


def wait_for(done: Callable[[], bool], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        time.sleep(0.02)
    return done()


def test_the_async_client_watches_too(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 10)
    last = finish(store)

    async def watch(url: str) -> list[int]:
        async with AsyncClient(url) as client:
            assert (await client.search(SEARCH)).ended
            (best, *_) = await client.front(SEARCH)
            found = [one.birth async for one in client.candidates(SEARCH, where="on_front")]
            assert best.birth in found
            layer = await client.layer(SEARCH, best.birth, 8)
            assert sum(one.numel() for one in layer.parameters()) > 0
            assert (await client.estimate("quickstart"))["evaluations"] > 0
            return [event.seq async for event in client.watch(SEARCH, after=3)]

    with running(tmp_path) as service:
        assert asyncio.run(watch(service.url)) == list(range(4, last + 1))


def test_a_search_begins_with_the_front_of_another(tmp_path: Path, store: SqlStore) -> None:
    truth = fill(store)

    def ahead(search_id: str) -> list[str]:
        """Notes of the layers that wait to be evaluated, each the graph of its candidate."""
        lease = store.acquire(search_id, "test", 60)
        found = []
        for waiting in store.commands(lease):
            assert isinstance(waiting.command, Enqueue)
            birth = int(waiting.command.note.rpartition(" ")[2])
            assert waiting.command.graph == graph(birth)
            found.append(waiting.command.note)
        store.release(lease)
        return found

    async def create(url: str) -> str:
        async with AsyncClient(url) as client:
            return (await client.create("quickstart", warm_start=SEARCH)).id

    with running(tmp_path) as service, Client(service.url) as client:
        made = client.create("quickstart", warm_start=SEARCH[:4], key="once")
        best = [one.birth for one in client.front(SEARCH)]
        assert set(best) == set(truth.front)
        assert ahead(made.id) == [f"front of {SEARCH}: {birth}" for birth in best]
        assert ahead(asyncio.run(create(service.url))) == ahead(made.id)
        plain = client.create("quickstart")
        assert ahead(plain.id) == []
        before = len(client.searches())
        for wrong, why in (("zzzz", "no such search"), (plain.id, "has no front")):
            with pytest.raises(NotFound, match=why):
                client.create("quickstart", warm_start=wrong)
        assert len(client.searches()) == before
        client.delete(SEARCH)  # a retry goes by its key
        assert client.create("quickstart", warm_start=SEARCH[:4], key="once").id == made.id
        assert len(ahead(made.id)) == len(best)


def test_the_client_brings_layers_home(tmp_path: Path, store: SqlStore) -> None:
    import torch

    from evosearch.errors import StateConflict

    fill(store, 40)
    finish(store)
    with running(tmp_path) as service, Client(service.url) as client:
        made = client.create("quickstart", key="k", seed=4)
        assert client.create("quickstart", key="k", seed=4).id == made.id
        front = client.front(SEARCH)
        layer = client.layer(SEARCH, front[0].birth, 8)
        assert layer(torch.ones(2, 8, 4, 4)).shape == (2, 8, 4, 4)
        assert {one.birth for one in client.candidates(SEARCH, where="on_front")} == {
            one.birth for one in front
        }
        with pytest.raises(NotFound, match="no such search"):
            client.search("zzzz")
        with pytest.raises(StateConflict, match="finished"):
            client.command(SEARCH, "pause")


def test_a_stream_to_the_end_closes_with_the_search(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 5)
    last = finish(store)
    with running(tmp_path) as service:
        url = f"{service.url}/api/v1/searches/{SEARCH}/events/stream"

        def told(**params: object) -> list[int]:
            text = httpx.get(url, params={"until": "end", **params}, timeout=20).text
            return [
                json.loads(line[6:])["seq"] for line in text.splitlines() if line[:6] == "data: "
            ]

        assert told(after=0) == list(range(1, last + 1))
        assert told(after=last - 1) == [last]
        assert told(after=last) == told() == []
        with Client(service.url) as client:
            assert list(client.watch(SEARCH, after=last)) == []


def test_watching_the_store_tells_the_end_that_comes_meanwhile(store: SqlStore) -> None:
    fill(store, 3)
    told: list[int] = []

    def tell(event: dict[str, Any]) -> None:
        told.append(event["seq"])
        if len(told) == 1:
            finish(store)

    asyncio.run(commands_watch.follow(store, SEARCH, 0, tell))
    assert told == list(range(1, store.search(SEARCH).last_seq + 1))


def test_a_deleted_search_lets_its_watchers_go(tmp_path: Path, store: SqlStore) -> None:
    fill(store, 5)
    ends: list[str] = []
    with running(tmp_path) as service:

        def watch() -> None:
            with Client(service.url) as client:
                try:
                    list(client.watch(SEARCH))
                except NotFound as err:
                    ends.append(str(err))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        assert wait_for(lambda: service.app.service.feed.count == 1)
        with Client(service.url) as client:
            client.delete(SEARCH)
        watcher.join(30)
    assert not watcher.is_alive()
    assert "no such search" in ends[0]
