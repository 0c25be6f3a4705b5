"""What REST writes beside the log of a search: creation with a key, notes, deletion, clones.

Commands go through `Store.send`; nothing here touches a search that a controller holds, but for
deleting it, which takes its lease away.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, func, insert, literal, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from db.building import Building, Numbered, remove
from db.engine import again, begin
from db.queries_rest import Notes
from db.refusals import not_one
from db.rows import Row
from db.schema import IS_MILESTONE, commands, events, searches, traces
from db.schema_service import idempotency, notes
from db.sql_store import SqlStore, insert_search, read_event
from db.stars import copy_stars
from evosearch.errors import StateConflict
from evosearch.events import Created, StatusChanged
from evosearch.ports import COMMANDS, Command

KEPT = timedelta(days=7)
"""How long a retried request is recognised."""
ALERTS = "alerts"
"""The caller of claims to tell an alert; no token has such an id."""
_BATCH = 500
_OPEN = ("running", "paused")


class ServiceWrites:
    """The writes of the service to one store."""

    def __init__(self, store: SqlStore) -> None:
        self._store, self._engine, self.tries = store, store.engine, store.tries

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
        rows = [
            {"search_id": search_id, "command": COMMANDS.dump_json(one).decode(), "sent_at": now}
            for one in first
        ]
        retried = None if key is None else {
            "caller": caller, "key": key, "request": request, "search_id": search_id,
            "created_at": now,
        }  # fmt: skip
        return self._create(search_id, title, created, now, about, rows, retried, [])

    @again
    def _create(
        self, search_id: str, title: str, created: Created, now: datetime, about: Notes,
        first: Sequence[Row], retried: Row | None, before: list[bool],
    ) -> str:  # fmt: skip
        """``before``: whether an earlier try came as far as the commit."""
        same = select(searches.c.id).where(
            searches.c.id == search_id, searches.c.created_at == now, searches.c.ready
        )
        with begin(self._engine, write=True) as connection:
            if before and connection.execute(same).first() is not None:
                return search_id
            before.append(True)
            if retried is not None:
                _take_turns(connection, retried["caller"], retried["key"])
                known = self._known(
                    connection, retried["caller"], retried["key"], retried["request"], now
                )
                if known is not None:
                    return known
            insert_search(connection, search_id, title, created, now)
            _note(connection, search_id, asdict(about))
            if first:
                connection.execute(insert(commands), first)
            if retried is not None:
                connection.execute(insert(idempotency), retried)
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

    @again
    def known(self, caller: str, key: str, request: str) -> str | None:
        """The search that this key created before, if any.

        Raises:
            StateConflict: the key came before with another request.
        """
        with begin(self._engine, write=True) as connection:
            return self._known(connection, caller, key, request, datetime.now(UTC))

    def claim_stall(self, search_id: str, seq: int) -> bool:
        """Whether the caller is the first to ask for this stall, told by its last event.

        Kept as retried requests are, so that no two processes tell one stall.
        """
        return self._claim(search_id, f"stalled/{search_id}/{seq}", secrets.token_hex(8))

    @again
    def _claim(self, search_id: str, key: str, mine: str) -> bool:
        """``mine``: tells a try whose commit went through unheard from another's claim."""
        upsert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        row = {"caller": ALERTS, "key": key, "request": mine, "search_id": search_id,
               "created_at": datetime.now(UTC)}  # fmt: skip
        place = (idempotency.c.caller == ALERTS, idempotency.c.key == key)
        known = select(searches.c.id).where(searches.c.id == search_id, searches.c.ready)
        with begin(self._engine, write=True) as connection:
            if connection.execute(known).first() is None:
                return False
            connection.execute(upsert(idempotency).values(row).on_conflict_do_nothing())
            return connection.scalar(select(idempotency.c.request).where(*place)) == mine

    @again
    def annotate(self, search_id: str, /, title: str | None = None, **given: Any) -> None:
        """Sets what people wrote about the search: title, and those fields of `Notes` alone.

        What is not given stays as it is, whoever changes it at the same time.

        Raises:
            NotFound: there is no such search.
        """
        with begin(self._engine, write=True) as connection:
            mine = (searches.c.id == search_id, searches.c.ready)
            if connection.execute(select(searches.c.id).where(*mine)).first() is None:
                raise not_one(search_id, [])
            if title is not None:
                connection.execute(update(searches).where(*mine).values(title=title))
            _note(connection, search_id, given)

    def delete(self, search_id: str) -> None:
        """Removes the search and everything about it; it is out of sight at once.

        Raises:
            NotFound: there is no such search.
        """
        self._store.search(search_id)
        remove(self._store, search_id)

    @again
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
            StateConflict: the source has fewer events, or was over by then.
        """
        status = self._status_at(source, upto)
        with Building(self._store, target) as building:
            last = 0
            while last < upto:
                batch = self._events(source, last, min(upto, last + _BATCH))
                if last == 0:
                    building.begin(title, batch[0][2], batch[0][1])
                    batch = batch[1:]
                if batch:
                    building.add(batch, partial(_copy_traces, source, target, batch))
                last = min(upto, last + _BATCH)
            if status == "running":
                pause = StatusChanged(status="paused", reason=f"cloned from {source}")
                building.add([(upto + 1, datetime.now(UTC), pause)], _nothing)

            def finish(connection: Connection) -> None:
                _note(connection, target, asdict(about))
                copy_stars(connection, source, target)

            building.finish(finish)

    @again
    def _status_at(self, source: str, upto: int) -> str:
        changed = (
            select(events.c.payload)
            .where(
                events.c.search_id == source, events.c.kind == "status_changed",
                events.c.seq <= upto, text(IS_MILESTONE),
            )
            .order_by(events.c.seq.desc())
            .limit(1)
        )  # fmt: skip
        known = select(searches.c.last_seq).where(searches.c.id == source, searches.c.ready)
        with begin(self._engine) as connection:
            last = connection.execute(known).scalar()
            payload = connection.execute(changed).scalar()
        if last is None:
            raise not_one(source, [])
        if not 1 <= upto <= last:
            raise StateConflict(
                "no such event", expected=f"1 to {last}", got=str(upto), where=source
            )
        status = "running" if payload is None else str(json.loads(payload)["status"])
        if status not in _OPEN:
            raise StateConflict(
                f"at event {upto} the search is {status}", expected="an earlier event",
                where=source, hint="a clone goes on from where the search was not over",
            )  # fmt: skip
        return status

    @again
    def _events(self, source: str, after: int, upto: int) -> list[Numbered]:
        wanted = select(events.c.seq, events.c.at, events.c.payload).where(
            events.c.search_id == source, events.c.seq > after, events.c.seq <= upto
        )
        with begin(self._engine) as connection:
            rows = connection.execute(wanted.order_by(events.c.seq)).all()
        if not rows:
            raise not_one(source, [])  # it was removed meanwhile
        return [(row.seq, row.at, read_event(row.seq, row.payload)) for row in rows]


def _take_turns(connection: Connection, caller: str, key: str) -> None:
    """Makes a second request of that key wait for the first one; SQLite lets one write anyway."""
    if connection.dialect.name == "postgresql":
        turn = func.hashtextextended(f"{caller} {key}", 0)
        connection.execute(select(func.pg_advisory_xact_lock(turn)))


def _note(connection: Connection, search_id: str, given: Mapping[str, Any]) -> None:
    """Sets these fields of the search's notes and no others."""
    given = {**given, "tags": json.dumps(given["tags"])} if "tags" in given else dict(given)
    upsert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    whole = asdict(Notes()) | {"search_id": search_id, "tags": "[]"} | given
    statement = upsert(notes).values(whole)
    if given:
        statement = statement.on_conflict_do_update(index_elements=["search_id"], set_=given)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=["search_id"])
    connection.execute(statement)


def _nothing(_connection: Connection) -> None:
    """Nothing beside the event."""


def _copy_traces(
    source: str, target: str, batch: Sequence[Numbered], connection: Connection
) -> None:  # fmt: skip
    """Curves are no part of events, so they are copied as they stand."""
    among = traces.c.seq.between(batch[0][0], batch[-1][0])
    connection.execute(delete(traces).where(traces.c.search_id == target, among))
    theirs = select(literal(target), traces.c.seq, traces.c.curve, traces.c.correct).where(
        traces.c.search_id == source, among
    )
    columns = ["search_id", "seq", "curve", "correct"]
    connection.execute(insert(traces).from_select(columns, theirs))
