"""How many statements the stores need: a fixed number, whatever is written or stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from db.candidate_pages import EXAMINED, CandidatePages, Wanted
from db.queries import Queries
from db.sql_store import SqlStore
from evosearch.events import Event, Skipped
from evosearch.where import parse_where
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
from tests.support.large import multiply
from tests.support.rest_reads import Reads, figures, lists
from tests.support.standings import Story

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
    "front": "ix_candidates_front",
    "population": "ix_candidates_age",
    "report": "ix_events_milestones",
}
"""Which index a read must use on SQLite."""

READS: dict[str, Callable[[Queries], object]] = {
    "searches": lambda queries: queries.searches(),
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
    sorted_here = any("TEMP B-TREE FOR ORDER" in plan for plan in plans)
    assert not sorted_here or name in ("searches", "front")


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, SqlStore]]:
    """A search with about so many candidates in a SQLite file each."""
    made = {}
    for size in (10, 100_000):
        store = SqlStore(f"{tmp_path_factory.mktemp('size')}/store.db")
        story = Story(store, ID)
        story.baselines()
        story.many(4 if size == 10 else 50)
        leader = story.candidate([0.7, 0.7, 0.7])
        story.repeated(leader)
        story.others(2 if size == 10 else 46)
        story.confirm(leader, [[0.6, 0.61, 0.62]] * 3)
        story.flush()
        if size > 10:
            multiply(store, ID, size // story.birth)
        made[size] = store
    yield made
    for store in made.values():
        store.close()


def rest_reads(store: SqlStore) -> dict[str, Callable[[], object]]:
    reads = Reads(store, ID)
    return lists(reads, ANCHORS[0]) | figures(reads, 2500)


def test_what_rest_reads_takes_as_many_queries_at_any_size(searches: dict[int, SqlStore]) -> None:
    numbers: dict[int, dict[str, int]] = {}
    for size, store in searches.items():
        assert sum(Queries(store).states(ID).values()) > 0
        numbers[size] = {}
        for name, read in rest_reads(store).items():
            with counted(store) as statements:
                read()
            numbers[size][name] = len(statements)
    small, large = numbers.values()
    assert small.keys() == large.keys()
    more = {name: (small[name], large[name]) for name in small if large[name] > small[name]}
    assert more == {}
    assert max(large.values()) <= 10


def explained(store: SqlStore, read: Callable[[], object]) -> list[str]:
    """The plans of the read's statements, as SQLite tells them."""
    plans: list[str] = []

    def explain(_c: object, cursor: sqlite3.Cursor, text: str, parameters: Any, *_: object) -> None:
        if text.startswith(("SELECT", "WITH")):
            asked = cursor.connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)
            plans.extend(str(row[3]) for row in asked)

    event.listen(store.engine, "before_cursor_execute", explain)
    read()
    event.remove(store.engine, "before_cursor_execute", explain)
    return plans


WHOLE = ("SCAN candidates", "SCAN events", "SCAN evaluations", "SCAN scores")
ORDERS = {
    "mean_score": "ix_candidates_score", "live_nodes": "ix_candidates_nodes",
    "seconds": "ix_candidates_seconds", "seeds": "ix_candidates_seeds",
    "finished_at": "ix_candidates_age", "step_time": "ix_candidates_step_time",
    "gain": "ix_candidates_score", "gain_low": "ix_candidates_seeds_score",
    f"score.{ANCHORS[0]}": "ix_scores_order",
}  # fmt: skip


def test_nothing_that_rest_reads_walks_through_a_table(searches: dict[int, SqlStore]) -> None:
    for name, read in rest_reads(searches[100_000]).items():
        plans = explained(searches[100_000], read)
        assert plans
        assert [plan for plan in plans if plan.startswith(WHOLE)] == [], (name, plans)
    by_index = {f"by {sort}, falling, second page": index for sort, index in ORDERS.items()}
    by_index |= dict.fromkeys(("rejected", "two states"), "ix_candidates_state")
    for name, index in by_index.items():
        plans = explained(searches[100_000], rest_reads(searches[100_000])[name])
        assert any(index in plan for plan in plans), (name, plans)


def rows_read(store: SqlStore, read: Callable[[], object]) -> int:
    """Steps of SQLite's machine that the read takes, in thousands."""
    steps = [0]

    def step() -> int:
        steps[0] += 1
        return 0

    with store.engine.connect() as plain:
        raw = plain.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
    raw.set_progress_handler(step, 1000)  # the pool has this one connection
    read()
    raw.set_progress_handler(None, 0)
    return steps[0]


def test_what_rest_reads_costs_the_same_at_any_size(
    searches: dict[int, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in the steps of SQLite's machine, which a busy one does not change."""
    store = searches[100_000]
    reads = rest_reads(store)
    costs = {name: rows_read(store, read) for name, read in reads.items()}
    found = {name for name in costs if name.startswith(("by ", "/"))}
    shown = {name: cost for name, cost in costs.items() if name in found and cost > 80}
    assert shown == {}, "more than a look at each member of the population"
    most = EXAMINED * 130 // 1000  # a look into the JSON of each
    assert {name: cost for name, cost in costs.items() if cost > most} == {}
    monkeypatch.setattr("db.candidate_pages.EXAMINED", 10**6)
    assert rows_read(store, reads["text that nothing holds"]) > 5 * most


def test_the_pages_of_a_rare_filter_meet_all_that_pass_it(
    searches: dict[int, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.candidate_pages.EXAMINED", 7)
    pages = CandidatePages(searches[10])
    every = list(pages.stream(ID, Wanted()))
    for sort in ("birth", "gain_low", "seconds", f"score.{ANCHORS[0]}"):
        wanted = Wanted(sort=sort, where=parse_where("mean_score > 0.3 and seeds >= 1"))
        rows, cursor, births = [], None, []
        for _ in range(20):
            rows, cursor = pages.page(ID, wanted, 3, cursor)
            births += [row["birth"] for row in rows]
            if cursor is None:
                break
        assert cursor is None
        assert len(births) == len(set(births))
        assert set(births) == {
            row["birth"] for row in every if (row["mean_score"] or 0.0) > 0.3
        }, sort  # fmt: skip
