"""A search of any size in seconds: a small one whose rows the database copies.

Rows are all that is copied: they read like those of a large search, but its log does not replay.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, Text, cast, func, insert, literal, select, update

from db import schema
from db.engine import begin
from db.sql_store import SqlStore


def multiply(store: SqlStore, search_id: str, times: int) -> None:
    """Makes each candidate and event stand so many times, under births and numbers of its own."""
    births = select(func.max(schema.candidates.c.birth) + 1)
    seqs = select(schema.searches.c.last_seq).where(schema.searches.c.id == search_id)
    with begin(store.engine, write=True) as connection:
        by_birth = connection.execute(
            births.where(schema.candidates.c.search_id == search_id)
        ).scalar_one()
        by_seq = connection.execute(seqs).scalar_one()
        for table in (schema.candidates, schema.parents, schema.evaluations, schema.scores,
                      schema.check_runs, schema.events):  # fmt: skip
            connection.execute(_copies(table, search_id, times, by_birth, by_seq))
        larger = {"last_seq": by_seq * times, "evaluated": schema.searches.c.evaluated * times}
        connection.execute(
            update(schema.searches).where(schema.searches.c.id == search_id).values(larger)
        )


def _copies(table: Table, search_id: str, times: int, by_birth: int, by_seq: int) -> Any:
    """INSERT of the rows that stand in the table, 1 to ``times - 1`` births further on."""
    first = select(literal(1).label("number")).cte(recursive=True)
    numbers = first.union_all(select(first.c.number + 1).where(first.c.number < times - 1))
    number = numbers.c.number
    columns = []
    for column in table.c:
        if column.name in ("birth", "duplicate_of", "child", "parent"):
            columns.append(column + number * by_birth)
        elif column.name in ("seq", "outcome_seq") or (table, column.name) == (
            schema.check_runs, "position",
        ):  # fmt: skip
            columns.append(column + number * by_seq)
        elif column.name in ("digest", "fingerprint", "job_id"):
            columns.append(column + literal("/") + cast(number, Text))
        elif column.name == "on_front":
            columns.append(literal(False))
        else:
            columns.append(column)
    rows = select(*columns).select_from(table.join(numbers, literal(True)))
    rows = rows.where(table.c.search_id == search_id)
    if table is schema.evaluations:
        rows = rows.where(table.c.purpose == "search")
    return insert(table).from_select([column.name for column in table.c], rows)
