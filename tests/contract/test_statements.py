"""How many statements the stores need: a fixed number, whatever is written or stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from db.queries import Queries
from db.sql_store import SqlStore
from evosearch.events import Event, Skipped
from tests.support.events import (
    ANCHORS,
    CREATED,
    evaluated,
    evaluation,
    graph,
    job_finished,
    job_queued,
    queued,
    rejected,
    standing,
)

ID = "k3f9a1c2"


@contextmanager
def counted(store: SqlStore) -> Iterator[list[str]]:
    """Statements that go to the database meanwhile; one with many rows counts once."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    yield statements
    event.remove(store.engine, "before_cursor_execute", note)


def batch(first: int, count: int) -> list[Event]:
    """Many candidates and all that can become of them."""
    skipped = Skipped(
        counts={"constant": 2}, repeats={1: 1}, examples=((first, "constant", graph(first)),)
    )
    events: list[Event] = []
    for birth in range(first, first + count):
        events += [queued(birth, (1,), skipped=skipped)]
        events += [evaluation(birth, anchor, 0.5, curve=((1, 2.0),)) for anchor in ANCHORS]
        events += [evaluated(birth, standing([0.5] * 3, (birth,)))]
        events += [queued(birth + 10**6), rejected(birth + 10**6)]
        job = f"j{birth}"
        events += [job_queued(job, birth, "remeasure")]
        events += [job_finished(job, birth, "remeasure", standing([0.4] * 3, (), (birth,)))]
    return events


def test_a_batch_is_written_in_a_fixed_number_of_statements(sql_store: SqlStore) -> None:
    sql_store.create(ID, "", CREATED)
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(lease, [queued(1), evaluated(1, standing([0.5] * 3))])
    numbers = []
    for first, count in ((100, 2), (1000, 40)):
        with counted(sql_store) as statements:
            sql_store.append(lease, batch(first, count))
        numbers.append(len(statements))
    assert numbers[0] == numbers[1] <= 20


def test_one_outcome_is_a_dozen_statements(sql_store: SqlStore) -> None:
    sql_store.create(ID, "", CREATED)
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(lease, [queued(1), queued(2)])
    with counted(sql_store) as statements:
        sql_store.append(lease, [evaluated(1, standing([0.5] * 3, (1,)))])
    assert len(statements) <= 12, statements


INDICES = {
    "page of a state": "ix_candidates_state",
    "page of two states": "ix_candidates_state",
    "page by score": "ix_candidates_score",
    "front": "ix_candidates_front",
    "population": "ix_candidates_age",
    "report": "ix_events_milestones",
}
"""Which index a read must use on SQLite."""

READS: dict[str, Callable[[Queries], object]] = {
    "searches": lambda queries: queries.searches(),
    "page": lambda queries: queries.candidates(ID),
    "page of a state": lambda queries: queries.candidates(ID, states=["evaluated"]),
    "page of two states": lambda queries: queries.candidates(ID, states=["evaluated", "rejected"]),
    "page by score": lambda queries: queries.candidates(ID, order="score", cursor="0.5:99999"),
    "front": lambda queries: queries.front(ID),
    "funnel": lambda queries: queries.funnel(ID),
    "states": lambda queries: queries.states(ID),
    "population": lambda queries: queries.population(ID, 2500),
    "candidate": lambda queries: queries.candidate(ID, 100),
    "events": lambda queries: queries.events(ID, newest=True),
    "report": lambda queries: queries.last_event(ID, "reported"),
}


@pytest.mark.parametrize("name", READS)
def test_reads_take_as_many_queries_at_any_size(sql_store: SqlStore, name: str) -> None:
    sql_store.create(ID, "", CREATED)
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(lease, [queued(1), evaluated(1, standing([0.5] * 3))])
    queries, numbers = Queries(sql_store), []
    for first, count in ((100, 5), (1000, 150)):
        sql_store.append(lease, batch(first, count))
        with counted(sql_store) as statements:
            READS[name](queries)
        numbers.append(len(statements))
    # SQLite begins its transactions with a statement of its own.
    assert numbers[0] == numbers[1] <= 7


def test_no_list_reads_curves_or_events(sql_store: SqlStore) -> None:
    sql_store.create(ID, "", CREATED)
    queries = Queries(sql_store)
    for name, read in READS.items():
        if name not in ("candidate", "events", "report"):
            with counted(sql_store) as statements:
                read(queries)
            assert not any("traces" in one or "payload" in one for one in statements)


@pytest.mark.parametrize("name", READS)
def test_no_list_walks_through_a_table(tmp_path: Path, name: str) -> None:
    """Each read finds its rows by an index of the search."""
    store = SqlStore(f"{tmp_path}/store.db")
    store.create(ID, "", CREATED)
    lease = store.acquire(ID, "me", 60)
    store.append(lease, [queued(1), evaluated(1, standing([0.5] * 3))])
    store.append(lease, batch(100, 5))
    plans: list[str] = []

    def explain(_c: object, cursor: sqlite3.Cursor, text: str, parameters: Any, *_: object) -> None:
        if text.startswith("SELECT"):
            asked = cursor.connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)
            plans.extend(str(row[3]) for row in asked)

    event.listen(store.engine, "before_cursor_execute", explain)
    READS[name](Queries(store))
    store.close()
    assert plans
    assert INDICES.get(name, "") in " ".join(plans)
    small = ("SCAN searches", "SCAN tallies", "SCAN (subquery", "SCAN anon")
    assert [plan for plan in plans if plan.startswith("SCAN") and plan.startswith(small)] == [
        plan for plan in plans if plan.startswith("SCAN")
    ]
    assert not any("TEMP B-TREE FOR ORDER" in plan for plan in plans) or name in (
        "searches", "front", "page of a state", "page of two states",
    )  # fmt: skip
