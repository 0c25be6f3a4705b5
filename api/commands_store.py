"""`evosearch db`: keeps the database's schema up to date."""

from __future__ import annotations

from typing import Annotated

import typer

database = typer.Typer(help="Look after the database.", no_args_is_help=True, rich_markup_mode=None)
Url = Annotated[str | None, typer.Option("--db", help="Database URL or SQLite file.")]


def register(app: typer.Typer) -> None:
    """Add the group to ``evosearch``."""
    app.add_typer(database, name="db")
    database.command()(upgrade)


@database.callback()
def _group() -> None:
    """Look after the database."""


def upgrade(db: Url = None) -> None:
    """Bring the schema up to this program's; an empty database gets its tables."""
    from api.wiring import database_url
    from db.sql_store import upgrade as bring_up

    before, after = bring_up(database_url(db))
    typer.echo(f"schema {before or 'none'} -> {after}" if before != after else f"schema {after}")
