"""`evosearch search watch`: follows a search's live events from a service, or from the store.

Either way the feed is the service's: over HTTP, or the same reader of the store in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.commands_search import Database, SearchRef
from evosearch.events import ENDED

if TYPE_CHECKING:
    from db.sql_store import SqlStore

LOOK_SECONDS = 0.5
"""How often the store is asked for new events."""
AGAIN_SECONDS = 1.0
Tell = Callable[[dict[str, Any]], None]


def register(app: typer.Typer) -> None:
    """Add the command to ``evosearch search``."""
    app.command()(watch)


def watch(
    ref: SearchRef,
    url: Annotated[
        str | None,
        typer.Option("--url", help="A service's address; without it the database is read.",
                     envvar="EVOSEARCH_URL"),
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", envvar="EVOSEARCH_TOKEN", help="For the service.")
    ] = None,
    since: Annotated[int, typer.Option("--since", min=0, help="Number of the last event known.")]
    = 0,
    db: Database = None,
) -> None:  # fmt: skip
    """Print a search's events as they come, each once, until it ends."""

    def tell(event: dict[str, Any]) -> None:
        typer.echo(line_of(event))

    if url:
        _from_service(url, token, ref, since, tell)
    else:
        _from_store(db, ref, since, tell)


def line_of(event: dict[str, Any]) -> str:
    """An event in one line."""
    data = event["event"]
    told = f"{event['seq']:>6}  {event['kind']}"
    for name in ("birth", "id", "job_id", "status", "phase", "evaluations"):
        if data.get(name) is not None:
            told += f"  {name} {data[name]}"
    for name, limit in data.get("limits", {}).items():
        told += f"  {name} {'none' if limit is None else limit}"
    if data.get("standing"):
        told += f"  hypervolume {data['standing']['hypervolume']:.4g}"
    if data.get("rejection"):
        told += f"  {data['rejection']['code']}"
    if "evaluation" in data:
        told += f"  {data['evaluation']['anchor']} {data['evaluation']['score']:.3f}"
    return told


def _from_service(url: str, token: str | None, ref: str, since: int, tell: Tell) -> None:
    from evosearch.client import Client

    with Client(url, token=token) as client:
        for event in client.watch(ref, after=since):
            tell({"seq": event.seq, "kind": event.kind, "event": event.data})


def _from_store(db: str | None, ref: str, since: int, tell: Tell) -> None:
    from api.wiring import sql_database

    with sql_database(db) as store:
        asyncio.run(follow(store, store.search(ref).id, since, tell))


async def follow(store: SqlStore, search_id: str, since: int, tell: Tell) -> None:
    """Tell the search's events beyond ``since``, each once and in order, until it ends.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    from api.feed import Feed
    from db.queries_rest import RestQueries

    feed = Feed(RestQueries(store), LOOK_SECONDS)
    await feed.start()
    try:
        while True:
            # A feed lets go of who is too slow for it; it is taken up where it broke off.
            async with contextlib.aclosing(feed.listen_to_end(search_id, since)) as events:
                async for told in events:
                    if told is not None:
                        since = told.seq
                        tell(json.loads(told.data))
                        if told.over:
                            return
            info = store.search(search_id)
            if info.status in ENDED and since >= info.last_seq:
                return
            await asyncio.sleep(AGAIN_SECONDS)
    finally:
        await feed.stop()
