"""The commands that only read: lists, configs, fronts and reports of searches."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands_search import Database, SearchRef
from api.wiring import load_state, open_database


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch search``."""
    app.command("list")(list_searches)
    for command in (show, front, report, diff):
        app.command()(command)


def list_searches(db: Database = None) -> None:
    """List all searches, the newest first."""
    from rich.console import Console

    from api.tables import searches_table

    store = open_database(db)
    try:
        infos = store.searches()
    finally:
        store.close()
    if not infos:
        typer.echo("no searches yet; start one: evosearch search start quickstart")
        return
    Console().print(searches_table(infos))


def show(
    ref: SearchRef,
    config: Annotated[
        bool, typer.Option("--config", help="Print the TOML that reproduces the search.")
    ] = False,
    db: Database = None,
) -> None:
    """Show where a search stands."""
    from rich.console import Console

    from api.live import PHASES
    from api.progress import funnel, wanted
    from api.report_text import audit_line, print_front, say
    from api.tables import funnel_table

    store = open_database(db)
    try:
        info = store.search(ref)
        if config:
            from evosearch.presets import to_toml

            typer.echo(to_toml(info.config))
            return
        state = load_state(store, info.id)
    finally:
        store.close()
    console = Console()
    say(console, f"search {info.id} ({info.title})", "bold")
    say(
        console,
        f"{info.status}, {PHASES.get(state.phase, state.phase)}; {state.evaluated} of "
        f"{wanted(state)} evaluated, {state.next_birth:,} proposals, "
        f"{len(state.pending)} jobs wait",
    )
    say(console, f"started {info.created_at:%Y-%m-%d %H:%M}, changed {info.updated_at:%H:%M} UTC")
    console.print(funnel_table(funnel(state)))
    say(console, audit_line(state))
    print_front(console, state)


def front(ref: SearchRef, db: Database = None) -> None:
    """Print the Pareto front beside the baselines of the same run."""
    from rich.console import Console

    from api.report_text import print_front

    store = open_database(db)
    try:
        state = load_state(store, store.search(ref).id)
    finally:
        store.close()
    print_front(Console(), state)


def report(ref: SearchRef, db: Database = None) -> None:
    """Print the final report, or where the search stands before its end."""
    from rich.console import Console

    from api.report_text import print_report

    store = open_database(db)
    try:
        state = load_state(store, store.search(ref).id)
    finally:
        store.close()
    print_report(Console(), state)


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A search, or a .toml file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    db: Database = None,
) -> None:
    """Say in which settings two searches differ, and in what came of them."""
    from api.config_diff import differences

    for line in differences(first, second, db):
        typer.echo(line)
