"""Items of a study: those that stay, those that change, and that they go with their search."""

from __future__ import annotations

from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from db.studies import Studies
from tests.support.events import CREATED


def test_items_stay_or_change_and_are_found_by_their_kind(sql_store: SqlStore) -> None:
    sql_store.create("one", "one", CREATED)
    sql_store.create("other", "other", CREATED)
    studies = Studies(sql_store)
    assert studies.add("one", "first", "plan", {"steps": 3})
    assert not studies.add("one", "first", "plan", {"steps": 4})
    kept = studies.item("one", "first", "plan")
    assert kept is not None
    assert kept.payload == {"steps": 3}
    assert kept.at.tzinfo is not None
    for step in (1, 2):
        studies.put("one", "first", "tune/c1/0.1", {"step": step})
    studies.put("one", "first", "tune_not/c1", {})
    studies.put("one", "second", "tune/c1/0.1", {"step": 9})
    studies.put("other", "first", "tune/c1/0.1", {"step": 8})
    found = studies.items("one", "first", "tune")
    assert {name: item.payload for name, item in found.items()} == {"c1/0.1": {"step": 2}}
    assert studies.of("one") == ["first", "second"]
    assert studies.item("one", "first", "nothing") is None
    assert studies.of("nobody") == []


def test_studies_go_with_their_search(sql_store: SqlStore) -> None:
    sql_store.create("one", "one", CREATED)
    studies = Studies(sql_store)
    studies.add("one", "first", "plan", {})
    ServiceWrites(sql_store).delete("one")
    assert studies.of("one") == []
