"""Searches come in and go part by part: nobody waits for one, and nobody sees half of one."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update

from api.feed import Feed
from api.places import read_place
from db import building, schema, service_writes, transfer
from db.building import Building
from db.check import check
from db.engine import begin, open_engine, parse_url
from db.migrate import HEAD, migrate
from db.queries import Queries
from db.queries_rest import Notes, RestQueries
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore, upgrade
from db.transfer import export, import_searches
from evosearch.errors import NotFound, StateConflict
from tests.support.events import CREATED, RandomSearch, queued
from tests.support.postgres import Server

ID, OTHER = "k3f9a1c2", "b3f9a1c2"


def fill(store: SqlStore, search_id: str = ID, batches: int = 60) -> None:
    store.create(search_id, "a title", CREATED)
    lease = store.acquire(search_id, "me", 60)
    for batch in itertools.islice(RandomSearch(4).batches(), batches):
        store.append(lease, batch)
    store.release(lease)


def exported(store: SqlStore) -> list[str]:
    out = io.StringIO()
    export(store, out, [ID])
    return out.getvalue().splitlines(keepends=True)


def clone(store: SqlStore) -> None:
    upto = store.search(ID).last_seq
    ServiceWrites(store).clone(ID, OTHER, "a clone", upto, Notes(tags=("clone",)))


def carry(store: SqlStore) -> None:
    lines = [line.replace(ID, OTHER) for line in exported(store)]
    digest = _digest_of(lines[1:-1])
    lines[-1] = f'{{"end":"{OTHER}","sha256":"{digest}"}}\n'
    import_searches(store, lines)


def _digest_of(lines: list[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("way", [clone, carry])
def test_others_write_while_a_search_comes_in_and_see_it_when_it_is_whole(
    sql_store: SqlStore, url: str, way: Callable[[SqlStore], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sql_store, batches=90)
    fill(sql_store, "running1", 2)
    other = SqlStore(url, busy_seconds=0.2)
    lease = other.acquire("running1", "you", 60)
    monkeypatch.setattr(service_writes, "_BATCH", 20)
    monkeypatch.setattr(transfer, "_BATCH", 20)
    add, births = Building.add, itertools.count(10**6)

    def meanwhile(self: Building, *args: Any) -> None:
        add(self, *args)
        other.append(lease, [queued(next(births))])
        assert OTHER not in {info.id for info in other.searches()}
        assert OTHER not in {row.id for row in Queries(other).searches()}
        assert OTHER not in RestQueries(other).last_seqs()
        assert OTHER not in RestQueries(other).runnable()
        for look in (lambda: other.search(OTHER), lambda: other.acquire(OTHER, "you", 60)):
            with pytest.raises(NotFound):
                look()

    monkeypatch.setattr(Building, "add", meanwhile)
    way(sql_store)
    assert next(births) > 10**6 + 4
    assert OTHER in {info.id for info in other.searches()}
    assert check(sql_store) == []
    assert other.acquire(OTHER, "you", 60).epoch == 1
    other.close()


def killed_in_the_middle(store: SqlStore) -> Building:
    """A search that a process was building when it was killed."""
    begun = Building(store, OTHER)
    log = list(store.events(ID))[:30]
    begun.begin("half", log[0].event, log[0].at)
    begun.add([(one.seq, one.at, one.event) for one in log[1:]], lambda _: None)
    return begun


def test_what_a_killed_process_left_behind_is_removed_by_the_next(sql_store: SqlStore) -> None:
    fill(sql_store)
    begun = killed_in_the_middle(sql_store)
    with pytest.raises(StateConflict, match="exists"):
        clone(sql_store)  # it may be at work yet
    with begin(sql_store.engine, write=True) as connection:
        connection.execute(
            update(schema.searches).where(schema.searches.c.id == OTHER).values(lease_expires_at=0)
        )
    clone(sql_store)
    assert check(sql_store) == []
    assert sql_store.search(OTHER).title == "a clone"
    with pytest.raises(StateConflict):
        begun.add([(31, sql_store.search(ID).updated_at, queued(10**7))], lambda _: None)
    with pytest.raises(StateConflict):
        begun.finish(lambda _: None)
    assert sql_store.search(OTHER).title == "a clone"


def test_what_breaks_off_leaves_nothing(sql_store: SqlStore) -> None:
    fill(sql_store)
    first = next(sql_store.events(ID))

    def broken_off() -> None:
        with Building(sql_store, OTHER) as begun:
            begun.begin("half", first.event, first.at)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    with begin(sql_store.engine) as connection:
        assert connection.execute(select(schema.searches.c.id)).scalars().all() == [ID]


def test_a_search_is_removed_in_parts_and_out_of_sight_at_once(
    sql_store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sql_store)
    fill(sql_store, OTHER, 20)
    monkeypatch.setattr(building, "PART", 7)
    lease, seen = sql_store.acquire(ID, "me", 60), []
    other = SqlStore(url, busy_seconds=0.2)

    def look(_connection: object) -> None:
        seen.append({info.id for info in other.searches()})

    event.listen(sql_store.engine, "begin", look)
    ServiceWrites(sql_store).delete(ID)
    event.remove(sql_store.engine, "begin", look)
    other.close()
    assert len(seen) > 20
    assert all(ids == {OTHER} for ids in seen[3:])
    with pytest.raises(NotFound):
        sql_store.append(lease, [queued(10**6)])
    with begin(sql_store.engine) as connection:
        for table in schema.metadata.sorted_tables:
            if "search_id" in table.c:
                of_it = select(func.count()).select_from(table).where(table.c.search_id == ID)
                assert connection.execute(of_it).scalar() == 0, table.name
    assert check(sql_store) == []


def test_who_was_away_is_told_a_clone_from_its_first_event(sql_store: SqlStore) -> None:
    fill(sql_store)
    with begin(sql_store.engine, write=True) as connection:  # it is a day old
        day = text("UPDATE searches SET created_at = '2020-01-01', added_at = '2020-01-01'")
        connection.execute(day)
        connection.execute(text("UPDATE events SET at = '2020-01-01'"))
    queries = RestQueries(sql_store)

    async def away() -> tuple[list[str], int]:
        feed = Feed(queries, 60.0)
        await feed.start()
        place = read_place(feed._trail.place(datetime.now(UTC)))
        clone(sql_store)
        await feed._read()
        told = []
        async for one in feed.listen_to_all(place):
            if one is None:
                break
            told.append(one.search_id)
        await feed.stop()
        return told, sql_store.search(OTHER).last_seq

    told, last = asyncio.run(away())
    assert told == [OTHER] * last


def test_people_who_change_different_notes_keep_both(sql_store: SqlStore) -> None:
    fill(sql_store, batches=2)
    writes = ServiceWrites(sql_store)
    writes.annotate(ID, tags=("a",), priority=70)
    writes.annotate(ID, starred=True)
    writes.annotate(ID, "other title")
    known = RestQueries(sql_store).notes([ID])
    assert known == {ID: Notes(tags=("a",), priority=70, starred=True)}
    assert sql_store.search(ID).title == "other title"
    with pytest.raises(NotFound):
        writes.annotate("none", starred=True)


def test_two_requests_with_one_key_create_one_search(postgres: Server) -> None:
    url = postgres.new_database()
    one, two = SqlStore(url), SqlStore(url)
    second: list[str] = []

    def create(store: SqlStore, name: str) -> str:
        return ServiceWrites(store).create(
            name, "", CREATED, Notes(), caller="c", key="k", request="r"
        )

    rival = threading.Thread(target=lambda: second.append(create(two, OTHER)))

    def meanwhile(_connection: object) -> None:
        rival.start()
        rival.join(0.5)  # it waits for this transaction

    event.listen(one.engine, "commit", meanwhile)
    assert create(one, ID) == ID
    rival.join(30)
    assert second == [ID]
    assert [info.id for info in two.searches()] == [ID]
    one.close()
    two.close()


def test_two_that_upgrade_one_server_take_turns(postgres: Server) -> None:
    url = postgres.new_database()
    engine = open_engine(parse_url(url), 1.0)
    with engine.begin() as connection:
        migrate(connection, "0004")
    engine.dispose()
    done: list[tuple[str | None, str]] = []
    both = [threading.Thread(target=lambda: done.append(upgrade(url))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert sorted(done, key=str) == sorted([("0004", HEAD), (HEAD, HEAD)], key=str)
