"""Proves that a store is whole: its tables are what its events say, and the front is the front.

It reads only. Each problem is one line; no problem is an empty list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from sqlalchemy import Connection, func, or_, select, text

from db import schema
from db.check_tables import TableCheck
from db.engine import begin
from db.refusals import not_one
from db.sql_store import SqlStore
from db.step_time import MEASURED
from evosearch.errors import StoreError
from evosearch.pareto import non_dominated
from evosearch.ports import Progress, unseen


def check(
    store: SqlStore, search_ids: Sequence[str] = (), progress: Progress = unseen
) -> list[str]:
    """The problems of these searches, or of all of them and of the database itself."""
    problems = [] if search_ids else _check_file(store)
    for search_id in search_ids or [info.id for info in store.searches()]:
        found = _check_search(store, search_id, progress)
        problems += [f"search {search_id}: {what}" for what in found]
    return problems


def _check_file(store: SqlStore) -> list[str]:
    if store.engine.dialect.name != "sqlite":
        return []  # the server checks its pages and keys itself
    with begin(store.engine) as connection:
        found = connection.execute(text("PRAGMA integrity_check")).scalars().all()
        keys = connection.execute(text("PRAGMA foreign_key_check")).all()
    problems = [f"the file is damaged: {line}" for line in found if line != "ok"]
    return problems + [f"table {row[0]}: row {row[1]} refers to nothing" for row in keys]


def _check_search(store: SqlStore, search_id: str, progress: Progress) -> Iterator[str]:
    with begin(store.engine, snapshot=True) as connection:
        last = _last(connection, search_id)
        gaps = list(_check_numbers(connection, search_id, last))
        if gaps:
            yield from gaps
        else:
            yield from _check_tables(
                connection, search_id, lambda done: progress(search_id, done, last)
            )
        yield from _check_front(connection, search_id)
        yield from _check_step_times(connection, search_id)


def _last(connection: Connection, search_id: str) -> int:
    wanted = select(schema.searches.c.last_seq).where(schema.searches.c.id == search_id)
    last = connection.execute(wanted).scalar()
    if last is None:
        raise not_one(search_id, [])
    return int(last)


def _check_tables(
    connection: Connection, search_id: str, told: Callable[[int], None]
) -> Iterator[str]:
    tables = TableCheck(connection, search_id)
    try:
        tables.run(told)
    except StoreError as err:
        yield f"the events do not replay: {err}"
    yield from tables.found.values()


def _check_numbers(connection: Connection, search_id: str, expected: int) -> Iterator[str]:
    """Events are numbered from 1 to the search's last one, without a gap."""
    table = schema.events
    counted = select(func.count(), func.min(table.c.seq), func.max(table.c.seq))
    count, low, high = connection.execute(counted.where(table.c.search_id == search_id)).one()
    if (count, low, high) != (expected, 1, expected):
        yield f"{count} events from {low} to {high}, expected 1 to {expected} without a gap"


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
    if not np.isfinite(points).all():
        yield "a candidate has a score that is no number"
        return
    yield from _check_scores(
        connection, search_id, {row.birth: one for row, one in zip(rows, told, strict=True)}
    )
    stored = {row.birth for row in rows if row.on_front}
    kept = non_dominated(-points)
    computed = {row.birth for row, keep in zip(rows, kept, strict=True) if keep}
    if stored != computed:
        yield (
            f"the front is {sorted(stored)[:20]}, computed from all scores {sorted(computed)[:20]}"
        )


def _check_scores(
    connection: Connection, search_id: str, told: Mapping[int, Mapping[str, float]]
) -> Iterator[str]:
    """The scores that pages are ordered by are those of the candidates."""
    table = schema.scores
    wanted = select(table.c.birth, table.c.name, table.c.score).where(
        table.c.search_id == search_id
    )
    stored: dict[int, dict[str, float]] = {}
    for birth, name, score in connection.execute(wanted):
        stored.setdefault(birth, {})[name] = score
    for birth in sorted(stored.keys() | told.keys()):
        if stored.get(birth) != told.get(birth):
            yield f"table scores: birth {birth} differs from the candidate"
            return


def _check_step_times(connection: Connection, search_id: str) -> Iterator[str]:
    """The step times that pages are ordered by are those of the evaluations."""
    table = schema.candidates
    both = (
        select(table.c.birth, table.c.step_time, MEASURED.label("measured"))
        .where(table.c.search_id == search_id, table.c.finished_at.is_not(None))
        .subquery()
    )
    stored, measured = both.c.step_time, both.c.measured
    differ = or_(
        stored.is_(None) != measured.is_(None),
        func.abs(stored - measured) > _TOLERANCE * func.abs(measured),
    )
    birth = connection.execute(select(both.c.birth).where(differ).limit(1)).scalar()
    if birth is not None:
        yield f"table candidates: birth {birth}: step_time is not that of its evaluations"


_TOLERANCE = 1e-9
"""Sums depend on the order of addition."""
