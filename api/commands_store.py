"""`evosearch db`: looks after the database: schema, check, vacuum, backup, export and import.

What these do is done in `db`; here are options, files and progress. Long work is shown on stderr,
so that an export can go to stdout.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from api.wiring import sql_database
from evosearch.errors import StoreError

if TYPE_CHECKING:
    from evosearch.ports import Progress

DAMAGED = 1
"""Exit code of a check that found problems."""

STANDARD = Path("-")

database = typer.Typer(help="Look after the database.", no_args_is_help=True, rich_markup_mode=None)
Url = Annotated[str | None, typer.Option("--db", help="Database URL or SQLite file.")]
Refs = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Searches; default: all of them.")
]


def register(app: typer.Typer) -> None:
    """Add the group to ``evosearch``."""
    app.add_typer(database, name="db")
    for command in (upgrade, check, vacuum, backup, export):
        database.command()(command)
    database.command("import")(import_file)


@database.callback()
def _group() -> None:
    """Look after the database."""


def upgrade(db: Url = None) -> None:
    """Bring the schema up to this program's; an empty database gets its tables."""
    from api.wiring import database_url
    from db.sql_store import upgrade as bring_up

    before, after = bring_up(database_url(db))
    typer.echo(f"schema {before or 'none'} -> {after}" if before != after else f"schema {after}")


def check(ids: Refs = None, db: Url = None) -> int:
    """Prove that the database is whole: its tables are what its events say; 1 if it is not."""
    from db.check import check as problems_of

    with sql_database(db) as store, _progress("checking") as progress:
        wanted = [store.search(ref).id for ref in ids or ()]
        problems = problems_of(store, wanted, progress)
        known = store.searches()
    for line in problems:
        typer.echo(line)
    if problems:
        return DAMAGED
    checked = [info for info in known if info.id in wanted or not wanted]
    events = sum(info.last_seq for info in checked)
    typer.echo(f"whole: {_searches(len(checked))}, {events:,} events")
    return 0


def vacuum(db: Url = None) -> None:
    """Give free room back and renew the planner's statistics."""
    from db.admin import vacuum as tidy

    with sql_database(db) as store, _progress("vacuum"):
        tidy(store)
    typer.echo("done")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")], db: Url = None
) -> None:
    """Copy an SQLite database into a new file while searches go on."""
    from db.admin import backup as copy

    with sql_database(db) as store, _progress("copying"):
        copy(store, file)
    typer.echo(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")


def export(
    ids: Refs = None,
    out: Annotated[
        Path, typer.Option("--out", help="A new file; .gz compresses it; - is the output.")
    ] = STANDARD,
    db: Url = None,
) -> None:
    """Write searches as JSON lines, which `evosearch db import` reads into any database."""
    from db.transfer import export as write

    with sql_database(db) as store:
        wanted = [store.search(ref).id for ref in ids or ()]
        with _progress("exporting") as progress, _new_file(out) as lines:
            count = write(store, lines, wanted, progress)
    typer.echo(f"exported {_searches(count)} to {out}", err=out == STANDARD)


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export; - is the input.")],
    db: Url = None,
) -> None:
    """Add the searches of an export beside those that are there; ids are kept."""
    from db.transfer import import_searches

    with (
        _lines(file) as lines,
        sql_database(db, create=True) as store,
        _progress("reading") as progress,
    ):
        done = import_searches(store, lines, progress)
    for search_id in done.added:
        typer.echo(f"added {search_id}")
    for search_id in done.same:
        typer.echo(f"{search_id} is there already, event by event")
    if not done.added and not done.same:
        typer.echo("the export holds no search")


def _searches(count: int) -> str:
    return f"{count} search" if count == 1 else f"{count:,} searches"


@contextmanager
def _progress(word: str) -> Iterator[Progress]:
    """Shows on a terminal how far a long task is; elsewhere nothing is printed."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"{word} ...") as status:

        def told(what: str, done: int, of: int) -> None:
            share = f"{done / of:4.0%} of {of:,} events" if of else ""
            status.update(f"{word} {what}: {share}")

        yield told


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A new file that appears whole or not at all; ``-`` is the standard output.

    Raises:
        StoreError: the file exists or cannot be written.
    """
    if path == STANDARD:
        yield sys.stdout
        sys.stdout.flush()
        return
    if path.exists():
        raise StoreError("this file exists", expected="a new file", got=str(path))
    if not path.absolute().parent.is_dir():
        raise StoreError("no folder for the export", got=str(path.parent))
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.open(raw, "wt", encoding="utf-8") as packed:
                    yield packed
            else:
                plain = io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
                yield plain
                plain.detach()  # this flushes, and leaves the file open
            raw.flush()
            os.fsync(raw.fileno())
        partial.rename(path)
    except OSError as err:
        raise StoreError("the export cannot be written", got=str(err), where=str(path)) from err
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _lines(path: Path) -> Iterator[TextIO]:
    """The lines of an export, compressed or not.

    Raises:
        StoreError: the file cannot be read, or is none of text.
    """
    try:
        if path == STANDARD:
            yield sys.stdin
        elif path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as packed:
                yield packed
        else:
            with path.open(encoding="utf-8") as plain:
                yield plain
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as err:
        raise StoreError(
            "this export cannot be read", got=str(err) or "its end is missing", where=str(path),
            hint="the search that was being read was not added",
        ) from err  # fmt: skip
