"""The log as text in order, for those who fold it; one statement, whatever there is to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import case, select

from db.engine import begin
from db.schema import events
from db.sql_store import SqlStore

FETCHED = 1000
"""Rows that are held in memory at once."""


class LogQueries:
    """Reads logs of one store."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine

    def after(
        self, search_id: str, seq: int, kinds: Sequence[str]
    ) -> Iterator[tuple[int, datetime, str, str]]:
        """(seq, at, kind, payload) of events above a number, in order, in a stream.

        Of other kinds than these the payload is empty.
        """
        payload = case((events.c.kind.in_(kinds), events.c.payload), else_="").label("payload")
        wanted = (
            select(events.c.seq, events.c.at, events.c.kind, payload)
            .where(events.c.search_id == search_id, events.c.seq > seq)
            .order_by(events.c.seq)
        )
        with begin(self._engine) as connection:
            rows = connection.execution_options(yield_per=FETCHED).execute(wanted)
            for row in rows:
                yield row.seq, row.at, row.kind, row.payload
