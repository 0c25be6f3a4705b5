"""The commands that take a search up again or file it: replay, clone, mark, delete.

What they do is done in `evosearch` and `db`; here are options and words.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.commands_search import Database, SearchRef
from api.wiring import ensure_primitives, new_id, open_database, sql_database
from evosearch.errors import NotFound, StateConflict

DIFFERS = 1
"""Exit code of a replay that came out differently."""


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch search``."""
    for command in (replay, clone, mark, delete):
        app.command()(command)


def replay(ref: SearchRef, db: Database = None) -> int:
    """Decide a search anew from its recorded outcomes; 1 if anything comes out differently."""
    from rich.console import Console

    from evosearch.replay import replay as decide_anew

    store = open_database(db)
    try:
        info = store.search(ref)
        ensure_primitives(info.config)
        with Console(stderr=True).status(f"replaying {info.id} ...") as status:

            def told(_: str, done: int, of: int) -> None:
                if done % 100 == 0:
                    status.update(f"replaying {info.id}: event {done:,} of {of:,}")

            done = decide_anew(store.events(info.id), told, info.last_seq)
    finally:
        store.close()
    if done.difference is None:
        typer.echo(
            f"search {info.id} replays: {done.events:,} events, {done.proposals:,} proposals and "
            f"{done.decisions:,} other decisions are the same"
        )
        return 0
    found = done.difference
    typer.echo(
        f"search {info.id} differs at event {found.seq} ({found.kind}): {found.field} is "
        f"{found.recorded}, replayed {found.replayed}"
    )
    return DIFFERS


def clone(
    ref: SearchRef,
    at_event: Annotated[
        int | None,
        typer.Option("--at-event", min=1, help="Default: the last one at which it proposed."),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Of the clone.")] = None,
    db: Database = None,
) -> None:
    """Copy a search as it stood after an event; the copy is paused and goes its own way."""
    from db.queries_rest import Notes, RestQueries
    from db.service_writes import ServiceWrites

    with sql_database(db) as store:
        info, writes = store.search(ref), ServiceWrites(store)
        upto = at_event if at_event is not None else writes.branch_point(info.id)
        target = new_id()
        about = RestQueries(store).notes([info.id]).get(info.id, Notes())
        writes.clone(info.id, target, title or f"{info.title} (from event {upto})", upto, about)
    typer.echo(f"search {target} is {info.id} as it stood after event {upto:,}; go on with:")
    typer.echo(f"  evosearch search resume {target}")


def mark(
    ref: SearchRef,
    title: Annotated[str | None, typer.Option("--title", help="A new title.")] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", help="In place of its tags; may be repeated, '' for none."),
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="In place of its note.")] = None,
    priority: Annotated[
        int | None,
        typer.Option("--priority", min=1, max=100, help="Share of the workers, 1 to 100."),
    ] = None,
    star: Annotated[bool | None, typer.Option("--star/--no-star", help="A mark of yours.")] = None,
    archive: Annotated[
        bool | None, typer.Option("--archive/--no-archive", help="Out of the way.")
    ] = None,
    db: Database = None,
) -> None:
    """Title, tags, note, priority, star and archive of a search; what is not given stays."""
    from db.queries_rest import Notes, RestQueries
    from db.service_writes import ServiceWrites

    with sql_database(db) as store:
        info = store.search(ref)
        given: dict[str, Any] = {
            "tags": None if tags is None else tuple(tag for tag in tags if tag), "text": note,
            "priority": priority, "starred": star, "archived": archive,
        }  # fmt: skip
        changed = {name: value for name, value in given.items() if value is not None}
        ServiceWrites(store).annotate(info.id, title, **changed)
        info = store.search(info.id)
        about = RestQueries(store).notes([info.id]).get(info.id, Notes())
    marks = [word for word, so in (("starred", about.starred), ("archived", about.archived)) if so]
    typer.echo(f"search {info.id} ({info.title}): priority {about.priority}")
    typer.echo(f"  {' '.join((*marks, *(f'#{tag}' for tag in about.tags))) or 'no marks or tags'}")
    if about.text:
        typer.echo(f"  {about.text}")


def delete(
    search_id: Annotated[str, typer.Argument(metavar="ID", help="A search's whole id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: Database = None,
) -> None:
    """Delete a search and everything about it; a controller lets go of it within seconds."""
    from db.service_writes import ServiceWrites

    with sql_database(db) as store:
        info = store.search(search_id)
        if info.id != search_id:
            raise NotFound(
                "a search is deleted by its whole id only", expected=info.id, got=search_id
            )
        if not yes and not typer.confirm(
            f"delete {info.id} ({info.title}) and its {info.evaluated} evaluated candidates?"
        ):
            raise StateConflict("nothing was deleted", hint="--yes does not ask")
        ServiceWrites(store).delete(info.id)
    typer.echo(f"search {info.id} is deleted")
