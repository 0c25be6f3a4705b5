"""A candidate by its name, ``SEARCH-BIRTH``: what every store finds, and what it costs."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from api.wiring import candidate_graph
from db.sql_store import SqlStore
from evosearch.errors import NotFound
from evosearch.events import EnqueuedRefused, Event
from evosearch.ports import Store
from evosearch.records import Rejection
from tests.support.events import CREATED, duplicate, evaluated, graph, queued, rejected, standing

ID = "k3f9a1c2"


def record(store: Store, *events: Event, name: str = ID) -> None:
    """A new search with these events."""
    store.create(name, "", CREATED)
    if events:
        store.append(store.acquire(name, "me", 60), events)


@pytest.mark.parametrize("ref", [f"{ID}-12", "k3f-12", "k-12"])
def test_short_names_of_candidates(store: Store, ref: str) -> None:
    record(store, queued(11), queued(12))
    assert candidate_graph(store, ref) == (ID, 12, graph(12))


def test_whatever_became_of_it(store: Store) -> None:
    refused = EnqueuedRefused(birth=8, graph=graph(8), rejection=Rejection(code="limits"))
    record(store, queued(5), evaluated(5, standing([0.5] * 3)), queued(6), rejected(6),
           duplicate(7, 5), refused)  # fmt: skip
    assert {birth: candidate_graph(store, f"k-{birth}")[2] for birth in (5, 6, 7, 8)} == {
        birth: graph(birth) for birth in (5, 6, 7, 8)
    }


def test_searches_with_hyphens_have_candidates_too(store: Store) -> None:
    record(store, queued(12), name="a-1")
    assert candidate_graph(store, "a-1-12") == ("a-1", 12, graph(12))


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("-12", "not a candidate.*SEARCH-BIRTH"),
        ("k3f-", "not a candidate.*SEARCH-BIRTH"),
        ("k3f-x", "not a candidate.*SEARCH-BIRTH"),
        ("k3f-²", "not a candidate.*SEARCH-BIRTH"),
        ("k3f-13", f"search {ID} has no candidate 13.*search front {ID}"),
        (f"k3f-{9**40}", f"search {ID} has no candidate {9**40}"),
        ("k3f-" + "9" * 5000, "no candidate 999"),
        ("zz-12", "no such search.*search list"),
        ("12", "no such search"),
        ("k3f", "no leader yet"),
    ],
)
def test_names_of_no_candidate_say_what_is_wrong(store: Store, ref: str, told: str) -> None:
    record(store, queued(12))
    with pytest.raises(NotFound, match=f"(?s){told}"):
        candidate_graph(store, ref)


def test_a_database_is_asked_for_one_row(sql_store: SqlStore) -> None:
    record(sql_store, *map(queued, range(1, 40)))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(sql_store.engine, "before_cursor_execute", note)
    candidate_graph(sql_store, "k3f-39")
    event.remove(sql_store.engine, "before_cursor_execute", note)
    assert sum(one.startswith("SELECT") for one in statements) == 2
    assert not any("payload" in one for one in statements)
