"""Searches that come in, or go, part by part: nobody sees one before it is whole, or after it went.

A transaction holds a bounded part, so that running searches of the store write in between, however
long the log. Who builds holds a lease on the search; what a killed process leaves behind is removed
by the next one that builds or removes. What an event means is for `db.projection`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import Connection, Delete, Table, delete, select, tuple_, update

from db import schema, schema_service
from db.engine import again, begin
from db.refusals import not_one
from db.schema import searches
from db.sql_store import SqlStore, insert_search, record
from evosearch.errors import EvosearchError, StateConflict
from evosearch.events import Event

BUILDING_SECONDS = 300.0
"""How long a part may take before its builder counts as dead."""
PART = 2000
"""Rows that one transaction removes."""
_REMOVING = "removing"
Numbered = tuple[int, datetime, Event]


class Building:
    """A context in which a search is put together; it is seen once `finish` was called in it."""

    def __init__(self, store: SqlStore, search_id: str) -> None:
        self._store, self._id, self.tries = store, search_id, store.tries
        self._owner = f"building:{secrets.token_hex(4)}"
        self._begun = self._done = False

    def __enter__(self) -> Self:
        remove_leftovers(self._store)
        return self

    def __exit__(self, *error: object) -> None:
        if self._begun and not self._done:
            with suppress(EvosearchError):  # what stays behind is removed by the next one
                remove(self._store, self._id, owner=self._owner)

    @again
    def begin(self, title: str, created: Event, at: datetime) -> None:
        """Writes the first event.

        Raises:
            StateConflict: a search of that id is there, or another process is building it.
        """
        mine = select(searches.c.lease_owner).where(searches.c.id == self._id)
        with begin(self._store.engine, write=True) as connection:
            # It is ours already where the answer to a commit never came.
            if connection.execute(mine).scalar() != self._owner:
                insert_search(connection, self._id, title, created, at)
                hidden = update(searches).where(searches.c.id == self._id)
                connection.execute(hidden.values({"ready": False} | self._lease()))
        self._begun = True

    @again
    def add(self, events: Sequence[Numbered], more: Callable[[Connection], None]) -> None:
        """Writes the next events; ``more`` is called in their transaction."""
        mine = select(searches.c.last_seq).where(searches.c.id == self._id)
        with begin(self._store.engine, write=True) as connection:
            if connection.execute(mine).scalar() == events[-1][0]:
                return
            record(connection, self._id, events[0][0] - 1, events)
            more(connection)
            self._keep(connection, self._lease())

    def finish(self, more: Callable[[Connection], None]) -> None:
        """Shows the search to all; ``more`` is called in the transaction that does."""
        self._finish(more, datetime.now(UTC))
        self._done = True

    @again
    def _finish(self, more: Callable[[Connection], None], at: datetime) -> None:
        shown = select(searches.c.id).where(
            searches.c.id == self._id, searches.c.ready, searches.c.added_at == at
        )
        free: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None}
        with begin(self._store.engine, write=True) as connection:
            if connection.execute(shown).first() is None:
                more(connection)
                self._keep(connection, {"ready": True, "added_at": at} | free)

    def _lease(self) -> dict[str, Any]:
        until = self._store.clock + BUILDING_SECONDS
        return {"lease_owner": self._owner, "lease_expires_at": until}

    def _keep(self, connection: Connection, values: dict[str, Any]) -> None:
        mine = (
            searches.c.id == self._id, searches.c.lease_owner == self._owner, ~searches.c.ready
        )  # fmt: skip
        if connection.execute(update(searches).where(*mine).values(values)).rowcount != 1:
            raise StateConflict(f"search {self._id} was removed while it came in")


def remove(store: SqlStore, search_id: str, *, owner: str | None = None) -> None:
    """Takes a search out of sight and out of its controller's hands, then removes its rows.

    ``owner``: removes it only while that one holds its lease.

    Raises:
        NotFound: there is no such search.
    """
    _hide(store, search_id, owner)
    _remove_rows(store, search_id)


@again
def _hide(store: SqlStore, search_id: str, owner: str | None) -> None:
    mine = [searches.c.id == search_id]
    if owner is not None:
        mine.append(searches.c.lease_owner.in_((owner, _REMOVING)))
    hidden = update(searches).where(*mine)
    hidden = hidden.values(
        ready=False, lease_owner=_REMOVING, lease_expires_at=0.0,
        lease_epoch=searches.c.lease_epoch + 1,
    )  # fmt: skip
    with begin(store.engine, write=True) as connection:
        if connection.execute(hidden).rowcount != 1:
            raise not_one(search_id, [])


def remove_leftovers(store: SqlStore) -> None:
    """Removes what processes left behind that were killed while a search came in or went."""
    left = select(searches.c.id).where(~searches.c.ready, searches.c.lease_expires_at < store.clock)
    with begin(store.engine) as connection:
        found = connection.execute(left).scalars().all()
    for search_id in found:
        _remove_rows(store, search_id)


def _remove_rows(store: SqlStore, search_id: str) -> None:
    # What refers to a candidate goes before it, and the youngest candidates before their parents.
    for table in (
        schema_service.stars,
        schema.traces, schema.evaluations, schema.jobs, schema.check_runs, schema.scores,
        schema.parents, schema.repeats, schema.skip_examples, schema.events, schema.candidates,
    ):  # fmt: skip
        statement = _some_of(table, search_id)
        while _run(store, statement) == PART:
            pass
    _run(store, delete(searches).where(searches.c.id == search_id, ~searches.c.ready))


@again
def _run(store: SqlStore, statement: Delete) -> int:
    with begin(store.engine, write=True) as connection:
        return connection.execute(statement).rowcount


def _some_of(table: Table, search_id: str) -> Delete:
    key = list(table.primary_key.columns)
    some = select(*key).where(table.c.search_id == search_id)
    some = some.order_by(*(column.desc() for column in key)).limit(PART)
    return delete(table).where(tuple_(*key).in_(some))
