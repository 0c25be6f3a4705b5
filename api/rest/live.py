"""Live events: server-sent events of one search or of all, resumable where they broke off."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from api.feed import Known, Told
from api.problems import Refused
from api.rest.types import COMMON, FOUND, MAX_INT, Here, SearchRef
from api.service import Service
from api.streams import EventStream

router = APIRouter(tags=["live"])
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", max_length=8000)]
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.get(
    "/searches/{ref}/events/stream", response_class=StreamingResponse, responses=FOUND | STREAM
)  # fmt: skip
def search_stream(
    service: Here, ref: SearchRef, last: LastEvent = None,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_INT, description="0: the whole log; unset: from now on")
    ] = None,
    until: Annotated[
        Literal["end"] | None, Query(description="end: close the stream when the search is over")
    ] = None,
) -> EventStream:  # fmt: skip
    """Events of a search as they come; their ids are their numbers in the log."""
    search_id = service.store.search(ref).id
    if last is not None:
        if not (last.isascii() and last.isdigit() and int(last) <= MAX_INT):
            raise Refused(400, "bad Last-Event-ID: expected the id of an event of this search")
        after = int(last)
    if until is not None:
        begin = service.store.search(search_id).last_seq if after is None else after
        return _stream(service, service.feed.listen_to_end(search_id, begin))
    place = None if after is None else {search_id: Known(after, False, datetime.now(UTC))}
    return _stream(service, service.feed.listen(search_id, place))


@router.get("/events/stream", response_class=StreamingResponse, responses=COMMON | STREAM)
def all_stream(service: Here, last: LastEvent = None) -> EventStream:
    """Events of all searches as they come; an id says how far each search was told."""
    place = None if last is None else service.feed.resume(last)
    return _stream(service, service.feed.listen(None, place), everything=True)


def _stream(
    service: Service, events: AsyncGenerator[Told | None], *, everything: bool = False
) -> EventStream:
    settings, feed = service.settings, service.feed
    if feed.count >= settings.max_streams:
        raise Refused(503, "too many event streams are open", headers={"Retry-After": "10"})
    return EventStream(
        events, everything=everything,
        heartbeat=settings.heartbeat_seconds, slow=settings.slow_seconds,
    )  # fmt: skip
