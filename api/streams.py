"""Event streams on the wire: server-sent events with heartbeats, dropped when nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.responses import StreamingResponse

from api.feed import Told

RETRY_MILLISECONDS = 1000


class EventStream(EventSourceResponse):
    """Events of one search (their ids are its event numbers), or of all (ids are places).

    A client that does not read for ``slow`` seconds is cut off; it can resume.
    """

    def __init__(
        self,
        events: AsyncGenerator[Told | None],
        *,
        everything: bool,
        heartbeat: float,
        slow: float,
    ) -> None:
        self._slow = slow
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_wire(events, everything, heartbeat), headers=headers)

    async def stream_response(self, send: Callable[[Any], Awaitable[None]]) -> None:
        async def in_time(message: Any) -> None:
            async with asyncio.timeout(self._slow):
                await send(message)

        wire: AsyncGenerator[bytes] = self.body_iterator  # type: ignore[assignment]
        async with contextlib.aclosing(wire):
            with contextlib.suppress(TimeoutError):
                await StreamingResponse.stream_response(self, in_time)


async def _wire(
    events: AsyncGenerator[Told | None], everything: bool, heartbeat: float
) -> AsyncGenerator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS, comment="evosearch")
    sent = time.monotonic()
    async with contextlib.aclosing(events):
        async for told in events:
            if told is not None:
                yield format_sse_event(
                    event=told.kind,
                    data_str=told.data,
                    id=told.place if everything else str(told.seq),
                )
            elif time.monotonic() - sent < heartbeat:
                continue
            else:
                yield KEEPALIVE_COMMENT
            sent = time.monotonic()
