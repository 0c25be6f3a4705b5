"""Live events: one reader of the store a process, fanned out to all who listen.

Every listener gets each event once and in order, from the place it names: first what it missed,
read from the store, then what the reader brings. Whoever cannot keep up is let go, and comes back
with the place where it was. Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from api.places import Place, Trail, mark_of
from db.queries_rest import LogRow, RestQueries
from evosearch.errors import EvosearchError
from evosearch.events import ENDED

PAGE = 500
QUEUE = 2000
"""Events that a listener may be behind before it is let go."""
READERS = 4
"""Threads in which the feed reads, its own: slow pages must not keep events waiting."""
UNSENT = ("examples", "runners_up")
"""Of what a candidate skipped: graphs that no page shows as they come."""
T = TypeVar("T")
log = logging.getLogger("evosearch.feed")


@dataclass(slots=True)
class Known:
    """How far a search was told: number and time of its last event; its mark in places.

    ``added``: when it came into this store; no event of it counts as older.
    """

    seq: int
    at: datetime
    mark: bytes
    added: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """An event on its way: ready as text, with the place behind it where the stream is of all.

    ``over``: nothing follows it in its search.
    """

    search_id: str
    seq: int
    kind: str
    data: str
    at: datetime
    over: bool = False
    place: str = ""


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
        self._trail = Trail()
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._readers: CapacityLimiter | None = None
        self.ready = False
        self.closing = False

    @property
    def count(self) -> int:
        """Listeners now."""
        return len(self._listeners)

    async def _ask(self, question: Callable[..., T], *words: Any) -> T:
        if self._readers is None:  # made where there is a loop
            self._readers = CapacityLimiter(READERS)
        return await run_sync(question, *words, limiter=self._readers)

    async def start(self) -> None:
        """Begins to read; what is in the store now counts as told."""
        for search_id, row in (await self._ask(self._queries.last_seqs)).items():
            at = max(row.updated_at, row.here_since)
            known = Known(row.seq, at, mark_of(search_id), row.here_since)
            self._known[search_id] = known
            self._trail.add(known.mark, row.seq, at)
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
            except Exception as err:  # events flow again once it is over; the trace is told once
                log.error("events cannot be read: %r", err, exc_info=self.ready)
                self.ready = False
            await asyncio.sleep(self._every)

    async def _read(self) -> None:
        now = await self._ask(self._queries.last_seqs)
        for gone in self._known.keys() - now.keys():
            del self._known[gone]
            self._let_go(gone)
        for search_id, row in now.items():
            fresh = Known(0, row.here_since, mark_of(search_id), row.here_since)
            known = self._known.setdefault(search_id, fresh)
            while known.seq < row.seq:
                if not self._listeners:
                    known.seq, known.at = row.seq, max(known.at, row.updated_at)
                    self._trail.add(known.mark, known.seq, known.at)
                    break
                rows = await self._ask(self._queries.log, search_id, known.seq, row.seq, PAGE)
                if not rows:
                    break
                for one in rows:
                    self._tell(one, known)

    def _tell(self, row: LogRow, known: Known) -> None:
        told = told_of(row)
        known.seq, known.at = told.seq, max(known.at, told.at)
        self._trail.add(known.mark, known.seq, datetime.now(UTC))
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

    async def listen(self, search_id: str, after: int | None) -> AsyncGenerator[Told | None]:
        """Events of a search beyond ``after`` (None: from now on); None where nothing comes.

        Ends when the listener could not keep up, or the search was deleted.
        """
        listener, border = self._begin(search_id)
        last = border.get(search_id, 0)
        try:
            if after is not None and after < last:
                async with contextlib.aclosing(self._between(search_id, after, last)) as missed:
                    async for told in missed:
                        yield told
            # Another process may have told the client what this one has not read yet.
            last = max(last, after or 0)
            async with contextlib.aclosing(self._coming(listener)) as coming:
                async for one in coming:
                    if one is None or one.seq > last:
                        yield one
        finally:
            self._listeners.discard(listener)

    async def listen_to_all(self, after: Place | None) -> AsyncGenerator[Told | None]:
        """Events of all searches beyond the place (None: from now on), each with its place."""
        listener, border = self._begin(None)
        trail = self._trail.copy(datetime.now(UTC)) if after is None else Trail.behind(after)
        try:
            if after is not None:
                async with contextlib.aclosing(self._missed(after, border)) as missed:
                    async for told in missed:
                        trail.add(mark_of(told.search_id), told.seq, told.at)
                        yield replace(told, place=trail.place(told.at))
                for name, seq in border.items():
                    border[name] = max(seq, after.seq(name) or 0)
            async with contextlib.aclosing(self._coming(listener)) as coming:
                async for one in coming:
                    if one is None:
                        yield None
                    elif one.seq > border.get(one.search_id, 0):
                        # Named by when it is told: a clone's log is older than the clone.
                        now = datetime.now(UTC)
                        trail.add(mark_of(one.search_id), one.seq, now)
                        yield replace(one, place=trail.place(now))
        finally:
            self._listeners.discard(listener)

    def _begin(self, search_id: str | None) -> tuple[Listener, dict[str, int]]:
        """A listener, whose queue has all that comes from here on, and what was told until now."""
        listener = Listener(search_id)
        self._listeners.add(listener)
        return listener, {name: known.seq for name, known in self._known.items()}

    async def _coming(self, listener: Listener) -> AsyncGenerator[Told | None]:
        """What the reader brings. Without listeners it may have skipped ahead just before."""
        while not (self.closing or (listener.lost and listener.queue.empty())):
            try:
                yield await asyncio.wait_for(listener.queue.get(), 1.0)
            except TimeoutError:
                yield None

    async def _between(self, name: str, after: int, upto: int) -> AsyncGenerator[Told]:
        """Events of a search beyond the one number up to the other, read page by page."""
        while after < upto:
            rows = await self._ask(self._queries.log, name, after, upto, PAGE)
            if not rows:
                return
            for row in rows:
                yield told_of(row)
            after = rows[-1].seq

    async def _missed(self, after: Place, border: dict[str, int]) -> AsyncGenerator[Told]:
        """What lies between the place and the border, in the order of time.

        That order is what lets a place stay short: what is older than its moment was told.
        """
        heads: list[tuple[datetime, str, Told]] = []
        async with contextlib.AsyncExitStack() as open_:
            logs: dict[str, AsyncGenerator[Told]] = {}
            for name, last in border.items():
                begin = await self._told(name, after)
                if begin < last:
                    log_ = self._between(name, begin, last)
                    logs[name] = await open_.enter_async_context(contextlib.aclosing(log_))
            for name, one in logs.items():
                if (told := await anext(one, None)) is not None:
                    known = self._known.get(name)
                    at = told.at if known is None else max(told.at, known.added)
                    heapq.heappush(heads, (at, name, told))
            while heads:
                at, name, told = heads[0]
                yield replace(told, at=at)
                if (told_next := await anext(logs[name], None)) is None:
                    heapq.heappop(heads)
                else:
                    heapq.heapreplace(heads, (max(at, told_next.at), name, told_next))

    async def _told(self, name: str, place: Place) -> int:
        """The number of the search's last event that is told at this place."""
        seq, known = place.seq(name), self._known.get(name)
        if seq is not None or known is None:
            return seq or 0
        if known.added > place.since:
            return 0  # a clone or an import: its log is older than its being here
        if known.at <= place.since:
            return known.seq
        return await self._ask(self._queries.last_until, name, place.since)

    async def listen_to_end(self, search_id: str, after: int) -> AsyncGenerator[Told | None]:
        """Events of one search beyond ``after``; ends with the search."""
        now = (await self._ask(self._queries.last_seqs)).get(search_id)
        if now is None or (now.status in ENDED and after >= now.seq):
            return
        async with contextlib.aclosing(self.listen(search_id, after)) as events:
            async for told in events:
                yield told
                if told is not None and told.over:
                    return


def told_of(row: LogRow) -> Told:
    """The event on its way."""
    at = datetime.fromisoformat(row.at)
    return Told(row.search_id, row.seq, row.kind, as_data(row), at, is_end(row))


def is_end(row: LogRow) -> bool:
    """Whether nothing follows this event."""
    return row.kind == "status_changed" and json.loads(row.payload)["status"] in ENDED


def as_data(row: LogRow) -> str:
    """The event as one line of JSON; the graphs of proposals that were not queued are left out."""
    payload = row.payload
    if row.kind == "candidate_queued" and any(f'"{name}":[[' in payload for name in UNSENT):
        data: dict[str, Any] = json.loads(payload)
        for name in UNSENT:
            data["skipped"].pop(name, None)
        payload = json.dumps(data, separators=(",", ":"))
    return (
        f'{{"search":"{row.search_id}","seq":{row.seq},"at":"{row.at}",'
        f'"kind":"{row.kind}","event":{payload}}}'
    )
