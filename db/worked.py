"""How long a search was worked on, read from the times of its events.

What counts is between one event and the next while the search runs; a silence longer than its
trainings explain (a controller was away) counts as that much and no more. The database sums up, so
that a long log is not carried here. Nothing here writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    case,
    cast,
    extract,
    func,
    select,
    text,
)

from db.engine import begin
from db.schema import IS_MILESTONE, evaluations, events
from db.sql_store import SqlStore

LEAST_SILENCE, LONGEST_SILENCE = 30.0, 1800.0
"""Seconds; a controller that was away costs a search's hours between the one and the other."""
TRAININGS = 2.0
"""Silence that is work, in longest trainings of the search."""


def longest_silence(training: float) -> float:
    """Seconds between two events that count as work; ``training``: the longest of the search."""
    return min(max(TRAININGS * training, LEAST_SILENCE), LONGEST_SILENCE)


def worked_seconds(store: SqlStore, search_id: str) -> float:
    """Seconds that the search ran, by whatever controllers, until its last event."""
    mine = events.c.search_id == search_id
    changes = (
        select(events.c.seq, events.c.payload)
        .where(mine, events.c.kind == "status_changed", text(IS_MILESTONE))
        .order_by(events.c.seq)
    )
    last = select(func.max(events.c.seq)).where(mine)
    longest = select(func.max(evaluations.c.seconds)).where(evaluations.c.search_id == search_id)
    with begin(store.engine) as connection:
        silence = longest_silence(connection.scalar(longest) or 0.0)
        end = connection.scalar(last) or 0
        return sum(
            connection.scalar(_between(connection, search_id, first, until, silence)) or 0.0
            for first, until in _running(connection.execute(changes).all(), end)
        )


def _running(changes: Sequence[Any], end: int) -> Iterator[tuple[int, int]]:
    """First and last event of each time that the search ran.

    Its creation is none of them: how long it then waited for a controller is no work.
    """
    since: int | None = 2
    for seq, payload in changes:
        if since is not None:
            yield since, seq
        since = seq if json.loads(payload)["status"] == "running" else None
    if since is not None:
        yield since, end


def _between(
    connection: Connection, search_id: str, first: int, last: int, silence: float
) -> Select[Any]:
    """Seconds from one event to the next, no one longer than ``silence``, summed up."""
    at: ColumnElement[float] = (
        func.julianday(events.c.at) * 86_400.0 if connection.dialect.name == "sqlite"
        else cast(extract("epoch", events.c.at), Float)
    )  # fmt: skip
    each = (
        select(at.label("at"), events.c.seq)
        .where(events.c.search_id == search_id, events.c.seq.between(first, last))
        .order_by(events.c.seq)
        .subquery()
    )
    gap = (each.c.at - func.lag(each.c.at).over(order_by=each.c.seq)).label("gap")
    gaps = select(gap).subquery().c.gap
    return select(func.sum(case((gaps > silence, silence), (gaps > 0, gaps), else_=0.0)))
