"""What `evosearch serve` does: checks what could be wrong, starts the processes, looks after them.

With a search of its own it also says how that goes, prints the report at its end, and without a
terminal ends there.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from api.lease import owner_name
from api.logs import set_up
from api.report_text import say
from api.serve_search import Shown, find_or_create
from api.settings import ServiceSettings, as_variables, export
from api.supervisor import Child, Supervisor, python_command
from api.web import address_of, bind
from db.sql_store import SqlStore
from db.tokens import Tokens
from evosearch.config import SearchConfig
from evosearch.errors import ConfigError, WorkerError

HOPELESS_DEATHS = 4
"""Deaths of a process without any event between them, after which a search without a terminal is
given up."""


def serve_all(
    settings: ServiceSettings, *, controller: bool, config: SearchConfig | None = None
) -> int:
    """Serve until a signal; with ``config`` and no terminal until that search has ended.

    Raises:
        EvosearchError: an address, a database or a setting is wrong; nothing was started.
    """
    if config is not None and "log_level" not in settings.model_fields_set:
        # The picture of the search is enough to read.
        settings = settings.model_copy(update={"log_level": "warning"})
    set_up(settings.log_format, settings.log_level)
    export(settings)
    console = Console()
    store = SqlStore(settings.db)  # makes or refuses the database before anything starts
    try:
        refuse_open_address(settings, Tokens(store))
        settings, bound = bind_somewhere(settings, config is not None)
        supervisor = Supervisor(_children(settings, bound.fileno(), controller))
        supervisor.catch()
        try:
            supervisor.start()  # before the search, which waits for the processes anyway
            search_id = None if config is None else find_or_create(store, config, console)
            say(console, f"evosearch serves at {address_of(settings, bound)}")
            return _look_after(supervisor, store, search_id, console)
        finally:
            supervisor.close()
            bound.close()
    finally:
        store.close()


def bind_somewhere(
    settings: ServiceSettings, anywhere: bool
) -> tuple[ServiceSettings, socket.socket]:
    """A socket at the settings' port; if ``anywhere`` and nobody chose that port, at a free one.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    if anywhere and "port" not in settings.model_fields_set:
        with suppress(ConfigError):
            return settings, bind(settings)
        settings = settings.model_copy(update={"port": 0})
    return settings, bind(settings)


def refuse_open_address(settings: ServiceSettings, tokens: Tokens) -> None:
    """An address that others can reach is served only with a token.

    Raises:
        ConfigError: there is none, or asking for one is switched off.
    """
    if settings.loopback:
        return
    if not settings.needs_token:
        raise ConfigError(
            "an address that others can reach needs a token", got=settings.host,
            hint="leave require_token unset, or listen on 127.0.0.1 behind a tunnel",
        )  # fmt: skip
    if settings.static_token() is None and not tokens.any():
        raise ConfigError(
            "an address that others can reach needs a token", got=settings.host,
            hint="make one: evosearch token create NAME --scope write",
        )  # fmt: skip


def _children(settings: ServiceSettings, descriptor: int, controller: bool) -> list[Child]:
    """The processes; settings go to them as variables, so that all read the same."""
    env = {**os.environ, **as_variables(settings)}
    root = str(Path(__file__).resolve().parents[1])
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    web = Child("web", python_command("web-process", str(descriptor)), env, (descriptor,))
    if not controller:
        return [web]
    words = ("controller", "--supervised", "--owner", owner_name())
    return [web, Child("controller", python_command(*words), env)]


def _look_after(
    supervisor: Supervisor, store: SqlStore, search_id: str | None, console: Console
) -> int:
    if search_id is not None:
        code = _attend(supervisor, Shown(store, search_id, console), console)
        if code is not None and not console.is_terminal:
            return code
        if code is not None:
            say(console, "still serving; Ctrl-C ends it")
    while not supervisor.ending.is_set():
        supervisor.watch()
    return 0 if supervisor.caught is None else 128 + supervisor.caught


def _attend(supervisor: Supervisor, shown: Shown, console: Console) -> int | None:
    """Show the search to its end; None if a signal came before.

    Raises:
        WorkerError: a process dies again and again, and nobody sits at a terminal to help.
    """
    seen, before = shown.seq, [child.ends for child in supervisor.children]
    with shown:
        while not supervisor.ending.is_set() and not shown.over:
            supervisor.watch()
            shown.look()
            if shown.seq > seen or console.is_terminal:
                seen, before = shown.seq, [child.ends for child in supervisor.children]
            for child, ends in zip(supervisor.children, before, strict=True):
                if child.ends - ends >= HOPELESS_DEATHS:
                    raise WorkerError(
                        f"the {child.name} process does not stay alive",
                        got=f"{child.ends - ends} deaths without an event between them",
                        hint="its own lines say why",
                    )  # fmt: skip
    if shown.over:
        return shown.close()
    say(console, f"search {shown.search_id} keeps everything; the same command goes on with it")
    return None
