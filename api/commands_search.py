"""The commands that run a search or steer a running one.

They check everything that can be wrong before anything is written. Heavy rooms are imported when
a command runs, never before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.commands_data import DataDir, use_data_dir
from api.wiring import PATIENCE, PoolName, database_url, make_pool, new_id, open_database
from evosearch.errors import ConfigError, StateConflict

if TYPE_CHECKING:
    from api.code_change import Assent
    from evosearch.config import SearchConfig
    from evosearch.ports import Command, SearchInfo, Store
    from evosearch.ports import Pool as WorkerPool

Database = Annotated[
    str | None,
    typer.Option("--db", help="Database URL; default: EVOSEARCH_DB, else evosearch.db here."),
]
SearchRef = Annotated[
    str, typer.Argument(metavar="ID", help="A search's id, or its first letters.")
]
Pool = Annotated[PoolName, typer.Option("--pool", help="Where candidates are trained.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Ray workers; default: one for each CPU.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="An existing Ray cluster, host:port.")
]
HangSeconds = Annotated[
    float | None,
    typer.Option("--hang-seconds", min=1.0, help="How long a job may stand still, without a "
                 "training step, before its worker is replaced; default: 600."),
]  # fmt: skip
Out = Annotated[
    Path | None, typer.Option("--out", help="File for the leader; default: leader-ID.py.")
]

AcceptChangedCode = Annotated[
    bool,
    typer.Option("--accept-changed-code", help="Go on though the code of plug-ins has changed; "
                 "recorded and reported."),
]  # fmt: skip
PluginPath = Annotated[
    Path | None,
    typer.Option("--plugin-path", help="Folder of your own package that plug-ins import."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch search``."""
    for command in (start, resume, enqueue, pause, stop):
        app.command()(command)


def start(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset, or a .toml file.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the search.")] = None,
    db: Database = None,
    pool: Pool = "ray",
    workers: Workers = None,
    new: Annotated[
        bool, typer.Option("--new", help="Start anew even if the same search is unfinished.")
    ] = False,
    warm: Annotated[
        str | None,
        typer.Option("--warm-start", metavar="ID", help="Begin with the front of that search."),
    ] = None,
    out: Out = None,
    plugins: Annotated[
        list[str] | None,
        typer.Option("--plugin", help="A file or entry point of yours; may be repeated."),
    ] = None,
    plugin_path: PluginPath = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what it takes; store none.")
    ] = False,
    ray_address: RayAddress = None,
    hang_seconds: HangSeconds = None,
    data_dir: DataDir = None,
    accept: AcceptChangedCode = False,
) -> int:
    """Start a search; the same command goes on with an unfinished one of the same config."""
    from api.own_config import complete, file_config
    from api.wiring import check_names, refuse_unrepeatable
    from evosearch.presets import repeatable

    use_data_dir(data_dir)
    _check_run(pool, workers, out, ray_address)
    config = file_config(preset, settings or (), seed, plugins or (), plugin_path)
    if pool == "inline":
        config = repeatable(config, preset, settings or ())

    config = complete(config)
    check_names(config)
    refuse_unrepeatable(config, pool)
    if dry_run:
        return tell_plan(config)
    from api.code_change import unfinished
    from api.wiring import front_layers, versions
    from evosearch.events import Created
    from evosearch.plan_notes import plan_notes

    store = open_database(db, create=True, patience=PATIENCE)
    try:
        layers = [] if warm is None else front_layers(store, warm)
        known = None if new else unfinished(store, config, _assent(accept))
        if known is None:
            title = f"{config.preset}, seed {config.seed}"
            info = store.create(new_id(), title, Created(config=config, versions=versions()))
            for layer in layers:
                store.send(info.id, layer)
            for note in plan_notes(config):
                typer.echo(f"note: {note}", err=True)
            if layers:
                typer.echo(f"begins with the {len(layers)} layers of the front of {warm}")
        else:
            info = known
        word = "new search" if known is None else "going on with search"
        make = partial(make_pool, pool, workers, ray_address, hang_seconds)
        return _run(store, info, word, db, pool, make, out)
    finally:
        store.close()


def resume(
    ref: SearchRef,
    db: Database = None,
    pool: Pool = "ray",
    workers: Workers = None,
    out: Out = None,
    ray_address: RayAddress = None,
    hang_seconds: HangSeconds = None,
    data_dir: DataDir = None,
    accept: AcceptChangedCode = False,
) -> int:
    """Go on with a paused or interrupted search."""
    use_data_dir(data_dir)
    _check_run(pool, workers, out, ray_address)
    store = open_database(db, patience=PATIENCE)
    try:
        info = store.search(ref)
        if info.status not in ("running", "paused"):
            raise StateConflict(
                f"search {info.id} is {info.status} and cannot go on",
                hint=f"see: evosearch search report {info.id}",
            )
        from api.code_change import resumed

        info = resumed(store, info, _assent(accept))
        make = partial(make_pool, pool, workers, ray_address, hang_seconds)
        return _run(store, info, "going on with search", db, pool, make, out)
    finally:
        store.close()


def _assent(given: bool) -> Assent:
    """At a terminal the question is put; elsewhere the option alone says yes."""
    from api.code_change import Assent

    there = sys.stdin.isatty() and sys.stdout.isatty()
    return Assent(given, "--accept-changed-code", typer.confirm if there else None)


def enqueue(
    ref: SearchRef,
    formula: Annotated[str, typer.Argument(metavar="FORMULA", help="The layer to evaluate.")],
    note: Annotated[str, typer.Option("--note", help="Why; kept with the candidate.")] = "",
    db: Database = None,
) -> None:
    """Have a layer of yours evaluated before the next proposal."""
    from evosearch.ports import Enqueue
    from primitives.named import layer_graph

    graph = layer_graph(formula)
    _send(ref, Enqueue(graph=graph, note=note), "the layer comes next", db)


def tell_plan(config: SearchConfig) -> int:
    """Print what the search would do and take; nothing is stored."""
    from api.estimate import confirmation_steps, search_steps
    from evosearch.plan_notes import plan_notes
    from evosearch.space_share import space_stages

    for anchor in config.task.anchors:
        goal = anchor.objective
        typer.echo(
            f"anchor {anchor.name}: {anchor.size}, {goal.label}; the hypervolume counts from "
            f"{goal.text(anchor.reference)}"
        )
    anchors = config.anchor_names
    for name, (goal, reference) in config.coordinates.items():
        if name not in anchors:
            typer.echo(
                f"and {name}: {goal.label}; the hypervolume counts from {goal.text(reference)}"
            )
    for plugin in config.task.plugins:
        typer.echo(f"plug-in {plugin.name}: sha256 {plugin.sha256[:12]}, {plugin.file}")
    typer.echo(f"baselines: {', '.join(config.baselines)}")
    steps = search_steps(config) + confirmation_steps(config)
    hours = config.budget.hours
    typer.echo(
        f"{config.budget.evaluations} evaluations, {steps:,} training steps with the confirmation; "
        "what checks take comes on top"
        + ("" if hours is None else f"; the search phase ends after {hours:g} hours at the latest")
    )
    stages = space_stages(config)
    for stage in stages:
        bound = "" if stage.below is None else f"; below {100 * stage.below:.2g} % (95 %)"
        typer.echo(f"of {stage.came:,} random graphs {stage.passed:,} pass: {stage.name}{bound}")
    notes = plan_notes(config)
    for note in notes:
        typer.echo(f"note: {note}")
    if not stages[-1].passed:  # the last of those that count one after the other
        typer.echo("dry run: this search would hardly find a layer; nothing was stored")
    else:
        word = "but for the notes " if notes else ""
        typer.echo(f"dry run: {word}everything is in order, and nothing was stored")
    return 0


def pause(ref: SearchRef, db: Database = None) -> None:
    """Pause a search; it keeps everything."""
    from evosearch.ports import Pause

    _send(ref, Pause(), "it pauses after the training at hand", db)


def stop(ref: SearchRef, db: Database = None) -> None:
    """End a search for good, without its confirmation."""
    from evosearch.ports import Stop

    _send(ref, Stop(), "it stops after the training at hand", db)


def after(store: Store, search_id: str, done: str) -> str:
    """What a command has come to: whoever runs the search acts on it, or it is done at once."""
    from api.runner import act_on_commands

    status = act_on_commands(store, search_id)
    return done if status is None else f"done; no process runs it, it is {status}"


def _send(ref: str, command: Command, done: str, db: str | None) -> None:
    """Leave the command for whoever runs the search; if nobody does, it takes effect at once."""
    store = open_database(db)
    try:
        info = store.search(ref)
        if info.status not in ("running", "paused"):
            raise StateConflict(
                f"search {info.id} is {info.status} and takes no commands",
                hint="start another one: evosearch search start",
            )
        _refuse_late(store, info.id, command)
        store.send(info.id, command)
        typer.echo(f"search {info.id}: {after(store, info.id, done)}")
    finally:
        store.close()


def _refuse_late(store: Store, search_id: str, command: Command) -> None:
    """A command that the search's phase does not obey any more is not sent."""
    from db.queries_rest import RestQueries
    from db.sql_store import SqlStore
    from evosearch.steering import refusal

    stands = RestQueries(store).stands(search_id) if isinstance(store, SqlStore) else None
    why = None if stands is None else refusal(command, stands[1])
    if why is not None:
        raise StateConflict(why)


def _check_run(pool: PoolName, workers: int | None, out: Path | None, address: str | None) -> None:
    """Refuse what would only fail after a long search."""
    if pool == "inline" and address is not None:
        raise ConfigError(
            "the inline pool knows no cluster", got=f"--ray-address {address}",
            hint="use --pool ray",
        )  # fmt: skip
    if pool == "inline" and workers not in (None, 1):
        raise ConfigError(
            "the inline pool has one worker", got=f"--workers {workers}", hint="use --pool ray"
        )
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise ConfigError(
            "the leader cannot be written there", expected="a file in a folder that exists",
            got=f"--out {out}",
        )  # fmt: skip


def _run(
    store: Store,
    info: SearchInfo,
    word: str,
    db: str | None,
    pool: PoolName,
    make: Callable[[], WorkerPool],
    out: Path | None,
) -> int:
    from rich.console import Console

    from api.report_text import say
    from api.runner import carry_on

    console = Console()
    say(console, f"{word} {info.id} ({info.title}) in {shown_url(db)}, pool {pool}")
    again = f"evosearch search resume {info.id}" + (f" --db {shown_url(db)}" if db else "")
    again += "" if pool == "ray" else f" --pool {pool}"
    return carry_on(
        store, info.id, make, console,
        again=f"the same command, or {again}", out=out,
    )  # fmt: skip


def shown_url(given: str | None) -> str:
    """The database's URL without a password."""
    url = database_url(given)
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if not at or ":" not in user:
        return url
    return f"{scheme}{separator}{user.partition(':')[0]}:***@{place}"
