"""Proves that a store is whole: its tables are what its events say, and the front is the front.

It reads only. Each problem is one line; no problem is an empty list.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, Text, collate, func, select, text

from db import schema
from db.engine import begin
from db.refusals import not_one
from db.sql_store import SqlStore, insert_search, read_event, record
from evosearch.config import SearchConfig
from evosearch.errors import StoreError
from evosearch.ports import Progress, unseen

_BATCH = 500

_COMPARED = (
    schema.candidates, schema.parents, schema.evaluations, schema.check_runs, schema.tallies,
    schema.repeats, schema.skip_examples, schema.jobs,
)  # fmt: skip
_NOT_IN_EVENTS = {
    "formula", "title", "lease_owner", "lease_epoch", "lease_expires_at",
    "batch_independent", "causal_safe", "pointwise",  # unknown in rows of schema 0001
}  # fmt: skip


def check(
    store: SqlStore, search_ids: Sequence[str] = (), progress: Progress = unseen
) -> list[str]:
    """The problems of these searches, or of all of them and of the database itself."""
    problems = [] if search_ids else _check_file(store)
    for search_id in search_ids or [info.id for info in store.searches()]:
        problems += [f"search {search_id}: {what}" for what in _check_search(store, search_id)]
    return problems


def _check_file(store: SqlStore) -> list[str]:
    if store.engine.dialect.name != "sqlite":
        return []  # the server checks its pages and keys itself
    with begin(store.engine) as connection:
        found = connection.execute(text("PRAGMA integrity_check")).scalars().all()
        keys = connection.execute(text("PRAGMA foreign_key_check")).all()
    problems = [f"the file is damaged: {line}" for line in found if line != "ok"]
    return problems + [f"table {row[0]}: row {row[1]} refers to nothing" for row in keys]


def _check_search(store: SqlStore, search_id: str) -> Iterator[str]:
    with begin(store.engine, snapshot=True) as connection:
        gaps = list(_check_numbers(connection, search_id))
        yield from gaps or _check_tables(connection, search_id)
        yield from _check_front(connection, search_id)


def _check_tables(connection: Connection, search_id: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="evosearch-check-") as folder:
        scratch = SqlStore(str(Path(folder) / "replayed.db"))
        try:
            with begin(scratch.engine, write=True) as replayed:
                replay(connection, replayed, search_id)
            with begin(scratch.engine) as replayed:
                yield from _compare(connection, replayed, search_id)
        except StoreError as err:
            yield f"the events do not replay: {err}"
        finally:
            scratch.close()


def _check_numbers(connection: Connection, search_id: str) -> Iterator[str]:
    """Events are numbered from 1 to the search's last one, without a gap."""
    table = schema.events
    counted = select(func.count(), func.min(table.c.seq), func.max(table.c.seq))
    last = select(schema.searches.c.last_seq).where(schema.searches.c.id == search_id)
    count, low, high = connection.execute(counted.where(table.c.search_id == search_id)).one()
    expected = connection.execute(last).scalar()
    if expected is None:
        raise not_one(search_id, [])
    if (count, low, high) != (expected, 1, expected):
        yield f"{count} events from {low} to {high}, expected 1 to {expected} without a gap"


def replay(source: Connection, target: Connection, search_id: str) -> None:
    """Projects the search's events anew, into another database."""
    table, last = schema.events, 0
    pages = select(table.c.seq, table.c.at, table.c.payload).where(table.c.search_id == search_id)
    while True:
        page = pages.where(table.c.seq > last).order_by(table.c.seq).limit(_BATCH)
        batch = [(r.seq, r.at, read_event(r.seq, r.payload)) for r in source.execute(page)]
        if not batch:
            return
        if last == 0:
            _, at, created = batch.pop(0)
            insert_search(target, search_id, "", created, at)
            last = 1
        if batch:
            record(target, search_id, last, batch)
            last = batch[-1][0]


def _compare(mine: Connection, theirs: Connection, search_id: str) -> Iterator[str]:
    """The first difference of each table between the store and what its events say."""
    for table in (schema.searches, *_COMPARED):
        with (
            closing(_rows(mine, table, search_id)) as stored,
            closing(_rows(theirs, table, search_id)) as told,
        ):
            for pair in zip_longest(stored, told):
                difference = _difference(table, *pair)
                if difference:
                    yield f"table {table.name}: {difference}"
                    break


def _rows(connection: Connection, table: Table, search_id: str) -> Generator[Any, None, None]:
    """The search's rows in the order of the primary key, the same on every database."""
    order = [
        collate(column, "C")
        if isinstance(column.type, Text) and connection.dialect.name == "postgresql"
        else column
        for column in table.primary_key.columns
    ]
    owner = table.c.id if table is schema.searches else table.c.search_id
    wanted = select(*(c for c in table.c if c.name not in _NOT_IN_EVENTS))
    options = {"stream_results": True, "yield_per": 1000}
    found = connection.execute(
        wanted.where(owner == search_id).order_by(*order), execution_options=options
    )
    with closing(found):
        yield from found.mappings()


def _same_config(stored: str, told: str) -> bool:
    """Whether two texts are one config; an older one lacks settings that have defaults."""
    return SearchConfig.model_validate_json(stored) == SearchConfig.model_validate_json(told)


def _difference(table: Table, stored: Any, told: Any) -> str:
    if stored is None or told is None:
        where = "events" if stored is None else "table"
        return f"{_key(table, told if stored is None else stored)} stands in the {where} only"
    for name, value in stored.items():
        other = told[name]
        if isinstance(value, float) and isinstance(other, float):
            if math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9):
                continue  # sums depend on the order of addition
        elif value == other or (name == "config" and _same_config(value, other)):
            continue
        return f"{_key(table, stored)}: {name} is {value!r}, by the events {other!r}"
    return ""


def _key(table: Table, row: Any) -> str:
    names = [column.name for column in table.primary_key.columns if column.name != "search_id"]
    return " ".join(f"{name} {row[name]}" for name in names)


def _check_front(connection: Connection, search_id: str) -> Iterator[str]:
    """The stored front is the one computed from all scores."""
    table = schema.candidates
    wanted = select(table.c.birth, table.c.scores, table.c.on_front).where(
        table.c.search_id == search_id, table.c.outcome_seq.is_not(None)
    )
    rows = connection.execute(wanted).all()
    if not rows:
        return
    told = [json.loads(row.scores) for row in rows]
    if len({tuple(sorted(one)) for one in told}) > 1:
        yield "candidates are scored on different anchors"
        return
    points = np.array([[one[name] for name in sorted(told[0])] for one in told])
    stored = {row.birth for row in rows if row.on_front}
    computed = {rows[index].birth for index in front(points)}
    if stored != computed:
        yield (
            f"the front is {sorted(stored)[:20]}, computed from all scores {sorted(computed)[:20]}"
        )


def front(points: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
    """Indices of the points that no other point dominates; higher is better.

    Shapes: ``points`` (n, k).
    """
    # What dominates a point comes before it in descending lexicographic order.
    order = np.lexsort(points.T[::-1])[::-1]
    kept: list[int] = []
    members = np.empty((0, points.shape[1]))
    for index in order:
        point = points[index]
        above = np.all(members >= point, axis=1) & np.any(members > point, axis=1)
        if not above.any():
            kept.append(int(index))
            members = points[kept]
    return kept
