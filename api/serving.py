"""What `evosearch serve` does: checks what could be wrong, starts the processes, looks after them.

With ``quickstart`` it also starts a search, says how it goes, and prints the report at its end.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from api.lease import owner_name
from api.logs import set_up
from api.settings import ServiceSettings
from api.supervisor import Child, Supervisor, python_command
from api.web import address_of, bind
from api.wiring import new_id, unfinished_twin, versions
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from db.tokens import Tokens
from evosearch.errors import ConfigError, EvosearchError

log = logging.getLogger("evosearch.serve")
SAID_SECONDS = 15.0


def serve_all(settings: ServiceSettings, *, controller: bool, quickstart: bool) -> int:
    """Serve until a signal, or with ``quickstart`` and no terminal until the search has ended.

    Raises:
        EvosearchError: an address, a database or a setting is wrong; nothing was started.
    """
    set_up(settings.log_format, settings.log_level)
    store = SqlStore(settings.db)  # makes or refuses the database before anything starts
    try:
        refuse_open_address(settings, Tokens(store))
        bound = bind(settings)
        supervisor = Supervisor(_children(settings, bound.fileno(), controller))
        supervisor.catch()
        search_id = start_quickstart(store) if quickstart else None
        supervisor.start()
        address = address_of(settings, bound)
        print(f"evosearch serves at {address}", flush=True)
        try:
            code = _look_after(supervisor, store, search_id)
        finally:
            supervisor.close()
            bound.close()
    finally:
        store.close()
    return code


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


def start_quickstart(store: SqlStore) -> str:
    """The unfinished quickstart search, resumed, or a new one."""
    from evosearch.events import Created
    from evosearch.ports import Resume
    from evosearch.presets import load_preset

    config = load_preset("quickstart")
    known = unfinished_twin(store, config)
    if known is not None:
        if known.status == "paused":
            store.send(known.id, Resume())
        print(f"going on with search {known.id} ({known.title})", flush=True)
        return known.id
    created = Created(config=config, versions=versions())
    found = ServiceWrites(store).create(new_id(), "quickstart, seed 0", created, Notes())
    print(f"new search {found} (quickstart)", flush=True)
    return found


def _children(settings: ServiceSettings, descriptor: int, controller: bool) -> list[Child]:
    """The processes; settings go to them as variables, so that all read the same."""
    env = {**os.environ, **as_variables(settings)}
    root = str(Path(__file__).resolve().parents[1])
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    web = Child("web", python_command("web-process", str(descriptor)), env, (descriptor,))
    if not controller:
        return [web]
    words = ("controller", "--supervised", "--owner", owner_name())
    # The nice value leaves the page quick while all cores train.
    return [web, Child("controller", python_command(*words), env)]


def as_variables(settings: ServiceSettings) -> dict[str, str]:
    """The settings as ``EVOSEARCH_*`` variables that say the same."""
    found = {}
    for name, value in settings:
        if value is not None:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            found[f"EVOSEARCH_{name.upper()}"] = text
    return found


def _look_after(supervisor: Supervisor, store: SqlStore, search_id: str | None) -> int:
    said = time.monotonic()
    while not supervisor.ending.is_set():
        supervisor.watch()
        if search_id is None or time.monotonic() - said < 1.0:
            continue
        try:
            info = store.search(search_id)
        except EvosearchError as err:
            log.warning("%s", err)
            search_id = None
            continue
        if info.status in ("finished", "stopped", "failed"):
            report(store, search_id)
            if not sys.stdout.isatty():
                return 0
            print("still serving; Ctrl-C ends it", flush=True)
            search_id = None
        elif time.monotonic() - said > SAID_SECONDS:
            said = time.monotonic()
            budget = info.config.budget.evaluations
            print(f"{info.evaluated} of {budget} evaluated, {info.status}", flush=True)
    return 0 if supervisor.caught is None else 128 + supervisor.caught


def report(store: SqlStore, search_id: str) -> None:
    """Print the final report, and write the leader as a module."""
    from rich.console import Console

    from api.report_text import print_report
    from api.wiring import load_state

    console = Console()
    state = load_state(store, search_id)
    print_report(console, state)
    found = (state.report or {}).get("leader")
    if found is not None:
        from api.export import checked_source, write_file
        from primitives.graph import Graph

        graph = Graph.from_json(found["graph"])
        path = Path(f"leader-{search_id}.py")
        write_file(path, checked_source(graph, [f"Search: {search_id}, {found['birth']}"]))
        print(f"the leader as a PyTorch module: {path}", flush=True)
