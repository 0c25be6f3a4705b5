"""How long a search was worked on, read from the times of its events.

What counts is between one event and the next while the search runs; a silence longer than its
trainings explain (a controller was away) counts as that much and no more. Nothing here writes.
"""

from __future__ import annotations

from sqlalchemy import case, func, null, select

from db.engine import begin
from db.schema import evaluations, events
from db.sql_store import SqlStore

LEAST_SILENCE, LONGEST_SILENCE = 30.0, 1800.0
"""Seconds; a controller that was away costs a search's hours between the one and the other."""
TRAININGS = 2.0
"""Silence that is work, in longest trainings of the search."""


def worked_seconds(store: SqlStore, search_id: str) -> float:
    """Seconds that the search ran, by whatever controllers, until its last event."""
    status = events.c.kind == "status_changed"
    # The first event is its creation; how long it then waited for a controller is no work.
    wanted = (
        select(events.c.at, case((status, events.c.payload), else_=null()).label("change"))
        .where(events.c.search_id == search_id, events.c.seq > 1)
        .order_by(events.c.seq)
    )
    total, before, runs = 0.0, None, True
    longest = select(func.max(evaluations.c.seconds)).where(evaluations.c.search_id == search_id)
    with begin(store.engine) as connection:
        training = connection.scalar(longest) or 0.0
        silence = min(max(TRAININGS * training, LEAST_SILENCE), LONGEST_SILENCE)
        for row in connection.execute(wanted):
            if before is not None and runs:
                total += min(max((row.at - before).total_seconds(), 0.0), silence)
            before = row.at
            if row.change is not None:
                runs = '"running"' in row.change
    return total
