"""Live events: server-sent events of one search or of all, resumable where they broke off."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from api.feed import Told
from api.places import read_place
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
    info = service.store.search(ref)
    if last is not None:
        if not (last.isascii() and last.isdigit() and int(last) <= MAX_INT):
            raise Refused(400, "bad Last-Event-ID: expected the id of an event of this search")
        after = int(last)
    # Nobody was told of events that are not there yet.
    after = None if after is None else min(after, info.last_seq)
    if until is not None:
        begin = info.last_seq if after is None else after
        return _stream(service, service.feed.listen_to_end(info.id, begin))
    return _stream(service, service.feed.listen(info.id, after))


@router.get("/events/stream", response_class=StreamingResponse, responses=COMMON | STREAM)
def all_stream(service: Here, last: LastEvent = None) -> EventStream:
    """Events of all searches as they come; an id says how far each search was told."""
    place = None if last is None else read_place(last)
    return _stream(service, service.feed.listen_to_all(place), everything=True)


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
