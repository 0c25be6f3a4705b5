"""Check, vacuum, backup, export and import keep what was recorded, and see what is wrong."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from db.admin import backup, vacuum
from db.check import check
from db.queries import Queries
from db.queries_rest import Notes, RestQueries
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from db.transfer import export, import_searches
from evosearch.errors import NotFound, StoreError
from evosearch.ports import Pause, Stop
from tests.support.events import CREATED, RandomSearch
from tests.support.postgres import Server

ID = "k3f9a1c2"


def fill(store: SqlStore, search_id: str = ID, seed: int = 3, batches: int = 150) -> RandomSearch:
    """A search with outcomes of all kinds, a waiting and a done command."""
    store.create(search_id, f"title of {search_id}", CREATED)
    lease, search = store.acquire(search_id, "me", 60), RandomSearch(seed)
    done = store.send(search_id, Pause())
    for batch in itertools.islice(search.batches(), batches):
        store.append(lease, batch)
    store.append(lease, [], [done])
    store.send(search_id, Stop())
    store.release(lease)
    return search


def exported(store: SqlStore, *ids: str) -> str:
    """The export as text."""
    out = io.StringIO()
    export(store, out, ids)
    return out.getvalue()


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """A second, empty store of either kind."""
    if request.param == "sqlite":
        made = SqlStore(f"{tmp_path}/other.db")
    else:
        server: Server = request.getfixturevalue("postgres")
        made = SqlStore(server.new_database())
    yield made
    made.close()


def test_a_whole_store_has_no_problems(sql_store: SqlStore) -> None:
    fill(sql_store)
    fill(sql_store, "other", seed=4, batches=3)
    sql_store.create("fresh", "", CREATED)
    assert check(sql_store) == []
    assert check(sql_store, [ID]) == []
    with pytest.raises(NotFound):
        check(sql_store, ["nothing"])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("DELETE FROM events WHERE seq = 7", "without a gap"),
        ("UPDATE events SET payload = '{}' WHERE seq = 7", "do not replay"),
        ("UPDATE searches SET evaluated = evaluated + 1", "table searches: .*evaluated is"),
        ("UPDATE searches SET hypervolume = 9", "hypervolume is 9.0"),
        ("UPDATE searches SET budget = 9", "budget is 9, by the events"),
        ("UPDATE candidates SET mean_score = 0.01 WHERE seeds > 0", "mean_score is 0.01"),
        ("DELETE FROM candidates WHERE birth = 1000000 OR state = 'rejected'", "candidates: birth"),
        (
            "INSERT INTO repeats SELECT search_id, min(birth), 5 FROM candidates"
            " WHERE birth NOT IN (SELECT birth FROM repeats) GROUP BY search_id",
            "table repeats: .*stands in the table only",
        ),
        (
            "INSERT INTO parents SELECT search_id, child, position + 1, parent FROM parents",
            "rows stand in the table only",
        ),
        ("UPDATE candidates SET on_front = false WHERE on_front", "the front is "),
        ("UPDATE candidates SET worker = 'x' WHERE state = 'evaluated'", "worker is 'x'"),
        ("DELETE FROM parents", "table parents: .*stands in the events only"),
        ("DELETE FROM check_runs", "table check_runs"),
        ("UPDATE tallies SET count = count + 1 WHERE code = 'constant'", "count is"),
        ("UPDATE evaluations SET score = 0.123", "score is 0.123"),
        ("UPDATE jobs SET attempt = 5", "table jobs"),
        ("UPDATE repeats SET count = 99", "table repeats"),
        ("DELETE FROM skip_examples WHERE position = 0", "table skip_examples"),
    ],
)
def test_damage_is_seen(sql_store: SqlStore, damage: str, told: str) -> None:
    fill(sql_store, batches=70)
    with sql_store.engine.begin() as connection:
        connection.execute(text(damage))
    problems = check(sql_store)
    assert any(re.search(told, line) for line in problems), problems
    assert all("\n" not in line for line in problems)


def test_a_row_that_refers_to_nothing_is_seen(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    fill(store, batches=30)
    with store.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("UPDATE parents SET parent = 0")
        raw.execute("PRAGMA foreign_keys = ON")
    assert any("refers to nothing" in line for line in check(store))
    store.close()


def test_carried_to_another_store_and_back_nothing_is_lost(
    sql_store: SqlStore, other: SqlStore
) -> None:
    search = fill(sql_store)
    fill(sql_store, "second", seed=9, batches=20)
    given = sorted(search.scores)[:3]
    about = Notes(tags=("a", "b"), text="why", priority=70, starred=True, archived=True)
    ServiceWrites(sql_store).annotate(ID, **asdict(about))
    for birth in given:
        sql_store.star(ID, birth)
    lines = exported(sql_store)
    seen: list[tuple[str, int, int]] = []
    done = import_searches(other, lines.splitlines(keepends=True), lambda *told: seen.append(told))
    last = sql_store.search(ID).last_seq
    assert seen[0] == (ID, 0, last)
    assert (ID, last, last) in seen
    assert RestQueries(other).notes([ID, "second"]) == {ID: about}
    assert (done.added, done.same) == ([ID, "second"], [])
    assert check(other) == []
    assert exported(other) == lines
    assert (other.stars(ID), other.stars("second")) == (given, [])
    mine, theirs = sql_store.search(ID), other.search(ID)
    assert mine == replace(theirs, here_since=mine.here_since)
    assert {row.birth for row in Queries(other).front(ID)} == search.front
    run = Queries(other).candidate(ID, max(search.front)).evaluations[0]
    assert len(RestQueries(other).curves(ID, [run.seq])[run.seq]) == 3
    lease = other.acquire(ID, "you", 60)
    assert [one.command for one in other.commands(lease)] == [Stop()]


def test_importing_twice_changes_nothing(sql_store: SqlStore) -> None:
    fill(sql_store, batches=40)
    lines = exported(sql_store)
    done = import_searches(sql_store, lines.splitlines(keepends=True))
    assert (done.added, done.same) == ([], [ID])
    assert exported(sql_store) == lines


def test_another_search_of_the_same_id_is_refused(sql_store: SqlStore, other: SqlStore) -> None:
    fill(sql_store, batches=40)
    fill(other, batches=40, seed=8)
    before = exported(other)
    with pytest.raises(StoreError, match=r"another search k3f9a1c2.*difference at event"):
        import_searches(other, exported(sql_store).splitlines(keepends=True))
    assert exported(other) == before


def test_a_longer_search_of_the_same_id_is_refused(tmp_path: Path) -> None:
    one, two = SqlStore(f"{tmp_path}/1.db"), SqlStore(f"{tmp_path}/2.db")
    fill(one, batches=30)
    import_searches(two, exported(one).splitlines(keepends=True))
    lease = one.acquire(ID, "me", 60)
    before = exported(two)
    for batch in itertools.islice(RandomSearch(3).batches(), 30, 40):
        one.append(lease, batch)
        break
    with pytest.raises(StoreError, match="another search"):
        import_searches(two, exported(one).splitlines(keepends=True))
    with pytest.raises(StoreError, match="another search"):
        import_searches(one, before.splitlines(keepends=True))
    one.close()
    two.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Lines of an export; one of another kind of store differs in nothing."""
    store = SqlStore(f"{tmp_path_factory.mktemp('whole')}/store.db")
    fill(store, batches=40)
    ServiceWrites(store).annotate(ID, tags=("a",))
    lines = exported(store).splitlines(keepends=True)
    store.close()
    return lines


@pytest.mark.parametrize(
    "cut", ["first", "middle", "tail", "changed", "swapped", "rubbish", "id", "command", "notes"]
)
def test_a_damaged_export_adds_nothing(whole: list[str], other: SqlStore, cut: str) -> None:
    lines = list(whole)
    if cut in _FORGED:
        lines = _forged(lines, *_FORGED[cut])
    elif cut == "first":
        lines = lines[1:]
    elif cut == "middle":
        del lines[20]
    elif cut == "tail":
        lines = lines[:-1]
    elif cut == "changed":
        data = json.loads(lines[10])
        data["at"] = "2001-01-01T00:00:00+00:00"
        lines[10] = json.dumps(data) + "\n"
    elif cut == "swapped":
        lines[10], lines[11] = lines[11], lines[10]
    else:
        lines[10] = "{nonsense\n"
    with pytest.raises(StoreError, match=r"no whole export.*export again"):
        import_searches(other, lines)
    assert other.searches() == []


_FORGED = {
    "id": (ID, "../etc"),
    "command": ('"kind":"stop"', '"kind":"drop"'),
    "notes": ('"tags":["a"]', '"tags":7'),
}


def _forged(lines: list[str], old: str, new: str) -> list[str]:
    """The export with other words in it and a digest that fits them."""
    changed = [line.replace(old, new) for line in lines]
    assert changed != lines
    digest = hashlib.sha256("".join(changed[1:-1]).encode()).hexdigest()
    return [*changed[:-1], json.dumps(json.loads(changed[-1]) | {"sha256": digest}) + "\n"]


def test_a_backup_is_a_store(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    fill(store, batches=60)
    backup(store, tmp_path / "copy.db")
    assert not list(tmp_path.glob("*.partial"))
    copy = SqlStore(f"{tmp_path}/copy.db")
    assert check(copy) == []
    assert exported(copy) == exported(store)
    with pytest.raises(StoreError, match="exists"):
        backup(store, tmp_path / "copy.db")
    with pytest.raises(StoreError, match="no folder"):
        backup(store, tmp_path / "nowhere" / "copy.db")
    copy.close()
    store.close()


def test_vacuum_keeps_everything(sql_store: SqlStore) -> None:
    fill(sql_store, batches=60)
    before = exported(sql_store)
    vacuum(sql_store)
    assert exported(sql_store) == before
    assert check(sql_store) == []


def test_a_server_is_backed_up_otherwise(postgres: Server, tmp_path: Path) -> None:
    store = SqlStore(postgres.new_database())
    with pytest.raises(StoreError, match="pg_dump"):
        backup(store, tmp_path / "copy.db")
    store.close()
