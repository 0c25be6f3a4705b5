"""Live events: one reader of the store a process, fanned out to all who listen.

Every listener gets each event once and in order, from the place it names: first what it missed,
read from the store, then what the reader brings. Whoever cannot keep up is let go, and comes back
with the place where it was. Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from anyio.to_thread import run_sync

from db.queries_rest import LogRow, RestQueries
from evosearch.errors import ConfigError, EvosearchError
from evosearch.events import ENDED

PAGE = 500
QUEUE = 2000
"""Events that a listener may be behind before it is let go."""
FORGET = timedelta(hours=1)
"""Searches older than this are named in a place only while they can have new events."""
log = logging.getLogger("evosearch.feed")


@dataclass(slots=True)
class Known:
    """How far a search was told: number of its last event, whether it is over, its creation."""

    seq: int
    over: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """An event on its way: ready as text, with the place behind it in the stream of all.

    ``over``: nothing follows it in its search.
    """

    search_id: str
    seq: int
    kind: str
    data: str
    place: str
    over: bool = False


@dataclass(eq=False, slots=True)
class Listener:
    """Who listens: to one search, or to all (None). ``lost``: it could not keep up."""

    search_id: str | None
    queue: asyncio.Queue[Told] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    lost: bool = False


class Feed:
    """The reader and its listeners; used within one event loop."""

    def __init__(self, queries: RestQueries, every: float) -> None:
        self._queries, self._every = queries, every
        self._known: dict[str, Known] = {}
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self.ready = False
        self.closing = False

    @property
    def count(self) -> int:
        """Listeners now."""
        return len(self._listeners)

    async def start(self) -> None:
        """Begins to read; what is in the store now counts as told."""
        for search_id, (seq, status, created) in (await run_sync(self._queries.last_seqs)).items():
            self._known[search_id] = Known(seq, status in ENDED, created)
        self._task = asyncio.create_task(self._run())
        self.ready = True

    async def stop(self) -> None:
        """Ends the reader and lets all listeners go."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.ready = False

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
                self.ready = True
            except EvosearchError as err:  # the store is away; it is asked again
                self.ready = False
                log.warning("the store cannot be read: %s", err)
            await asyncio.sleep(self._every)

    async def _read(self) -> None:
        now = await run_sync(self._queries.last_seqs)
        for gone in self._known.keys() - now.keys():
            del self._known[gone]
            self._let_go(gone)
        for search_id, (last, _, created) in now.items():
            known = self._known.setdefault(search_id, Known(0, False, created))
            while known.seq < last:
                if not self._listeners:
                    known.seq, known.over = last, now[search_id][1] in ENDED
                    break
                rows = await run_sync(self._queries.log, search_id, known.seq, last, PAGE)
                if not rows:
                    break
                for row in rows:
                    self._tell(row, known)

    def _tell(self, row: LogRow, known: Known) -> None:
        end = is_end(row)
        known.seq, known.over = row.seq, end or known.over
        told = Told(row.search_id, row.seq, row.kind, as_data(row), place_of(self._known), end)
        for listener in [*self._listeners]:
            if listener.search_id in (None, row.search_id):
                try:
                    listener.queue.put_nowait(told)
                except asyncio.QueueFull:
                    listener.lost = True
                    self._listeners.discard(listener)

    def _let_go(self, search_id: str) -> None:
        """The search was deleted: nothing will come any more."""
        for listener in [*self._listeners]:
            if listener.search_id == search_id:
                listener.lost = True
                self._listeners.discard(listener)

    async def listen(
        self, search_id: str | None, after: dict[str, Known] | None
    ) -> AsyncGenerator[Told | None]:
        """Events beyond ``after`` (None: from now on); None now and then where nothing comes.

        Ends when the listener could not keep up, or its search was deleted.
        """
        listener = Listener(search_id)
        self._listeners.add(listener)
        # From here on the queue has all that comes, so what was told until now is the border.
        border = {name: known.seq for name, known in self._known.items()}
        try:
            if after is not None:
                async for told in self._missed(search_id, after, border):
                    yield told
            while not (self.closing or (listener.lost and listener.queue.empty())):
                try:
                    told = await asyncio.wait_for(listener.queue.get(), 1.0)
                except TimeoutError:
                    yield None
                    continue
                # Without listeners the reader may have skipped ahead just before this one came.
                if told.seq > border.get(told.search_id, 0):
                    yield told
        finally:
            self._listeners.discard(listener)

    async def _missed(
        self, search_id: str | None, after: dict[str, Known], border: dict[str, int]
    ) -> AsyncIterator[Told]:
        """What lies between the place and the border, search by search."""
        place = {name: Known(k.seq, k.over, k.created_at) for name, k in after.items()}
        names = [search_id] if search_id is not None else [*border]
        for name in names:
            known = place.setdefault(name, Known(0, False, _created(self._known, name)))
            while known.seq < border.get(name, 0):
                rows = await run_sync(self._queries.log, name, known.seq, border[name], PAGE)
                if not rows:
                    break
                for row in rows:
                    end = is_end(row)
                    known.seq, known.over = row.seq, end or known.over
                    yield Told(name, row.seq, row.kind, as_data(row), place_of(place), end)

    async def listen_to_end(self, search_id: str, after: int) -> AsyncGenerator[Told | None]:
        """Events of one search beyond ``after``; ends with the search."""
        now = (await run_sync(self._queries.last_seqs)).get(search_id)
        if now is None or (now[1] in ENDED and after >= now[0]):
            return
        place = {search_id: Known(after, False, now[2])}
        async with contextlib.aclosing(self.listen(search_id, place)) as events:
            async for told in events:
                yield told
                if told is not None and told.over:
                    return

    def resume(self, text: str) -> dict[str, Known]:
        """The place behind an event of the stream of all.

        Searches that it does not name were over by then, or came after it.

        Raises:
            ConfigError: the text is no place that this stream gave out.
        """
        since, seqs = _read_place(text)
        found = {
            name: Known(known.seq, True, known.created_at)
            for name, known in list(self._known.items())  # the reader may add to it meanwhile
            if known.created_at <= since
        }
        for name, seq in seqs.items():
            found[name] = Known(seq, False, _created(self._known, name))
        return found


def _created(known: dict[str, Known], name: str) -> datetime:
    return known[name].created_at if name in known else datetime.now(UTC)


def is_end(row: LogRow) -> bool:
    """Whether nothing follows this event."""
    return row.kind == "status_changed" and json.loads(row.payload)["status"] in ENDED


def as_data(row: LogRow) -> str:
    """The event as one line of JSON; examples of skipped graphs are left out."""
    payload = row.payload
    if row.kind == "candidate_queued" and '"examples":[[' in payload:
        data: dict[str, Any] = json.loads(payload)
        data["skipped"].pop("examples", None)
        payload = json.dumps(data, separators=(",", ":"))
    return (
        f'{{"search":"{row.search_id}","seq":{row.seq},"at":"{row.at}",'
        f'"kind":"{row.kind}","event":{payload}}}'
    )


def place_of(known: dict[str, Known]) -> str:
    """Where the stream of all stands: a moment, and the searches that may yet have news."""
    since = datetime.now(UTC) - FORGET
    named = {name: one.seq for name, one in known.items() if not one.over or one.created_at > since}
    data = json.dumps([since.timestamp(), named], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _read_place(text: str) -> tuple[datetime, dict[str, int]]:
    bad = ConfigError("bad Last-Event-ID", expected="the id of an event", got=repr(text)[:60])
    try:
        padded = text + "=" * (-len(text) % 4)
        since, named = json.loads(base64.b64decode(padded, b"-_", validate=True))
        moment = datetime.fromtimestamp(since, UTC)
    except (ValueError, TypeError, OverflowError, OSError, binascii.Error, RecursionError) as err:
        raise bad from err
    if not isinstance(named, dict) or not all(type(seq) is int for seq in named.values()):
        raise bad
    return moment, named
