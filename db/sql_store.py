"""The `Store` on SQLite and PostgreSQL.

Each method is one transaction. Who may write is judged by the lease's epoch in the row of the
search, which every writer locks first; so writers of one search take turns, whatever their number.
On PostgreSQL nobody waits for another's search: a lease on a locked one is refused at once, and
commands are sent and read beside a controller that writes.
No row leaves this room: domain objects in and out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import Update

from db import engine as engines
from db.backfill import fill_candidates
from db.engine import again, begin, database_clock, parse_url, shown, use_wal, wrapped
from db.migrate import HEAD, migrate, prepare, refuse_newer, version
from db.projection import Projection, touched
from db.refusals import exists, expect_created, expect_event, held, lost, not_one, not_waiting
from db.schema import HERE_SINCE, commands, events, searches, snapshots
from db.stars import set_star, starred
from db.writes import load_candidates, load_jobs, write
from evosearch.config import SearchConfig
from evosearch.errors import LeaseLost, StateConflict, StoreError
from evosearch.events import Event, StoredEvent, dump_event, load_event
from evosearch.ports import COMMANDS, Command, Lease, SearchInfo, Snapshot, StoredCommand

TRIES = 3
"""How often a task is begun whose connection breaks."""
_PAGE = 1000
_SCHEMA_LOCK = 4_065_919_173  # any constant: two openers of one empty server must take turns


class SqlStore:
    """The memory of all searches in a database; it may be used by many threads.

    Opening creates the schema in an empty database and refuses any other schema than its own.
    A server that is away is waited for up to ``patience`` seconds, and what a lost connection cut
    off is done again, where it did not happen.

    Raises:
        StoreError: the database cannot be used; the message says why and what to do.
    """

    def __init__(
        self,
        url: str,
        *,
        busy_seconds: float = 30.0,
        patience: float = 0.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self.tries = TRIES if patience > 0 else 1
        self.url = shown(parse_url(url))
        self.engine = engines.open_engine(parse_url(url), busy_seconds, patience)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with begin(self.engine) as connection:
            found = version(connection)
        if found != HEAD:
            with begin(self.engine, write=True) as connection:
                _lock_schema(connection)
                prepare(connection)
        if self.engine.dialect.name == "sqlite":
            with wrapped(self.engine.url):
                use_wal(self.engine)
        self.clock: Any = literal_column(database_clock(self.engine))

    def create(self, search_id: str, title: str, created: Event) -> SearchInfo:
        self._create(search_id, title, created, self._now(), [])
        return self.search(search_id)

    @again
    def _create(
        self, search_id: str, title: str, created: Event, at: datetime, before: list[bool]
    ) -> None:
        """``before``: whether an earlier try came as far as the commit."""
        same = select(searches.c.id).where(
            searches.c.id == search_id, searches.c.created_at == at, searches.c.last_seq == 1
        )
        with begin(self.engine, write=True) as connection:
            if before and connection.execute(same).first() is not None:
                return
            before.append(True)
            insert_search(connection, search_id, title, created, at)

    @again
    def searches(self) -> list[SearchInfo]:
        newest = _INFO.where(searches.c.ready).order_by(
            searches.c.created_at.desc(), searches.c.id.desc()
        )
        with begin(self.engine) as connection:
            rows = connection.execute(newest).all()
        return [_info(row) for row in rows]

    @again
    def search(self, ref: str) -> SearchInfo:
        matches = _INFO.where(
            searches.c.ready,
            or_(searches.c.id == ref, func.substr(searches.c.id, 1, len(ref)) == ref),
        )
        with begin(self.engine) as connection:
            rows = connection.execute(matches).all() if ref else []
        exact = [row for row in rows if row.id == ref]
        if len(exact or rows) != 1:
            raise not_one(ref, [row.id for row in rows])
        return _info((exact or rows)[0])

    @again
    def acquire(self, search_id: str, owner: str, seconds: float) -> Lease:
        mine = and_(searches.c.id == search_id, searches.c.ready)
        free = or_(
            searches.c.lease_owner.is_(None),
            searches.c.lease_owner == owner,
            searches.c.lease_expires_at <= self.clock,
        )
        # One that another connection writes this moment is held: passed over, never waited for.
        picked = select(searches.c.id).where(mine, free)
        picked = picked.with_for_update(key_share=True, skip_locked=True)
        taking = (
            update(searches)
            .where(searches.c.id == picked.scalar_subquery())
            .values(
                lease_owner=owner,
                lease_epoch=searches.c.lease_epoch + 1,
                lease_expires_at=self.clock + seconds,
            )
            .returning(searches.c.lease_epoch)
        )
        holder = select(
            searches.c.lease_owner, searches.c.lease_expires_at - self.clock
        ).where(mine)  # fmt: skip
        with begin(self.engine, write=True) as connection:
            epoch = connection.execute(taking).scalar()
            if epoch is not None:
                return Lease(search_id, owner, epoch)
            found = connection.execute(holder).first()
        if found is None:
            raise not_one(search_id, [])
        raise held(search_id, found[0] or "one that takes it this moment", found[1] or 0.0)

    @again
    def renew(self, lease: Lease, seconds: float) -> None:
        longer = update(searches).where(*_owned(lease))
        longer = longer.values(lease_expires_at=self.clock + seconds)
        with begin(self.engine, write=True) as connection:
            if connection.execute(longer).rowcount != 1:
                raise self._lost(connection, lease)

    @again
    def release(self, lease: Lease) -> None:
        free = update(searches).where(*_owned(lease))
        with begin(self.engine, write=True) as connection:
            connection.execute(free.values(lease_owner=None, lease_expires_at=None))

    def append(self, lease: Lease, events: Sequence[Event], done: Sequence[int] = ()) -> int:
        before: list[int] = []
        return self._append(lease, events, sorted(set(done)), before)

    @again
    def _append(
        self, lease: Lease, events: Sequence[Event], done: Sequence[int], before: list[int]
    ) -> int:
        """``before``: the last number that an earlier try found, if it came so far."""
        with begin(self.engine, write=True) as connection:
            last = self._lock(connection, lease)
            if before and self._landed(connection, lease, before[0], last, len(events), done):
                return last
            before[:] = [last]
            at = self._now()
            numbered = [(seq, at, event) for seq, event in enumerate(events, last + 1)]
            if numbered:
                record(connection, lease.search_id, last, numbered)
            self._finish(connection, lease.search_id, done)
        return last + len(numbered)

    def _landed(
        self, connection: Connection, lease: Lease, before: int, last: int, count: int,
        done: Sequence[int],
    ) -> bool:  # fmt: skip
        """Whether a commit whose answer never came stands in the database.

        Nobody else has written since: the lease, which only its owner may write with, is held.
        """
        if count:
            return last == before + count
        finished = select(func.count()).where(
            commands.c.search_id == lease.search_id, commands.c.id.in_(done),
            commands.c.done_at.is_not(None),
        )  # fmt: skip
        return connection.execute(finished).scalar_one() == len(done)

    def _lock(self, connection: Connection, lease: Lease) -> int:
        """Locks the search for this transaction; returns its last sequence number."""
        mine = {"b_id": lease.search_id, "b_owner": lease.owner, "b_epoch": lease.epoch}
        last = connection.execute(_LOCK, mine).scalar()
        if last is None:
            raise self._lost(connection, lease)
        return int(last)

    def _lost(self, connection: Connection, lease: Lease) -> LeaseLost:
        holder = select(searches.c.lease_owner, searches.c.lease_epoch)
        mine = (searches.c.id == lease.search_id, searches.c.ready)
        found = connection.execute(holder.where(*mine)).first()
        if found is None:
            raise not_one(lease.search_id, [])
        return lost(lease, found.lease_owner, found.lease_epoch)

    def _finish(self, connection: Connection, search_id: str, done: Sequence[int]) -> None:
        if not done:
            return
        finished = update(commands).where(
            commands.c.search_id == search_id, commands.c.id.in_(done), commands.c.done_at.is_(None)
        )
        if connection.execute(finished.values(done_at=self._now())).rowcount != len(done):
            raise not_waiting(", ".join(map(str, done)))

    @again
    def events(self, search_id: str, after: int = 0) -> Iterator[StoredEvent]:
        exact = select(searches.c.last_seq).where(searches.c.id == search_id)
        with begin(self.engine) as connection:
            last = connection.execute(exact).scalar()
        if last is None:
            raise not_one(search_id, [])
        return self._stream(search_id, after, last)

    def _stream(self, search_id: str, after: int, last: int) -> Iterator[StoredEvent]:
        """Pages of the log; what is committed never changes, so no transaction stays open."""
        while after < last:
            rows = self._page(search_id, after, last)
            if not rows:
                raise StoreError(
                    "events are missing", expected=f"event {after + 1}", got="none",
                    where=f"search {search_id}", hint="run: evosearch db check",
                )  # fmt: skip
            for row in rows:
                yield _stored(row.seq, row.at, read_event(row.seq, row.payload))
            after = rows[-1].seq

    @again
    def _page(self, search_id: str, after: int, last: int) -> Sequence[Any]:
        page = (
            select(events.c.seq, events.c.at, events.c.payload)
            .where(events.c.search_id == search_id, events.c.seq > after)
            .where(events.c.seq <= last)
            .order_by(events.c.seq)
            .limit(_PAGE)
        )
        with begin(self.engine) as connection:
            return connection.execute(page).all()

    @again
    def save(self, lease: Lease, snapshot: Snapshot) -> None:
        row = {
            "search_id": lease.search_id, "seq": snapshot.seq,
            "state": zlib.compress(snapshot.text.encode(), 1),
        }  # fmt: skip
        with begin(self.engine, write=True) as connection:
            expect_event(snapshot.seq, self._lock(connection, lease))
            connection.execute(delete(snapshots).where(snapshots.c.search_id == lease.search_id))
            connection.execute(insert(snapshots), row)

    @again
    def snapshot(self, search_id: str) -> Snapshot | None:
        wanted = (
            select(snapshots.c.seq, snapshots.c.state, searches.c.last_seq)
            .join(searches, searches.c.id == snapshots.c.search_id)
            .where(snapshots.c.search_id == search_id)
        )
        with begin(self.engine) as connection:
            found = connection.execute(wanted).first()
        if found is None or found.seq > found.last_seq:
            return None
        try:
            return Snapshot(found.seq, zlib.decompress(found.state).decode())
        except (zlib.error, UnicodeDecodeError):
            return None  # the events tell the same

    def send(self, search_id: str, command: Command) -> int:
        return self._send(search_id, COMMANDS.dump_json(command).decode(), self._now(), [])

    @again
    def _send(self, search_id: str, text: str, at: datetime, before: list[bool]) -> int:
        """``before``: whether an earlier try came as far as the commit."""
        known = select(searches.c.id).where(searches.c.id == search_id, searches.c.ready)
        known = known.with_for_update(read=True, key_share=True)  # only deleting it must wait
        same = select(commands.c.id).where(
            commands.c.search_id == search_id, commands.c.command == text, commands.c.sent_at == at
        )
        with begin(self.engine, write=True) as connection:
            if connection.execute(known).first() is None:
                raise not_one(search_id, [])
            landed = connection.execute(same).scalar() if before else None
            if landed is not None:
                return int(landed)
            before.append(True)
            row = {"search_id": search_id, "command": text, "sent_at": at}
            sent = connection.execute(insert(commands).returning(commands.c.id), row)
            return int(sent.scalar_one())

    @again
    def commands(self, lease: Lease) -> list[StoredCommand]:
        waiting = (
            select(commands.c.id, commands.c.command)
            .where(commands.c.search_id == lease.search_id, commands.c.done_at.is_(None))
            .order_by(commands.c.id)
        )
        with begin(self.engine) as connection:
            rows = connection.execute(waiting).all()
        return [StoredCommand(row.id, _read_command(row.id, row.command)) for row in rows]

    @again
    def star(self, search_id: str, birth: int, on: bool = True) -> None:
        with begin(self.engine, write=True) as connection:
            set_star(connection, search_id, birth, on)

    @again
    def stars(self, search_id: str) -> list[int]:
        with begin(self.engine) as connection:
            return [*starred(connection, search_id)]

    def close(self) -> None:
        self.engine.dispose()


def _stored(seq: int, at: datetime, event: Event) -> StoredEvent:
    # What is put together here was validated a moment ago, or was made by the database.
    return StoredEvent.model_construct(seq=seq, at=at, event=event)


def upgrade(url: str, *, busy_seconds: float = 30.0) -> tuple[str | None, str]:
    """Brings the schema up to this program's; returns the version before and after.

    Candidates of an older schema get what newer ones store with them.

    Raises:
        StoreError: the schema is newer, or the database cannot be used.
    """
    engine = engines.open_engine(parse_url(url), busy_seconds)
    try:
        with begin(engine, write=True) as connection:
            _lock_schema(connection)
            found = version(connection)
            refuse_newer(found)
            if found != HEAD:
                migrate(connection)
        fill_candidates(engine)
        return found, HEAD
    finally:
        engine.dispose()


def _lock_schema(connection: Connection) -> None:
    """Makes others wait that create or upgrade the schema; SQLite lets one write anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))


def insert_search(
    connection: Connection, search_id: str, title: str, created: Event, at: datetime
) -> None:
    """Adds the search and its first event."""
    config = expect_created(search_id, created).config
    if connection.execute(select(searches.c.id).where(searches.c.id == search_id)).first():
        raise exists(search_id)
    row = new_search(search_id, title, config, at)
    row |= {"lease_epoch": 0, "added_at": datetime.now(UTC)}
    first = {"seq": 1, "at": at, "kind": created.kind, "payload": dump_event(created)}
    connection.execute(insert(searches), row)
    connection.execute(insert(events), {"search_id": search_id, **first})


def new_search(search_id: str, title: str, config: SearchConfig, at: datetime) -> dict[str, Any]:
    """The row of a search that was just created, but for its lease."""
    return {
        "id": search_id, "title": title, "config": config.model_dump_json(),
        "preset": config.preset, "seed": config.seed, "status": "running", "phase": "search",
        "budget": config.budget.evaluations, "created_at": at, "updated_at": at, "last_seq": 1,
        "evaluated": 0, "hypervolume": 0.0,
    }  # fmt: skip


def record(
    connection: Connection,
    search_id: str,
    last: int,
    numbered: Sequence[tuple[int, datetime, Event]],
) -> None:
    """Writes events and what follows from them; the search's last event was number ``last``."""
    births, jobs = touched(event for _, _, event in numbered)
    change = Projection(
        load_candidates(connection, search_id, births), load_jobs(connection, search_id, jobs)
    )
    for seq, at, event in numbered:
        change.add(seq, at, event)
    write(connection, search_id, change)
    moved = {f"b_{name}": value for name, value in change.search.items()}
    moved |= {"b_id": search_id, "b_last": last, "b_evaluated": change.evaluated}
    if connection.execute(_moved(*sorted(change.search)), moved).rowcount != 1:
        raise StateConflict("another writer moved the log", hint="nothing was written")


def read_event(seq: int, payload: str) -> Event:
    """The event in a stored payload.

    Raises:
        StoreError: the payload is no event of this version.
    """
    try:
        return load_event(payload)
    except ValidationError as err:
        raise _unreadable("an event", err, f"event {seq}", "; run: evosearch db check") from err


def _read_command(number: int, text: str) -> Command:
    try:
        return COMMANDS.validate_json(text)
    except ValidationError as err:
        raise _unreadable("a command", err, f"command {number}") from err


def _unreadable(what: str, err: ValidationError, where: str, more: str = "") -> StoreError:
    return StoreError(
        f"{what} cannot be read", got=str(err.errors()[0]["msg"]), where=where,
        hint=f"it may be of a newer evosearch{more}",
    )  # fmt: skip


_INFO = select(
    searches.c.id, searches.c.title, searches.c.config, searches.c.status, searches.c.created_at,
    searches.c.updated_at, searches.c.last_seq, searches.c.evaluated, searches.c.hypervolume,
    HERE_SINCE,
)  # fmt: skip


_LOCK = (
    select(searches.c.last_seq)
    .where(
        searches.c.id == bindparam("b_id"), searches.c.lease_owner == bindparam("b_owner"),
        searches.c.lease_epoch == bindparam("b_epoch"),
    )
    .with_for_update(key_share=True)
)  # fmt: skip


@cache
def _moved(*names: str) -> Update:
    """UPDATE of a search after new events; built once for each set of columns that change."""
    values: dict[str, Any] = {name: bindparam(f"b_{name}") for name in names}
    return (
        update(searches)
        .where(searches.c.id == bindparam("b_id"), searches.c.last_seq == bindparam("b_last"))
        .values(evaluated=searches.c.evaluated + bindparam("b_evaluated"), **values)
    )


def _info(row: Row[*tuple[Any, ...]]) -> SearchInfo:
    try:
        config = SearchConfig.model_validate_json(row.config)
    except ValidationError as err:
        raise _unreadable("a stored config", err, f"search {row.id}") from err
    fields = dict(row._mapping) | {"config": config}
    return SearchInfo(**fields)


def _owned(lease: Lease) -> tuple[Any, ...]:
    return (
        searches.c.id == lease.search_id,
        searches.c.lease_owner == lease.owner,
        searches.c.lease_epoch == lease.epoch,
    )
