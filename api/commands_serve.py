"""The commands of the service: serve, controller, settings, tokens, and watching a search.

Heavy rooms are imported when a command runs, never before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.commands_data import use_data_dir
from evosearch.errors import ConfigError

if TYPE_CHECKING:
    from db.tokens import Tokens

File = Annotated[
    Path | None, typer.Option("--config", help="TOML file of settings.", envvar="EVOSEARCH_CONFIG")
]
Database = Annotated[str | None, typer.Option("--db", help="Database URL or SQLite file.")]

token = typer.Typer(help="Tokens that open the service.", no_args_is_help=True,
                    rich_markup_mode=None)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch``."""
    from api.settings_flags import CONTROLLER, flagged

    app.command()(flagged(serve))
    app.command()(flagged(controller, CONTROLLER))
    app.command("settings")(flagged(show_settings))
    app.command("web-process", hidden=True)(web_process)
    app.command("controller-alive", hidden=True)(controller_alive)
    app.add_typer(token, name="token")
    token.command("create")(create_token)
    token.command("list")(list_tokens)
    token.command("revoke")(revoke_token)


def serve(
    flags: dict[str, Any],
    no_controller: Annotated[
        bool, typer.Option("--no-controller", help="Serve only; controllers run elsewhere.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="PRESET", help="Start a search of that preset, or go on "
                     "with it; report at its end, and without a terminal end there."),
    ] = None,
    quickstart: Annotated[
        bool, typer.Option("--quickstart", help="The same as --start quickstart.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of that search; may "
                     "be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of that search.")] = None,
    config: File = None,
) -> int:  # fmt: skip
    """Serve REST, live events and the dashboard, and run searches."""
    from api.serving import serve_all
    from api.settings import load_settings

    settings = load_settings(flags, config)
    use_data_dir(settings.data_dir)
    preset = start or ("quickstart" if quickstart else None)
    if preset is None:
        if overrides or seed is not None:
            raise ConfigError("--set and --seed need a search", hint="add --start PRESET")
        return serve_all(settings, controller=not no_controller)
    from api.serve_search import wanted_config

    wanted = wanted_config(preset, overrides or (), seed)
    # Who starts the server names these files, so they are part of its configuration.
    own = (one.file or one.name for one in wanted.task.plugins)
    named = dict.fromkeys((*settings.plugins, *own))
    settings = settings.model_copy(update={"plugins": tuple(named)})
    return serve_all(settings, controller=not no_controller, config=wanted)


def controller(
    flags: dict[str, Any],
    owner: Annotated[str | None, typer.Option("--owner", hidden=True)] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
    config: File = None,
) -> int:
    """Run the searches of a store; serves nothing."""
    from api.controller_main import end_with_parent, run_controller
    from api.logs import set_up
    from api.settings import export, load_settings

    settings = load_settings(flags, config)
    use_data_dir(settings.data_dir)
    set_up(settings.log_format, settings.log_level)
    export(settings)
    if supervised:
        end_with_parent()
    return run_controller(settings, owner)


def controller_alive(db: Database = None, config: File = None) -> int:
    """Exit code 0 if a controller of this host was seen a moment ago; for health checks."""
    import socket

    from api.settings import load_settings
    from db.controllers import Controllers
    from db.sql_store import SqlStore

    store = SqlStore(load_settings({"db": db}, config).db)
    try:
        alive = [one for one in Controllers(store).list() if one.alive]
    finally:
        store.close()
    return 0 if any(one.host == socket.gethostname() for one in alive) else 1


def web_process(descriptor: int) -> int:
    """The web process alone, on an inherited socket; `evosearch serve` starts it."""
    import socket

    from api.controller_main import end_with_parent
    from api.logs import set_up
    from api.settings import load_settings
    from api.web import serve_web

    settings = load_settings()
    set_up(settings.log_format, settings.log_level)
    end_with_parent()
    return serve_web(settings, socket.socket(fileno=descriptor))


def show_settings(flags: dict[str, Any], config: File = None) -> None:
    """List all settings: value, where it comes from, what it does."""
    from rich.console import Console
    from rich.text import Text

    from api.settings import origins
    from api.tables import table

    made = table("settings: flags win over EVOSEARCH_* variables, those over the file")
    for name in ("setting", "value", "from", "what it does"):
        made.add_column(name, overflow="fold")
    for one in origins(flags, config):
        made.add_row(one.name, Text(one.value), Text(one.origin), Text(one.help))
    Console().print(made)


def create_token(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for.")],
    scope: Annotated[str, typer.Option("--scope", help="read or write.")] = "read",
    db: Database = None,
) -> None:
    """Make a token; it is shown this once."""
    with _tokens(db, create=True) as tokens:
        made, text = tokens.create(name, scope)
    typer.echo(text)
    typer.echo(f"token {made.id} ({made.scope}); it cannot be shown again", err=True)


def list_tokens(db: Database = None) -> None:
    """List tokens, never their secrets."""
    with _tokens(db) as tokens:
        listed = tokens.list()
    for one in listed:
        state = "revoked" if one.revoked_at else one.scope
        typer.echo(f"{one.id}  {state:8}  {one.created_at:%Y-%m-%d %H:%M}  {one.name}")


def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As listed.")], db: Database = None
) -> None:
    """Make a token worthless, within seconds."""
    with _tokens(db) as tokens:
        tokens.revoke(token_id)
    typer.echo(f"token {token_id} is revoked")


@contextmanager
def _tokens(db: str | None, *, create: bool = False) -> Iterator[Tokens]:
    from api.wiring import sql_database
    from db.tokens import Tokens

    with sql_database(db, create=create) as store:
        yield Tokens(store)
