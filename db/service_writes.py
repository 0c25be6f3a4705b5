"""What REST writes beside the log of a search: creation with a key, notes, deletion, clones.

Commands go through `Store.send`; nothing here touches a search that a controller holds, but for
deleting it, which takes its lease away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, literal, select, update

from db.engine import begin
from db.queries_rest import Notes
from db.refusals import not_one
from db.schema import commands, events, searches, traces
from db.schema_service import idempotency, notes
from db.sql_store import SqlStore, insert_search, read_event, record
from evosearch.errors import StateConflict
from evosearch.events import Created, Event, StatusChanged
from evosearch.ports import COMMANDS, Command

KEPT = timedelta(days=7)
"""How long a retried request is recognised."""
_BATCH = 500
_OPEN = ("running", "paused")


class ServiceWrites:
    """The writes of the service to one store."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine

    def create(
        self,
        search_id: str,
        title: str,
        created: Created,
        about: Notes,
        *,
        first: Sequence[Command] = (),
        caller: str = "",
        key: str | None = None,
        request: str = "",
    ) -> str:
        """Adds the search, or finds the one that the same key created before; returns its id.

        ``first``: commands that its controller finds when it takes the search.

        Raises:
            StateConflict: the key came before with another request.
        """
        now = datetime.now(UTC)
        with begin(self._engine, write=True) as connection:
            if key is not None:
                known = self._known(connection, caller, key, request, now)
                if known is not None:
                    return known
            insert_search(connection, search_id, title, created, now)
            self._note(connection, search_id, about)
            if first:
                rows = [
                    {"search_id": search_id, "command": COMMANDS.dump_json(one).decode(),
                     "sent_at": now}
                    for one in first
                ]  # fmt: skip
                connection.execute(insert(commands), rows)
            if key is not None:
                row = {
                    "caller": caller, "key": key, "request": request, "search_id": search_id,
                    "created_at": now,
                }  # fmt: skip
                connection.execute(insert(idempotency), row)
        return search_id

    def _known(
        self, connection: Connection, caller: str, key: str, request: str, now: datetime
    ) -> str | None:
        connection.execute(delete(idempotency).where(idempotency.c.created_at < now - KEPT))
        wanted = select(idempotency.c.request, idempotency.c.search_id).where(
            idempotency.c.caller == caller, idempotency.c.key == key
        )
        row = connection.execute(wanted).first()
        if row is None:
            return None
        if row.request != request:
            raise StateConflict(
                "this Idempotency-Key came with another request", expected="a new key",
                got=key[:40], hint="nothing was written",
            )  # fmt: skip
        return str(row.search_id)

    def known(self, caller: str, key: str, request: str) -> str | None:
        """The search that this key created before, if any.

        Raises:
            StateConflict: the key came before with another request.
        """
        with begin(self._engine, write=True) as connection:
            return self._known(connection, caller, key, request, datetime.now(UTC))

    def annotate(self, search_id: str, about: Notes, title: str | None = None) -> None:
        """Sets what people wrote about the search."""
        with begin(self._engine, write=True) as connection:
            mine = searches.c.id == search_id
            if connection.execute(select(searches.c.id).where(mine)).first() is None:
                raise not_one(search_id, [])
            if title is not None:
                connection.execute(update(searches).where(mine).values(title=title))
            self._note(connection, search_id, about)

    def _note(self, connection: Connection, search_id: str, about: Notes) -> None:
        connection.execute(delete(notes).where(notes.c.search_id == search_id))
        row = asdict(about) | {"search_id": search_id, "tags": json.dumps(about.tags)}
        connection.execute(insert(notes), row)

    def delete(self, search_id: str) -> None:
        """Removes the search and everything about it.

        Raises:
            NotFound: there is no such search.
        """
        gone = delete(searches).where(searches.c.id == search_id)
        with begin(self._engine, write=True) as connection:
            if connection.execute(gone).rowcount != 1:
                raise not_one(search_id, [])

    def branch_point(self, search_id: str) -> int:
        """The last event at which the search was still proposing: a clone from there goes on.

        Raises:
            NotFound: there is no such search.
        """
        last = select(searches.c.last_seq).where(searches.c.id == search_id)
        moved_on = select(func.min(events.c.seq)).where(
            events.c.search_id == search_id, events.c.kind == "phase_entered"
        )
        stopped = select(func.max(events.c.seq)).where(
            events.c.search_id == search_id, events.c.kind == "status_changed"
        )
        with begin(self._engine) as connection:
            status = connection.execute(
                select(searches.c.status).where(searches.c.id == search_id)
            ).scalar()
            if status is None:
                raise not_one(search_id, [])
            phase = connection.execute(moved_on).scalar()
            end = connection.execute(last if status in _OPEN else stopped).scalar_one()
        ended = int(end) - (status not in _OPEN)
        return ended if phase is None else min(ended, int(phase) - 1)

    def clone(self, source: str, target: str, title: str, upto: int, about: Notes) -> None:
        """Adds a search whose log is the source's first ``upto`` events; it begins paused.

        Raises:
            StateConflict: the source has fewer events.
        """
        with begin(self._engine, write=True) as connection:
            last = connection.execute(
                select(searches.c.last_seq).where(searches.c.id == source)
            ).scalar()
            if last is None:
                raise not_one(source, [])
            if not 1 <= upto <= last:
                raise StateConflict(
                    "no such event", expected=f"1 to {last}", got=str(upto), where=source
                )
            status = _copy(connection, source, target, title, upto)
            if status in _OPEN:
                if status == "running":
                    pause = StatusChanged(status="paused", reason=f"cloned from {source}")
                    record(connection, target, upto, [(upto + 1, datetime.now(UTC), pause)])
            else:
                raise StateConflict(
                    f"at event {upto} the search is {status}", expected="an earlier event",
                    where=source, hint="a clone goes on from where the search was not over",
                )  # fmt: skip
            self._note(connection, target, about)
            _copy_traces(connection, source, target, upto)


def _copy(connection: Connection, source: str, target: str, title: str, upto: int) -> str:
    """Projects the events anew under the target's id; returns its status after them."""
    page = select(events.c.seq, events.c.at, events.c.payload).where(events.c.search_id == source)
    last, status = 0, "running"
    while last < upto:
        rows = connection.execute(
            page.where(events.c.seq > last, events.c.seq <= upto)
            .order_by(events.c.seq).limit(_BATCH)
        ).all()  # fmt: skip
        batch: list[tuple[int, datetime, Event]] = [
            (row.seq, row.at, read_event(row.seq, row.payload)) for row in rows
        ]
        if last == 0:
            insert_search(connection, target, title, batch[0][2], batch[0][1])
            last, batch = 1, batch[1:]
        if batch:
            record(connection, target, last, batch)
            last = batch[-1][0]
        changes = [e.status for _, _, e in batch if isinstance(e, StatusChanged)]
        status = changes[-1] if changes else status
    return status


def _copy_traces(connection: Connection, source: str, target: str, upto: int) -> None:
    """Curves are no part of events, so they are copied as they stand."""
    connection.execute(delete(traces).where(traces.c.search_id == target))
    theirs = select(literal(target), traces.c.seq, traces.c.curve, traces.c.correct).where(
        traces.c.search_id == source, traces.c.seq <= upto
    )
    columns = ["search_id", "seq", "curve", "correct"]
    connection.execute(insert(traces).from_select(columns, theirs))
