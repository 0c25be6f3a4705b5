"""The commands that take a search up again: replay it, clone it.

What they do is done in `evosearch` and `db`; here are options and words.
"""

from __future__ import annotations

import typer

from api.commands_search import Database, SearchRef
from api.wiring import open_database

DIFFERS = 1
"""Exit code of a replay that came out differently."""


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch search``."""
    app.command()(replay)


def replay(ref: SearchRef, db: Database = None) -> int:
    """Decide a search anew from its recorded outcomes; 1 if anything comes out differently."""
    from rich.console import Console

    from evosearch.replay import replay as decide_anew

    store = open_database(db)
    try:
        info = store.search(ref)
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
