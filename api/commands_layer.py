"""The commands about single layers: look at one, train one, take one home, list the known ones.

They need no database, but for the export of a candidate. Heavy rooms are imported when a command
runs, never before.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.commands_data import DataDir, use_data_dir
from api.commands_search import Database, HangSeconds, Pool, RayAddress, Workers
from api.export import Format
from evosearch.errors import ConfigError
from primitives.named import layer_graph

if TYPE_CHECKING:
    from primitives.graph import Graph

Formula = Annotated[
    str, typer.Argument(metavar="FORMULA", help="A layer's formula, or a name of the catalog.")
]
Preset = Annotated[str, typer.Option("--preset", help="Whose task is used.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch``."""
    app.command()(export)
    app.command()(layer)
    app.command("eval")(evaluate)
    app.command()(catalog)


def export(
    candidate: Annotated[
        str | None,
        typer.Argument(metavar="[CANDIDATE]", help="SEARCH-BIRTH, or SEARCH for its leader."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What is written.")] = "python",
    formula: Annotated[
        str | None, typer.Option("--formula", help="A formula or catalog name instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File; default: the terminal.")] = None,
    channels: Annotated[
        int, typer.Option("--channels", min=1, help="Channels of torch-export and onnx programs.")
    ] = 64,
    db: Database = None,
) -> None:
    """Take a layer home: code, formula, pictures, saved programs, or a bundle of all of them."""
    from api.export import BINARY, artefact, write_bytes

    if (candidate is None) == (formula is None):
        raise ConfigError(
            "which layer?", expected="a candidate or --formula, one of them",
            got="neither" if formula is None else "both",
        )  # fmt: skip
    about: dict[str, object] = {}
    notes: list[str] = []
    if formula is not None:
        graph = layer_graph(formula)
    else:
        graph, about, notes = _candidate(str(candidate), db)
    if form in BINARY and out is None:
        raise ConfigError(f"{form} is no text", expected="a file: --out FILE", got="the terminal")
    data = artefact(graph, form, notes=notes, channels=channels, about=about)
    if out is None:
        typer.echo(data.decode(), nl=False)
        return
    write_bytes(out, data)
    typer.echo(f"written: {out}")


def layer(
    formula: Formula,
    preset: Preset = "quickstart",
    settings: Settings = None,
    data_dir: DataDir = None,
) -> None:
    """Say what a layer is, and which cheap check would reject it."""
    from evosearch.presets import load_preset

    use_data_dir(data_dir)
    config = load_preset(preset, settings or ())
    graph = layer_graph(formula)
    from rich.console import Console

    from api.inspect_layer import cheap_checks, facts, measured
    from api.report_text import say
    from api.wiring import check_names

    check_names(config)
    console = Console()
    for name, value in (facts(graph) | measured(graph)).items():
        say(console, f"{name:20} {value}")
    rejected = False
    for check, verdict in cheap_checks(graph, config):
        rejected = rejected or verdict.startswith("rejects")
        say(console, f"{check:20} {verdict}", "bold red" if verdict.startswith("rejects") else "")
    say(console, "rejected" if rejected else "no cheap check rejects it", "bold")


def evaluate(
    formula: Formula,
    preset: Preset = "quickstart",
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Seeds a layer.")] = 3,
    settings: Settings = None,
    pool: Pool = "ray",
    workers: Workers = None,
    ray_address: RayAddress = None,
    hang_seconds: HangSeconds = None,
    data_dir: DataDir = None,
) -> None:
    """Train a layer beside the known ones on every anchor, and print the scores."""
    from evosearch.presets import load_preset

    use_data_dir(data_dir)
    config = load_preset(preset, settings or ())
    graph = layer_graph(formula)
    from rich.console import Console

    from api.compare import compare
    from api.wiring import check_names, make_pool

    check_names(config)
    make = partial(make_pool, pool, workers, ray_address, hang_seconds)
    compare(graph, config, seeds, make, Console())


def catalog() -> None:
    """List the known layers with formula and source."""
    from rich.console import Console
    from rich.text import Text

    from api.tables import table
    from primitives.catalog import CATALOG

    made = table()
    made.add_column("name", no_wrap=True)
    made.add_column("formula", overflow="fold", ratio=1)
    made.add_column("source", overflow="fold", ratio=1)
    for name, entry in CATALOG.items():
        made.add_row(name, Text(entry.formula), Text(entry.citation))
    Console().print(made)


def _candidate(ref: str, db: str | None) -> tuple[Graph, dict[str, object], list[str]]:
    """A candidate's graph, what its search knows of it, and that in lines."""
    from api.export import about_member, notes
    from api.wiring import candidate_graph, load_state, open_database

    store = open_database(db)
    try:
        search_id, birth, graph = candidate_graph(store, ref)
        state = load_state(store, search_id)
    finally:
        store.close()
    known = about_member(state, search_id, birth)
    return graph, known, notes(known, state.config)
