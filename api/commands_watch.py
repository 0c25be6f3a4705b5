"""`evosearch search watch`: follows a search's live events from a service, or from the store."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from api.commands_search import Database, SearchRef
from evosearch.events import ENDED


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
    """Print a search's events as they come, until it ends."""
    for event in _from_service(url, token, ref, since) if url else _from_store(db, ref, since):
        typer.echo(line_of(event))
        if event["kind"] == "status_changed" and event["event"]["status"] in ENDED:
            return


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


def _from_service(url: str, token: str | None, ref: str, since: int) -> Any:
    from evosearch.client import Client

    with Client(url, token=token) as client:
        for event in client.watch(ref, after=since):
            yield {"seq": event.seq, "kind": event.kind, "event": event.data}


def _from_store(db: str | None, ref: str, since: int) -> Any:
    from api.wiring import open_database

    store = open_database(db)
    try:
        search_id = store.search(ref).id
        while True:
            # Before the events: what ends it after this look is printed at the next one.
            over = store.search(search_id).status in ENDED
            for entry in store.events(search_id, since):
                since = entry.seq
                yield {"seq": entry.seq, "kind": entry.event.kind,
                       "event": entry.event.model_dump(mode="json")}  # fmt: skip
            if over:
                return
            time.sleep(0.5)
    finally:
        store.close()
