"""Stars are readers' notes on candidates: kept by every store, and no part of the search's log."""

from __future__ import annotations

import hashlib
import io
import itertools
import json

import pytest

from db.candidate_pages import CandidatePages, Wanted
from db.check import check
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from db.transfer import export, import_searches
from evosearch.errors import NotFound, StoreError
from evosearch.ports import Store
from evosearch.where import parse_where
from tests.support.events import CREATED, RandomSearch

ID = "k3f9a1c2"


def fill(store: Store, batches: int = 60) -> list[int]:
    """A search; returns the births of its evaluated candidates."""
    store.create(ID, "", CREATED)
    lease, search = store.acquire(ID, "me", 60), RandomSearch(3)
    for batch in itertools.islice(search.batches(), batches):
        store.append(lease, batch)
    store.release(lease)
    return sorted(search.scores)


def test_stars_are_given_and_taken_and_no_events(store: Store) -> None:
    births = fill(store)
    before = store.search(ID)
    assert store.stars(ID) == []
    for birth in (births[4], births[1], births[4]):
        store.star(ID, birth)
    assert store.stars(ID) == [births[1], births[4]]
    store.star(ID, births[1], False)
    store.star(ID, births[2], False)
    assert store.stars(ID) == [births[4]]
    assert store.search(ID) == before
    lease = store.acquire(ID, "another", 60)  # whoever runs it keeps nobody from it
    store.star(ID, births[0])
    store.release(lease)
    assert store.stars(ID) == [births[0], births[4]]


@pytest.mark.parametrize(("search", "birth"), [(ID, 10**9), (ID, -1), ("nothing", 1)])
def test_what_is_not_there_gets_none(store: Store, search: str, birth: int) -> None:
    fill(store, 10)
    for on in (True, False):
        with pytest.raises(NotFound):
            store.star(search, birth, on)
    assert store.stars(ID) == []
    with pytest.raises(NotFound):
        store.stars("nothing")


def test_pages_show_and_filter_by_it(sql_store: SqlStore) -> None:
    births = fill(sql_store)
    mine = {births[0], births[3], births[-1]}
    for birth in mine:
        sql_store.star(ID, birth)
    pages = CandidatePages(sql_store)

    def listed(**wanted: object) -> dict[int, bool]:
        found = pages.stream(ID, Wanted(**wanted), 2)  # type: ignore[arg-type]
        return {row["birth"]: row["starred"] for row in found}

    everyone = listed()
    assert {birth for birth, starred in everyone.items() if starred} == mine
    for sort in ("birth", "gain_low", "mean_score", "score.resnet", "seeds"):
        assert listed(starred=True, sort=sort) == dict.fromkeys(mine, True), sort
        assert listed(starred=True, states=("evaluated",), sort=sort).keys() == mine
    others = everyone.keys() - mine
    assert listed(starred=False) == dict.fromkeys(others, False)
    some = listed(starred=True, where=parse_where(f"birth in ({births[0]}, {births[1]})"))
    assert some == {births[0]: True}
    assert listed(starred=True, states=("rejected",)) == {}


def test_they_go_with_a_clone_and_with_the_search(sql_store: SqlStore) -> None:
    births = fill(sql_store)
    for birth in (births[0], births[-1]):
        sql_store.star(ID, birth)
    writes = ServiceWrites(sql_store)
    writes.clone(ID, "copy2345", "", sql_store.search(ID).last_seq, Notes())
    assert sql_store.stars("copy2345") == sql_store.stars(ID)
    writes.clone(ID, "part2345", "", 40, Notes())  # when the last one was not yet born
    assert sql_store.stars("part2345") == births[:1]
    assert check(sql_store) == []
    writes.delete(ID)
    assert sql_store.stars("copy2345") == [births[0], births[-1]]
    fill(sql_store)  # another of that id has none
    assert sql_store.stars(ID) == []


@pytest.mark.parametrize("forged", ["[-1]", '["1"]', "7", "[true]", "[999999999]", "[1e3]"])
def test_a_forged_star_is_refused_with_its_search(
    sql_store: SqlStore, tmp_path: object, forged: str
) -> None:
    births = fill(sql_store)
    sql_store.star(ID, births[0])
    out = io.StringIO()
    export(sql_store, out, [ID])
    head, *body, _ = out.getvalue().splitlines(keepends=True)
    assert json.loads(body[-1]) == {"stars": [births[0]]}
    body[-1] = f'{{"stars":{forged}}}\n'
    digest = hashlib.sha256("".join(body).encode()).hexdigest()
    end = json.dumps({"end": ID, "sha256": digest}) + "\n"
    other = SqlStore(f"{tmp_path}/other.db")
    with pytest.raises((StoreError, NotFound)):
        import_searches(other, [head, *body, end])
    assert other.searches() == []
    other.close()
