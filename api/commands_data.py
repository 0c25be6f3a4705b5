"""The commands about data sets: list them, fetch one.

Heavy rooms are imported when a command runs, never before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from evosearch.errors import ConfigError
from workers.data_dir import DATA_DIR_VARIABLE

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help=f"Folder of data files; default: {DATA_DIR_VARIABLE}."),
]


def register(app: typer.Typer) -> None:
    """Add the group ``data`` to ``evosearch``."""
    data = typer.Typer(
        help="List data sets, fetch one.", no_args_is_help=True, rich_markup_mode=None
    )
    data.command("list")(list_data)
    data.command("fetch")(fetch_data)
    app.add_typer(data, name="data")


def use_data_dir(folder: Path | None) -> None:
    """Make this process and the workers it starts look for data there.

    Raises:
        ConfigError: it is no folder.
    """
    if folder is None:
        return
    if not folder.is_dir():
        raise ConfigError("no such data folder", got=str(folder), hint="make it, or fetch into it")
    os.environ[DATA_DIR_VARIABLE] = str(folder.resolve())


def list_data(data_dir: DataDir = None) -> None:
    """List the data sets, and which of them are at hand."""
    from evosearch.errors import EvosearchError
    from workers.datasets import DATASETS, load

    use_data_dir(data_dir)
    for name in DATASETS.names():
        try:
            data = load(name)
        except EvosearchError as err:
            typer.echo(f"{name:18} missing: {err}")
            continue
        shape = "x".join(str(size) for size in data.train.x.shape[1:])
        typer.echo(
            f"{name:18} {data.num_classes} classes, {data.kind} {shape}, train {len(data.train)}, "
            f"select {len(data.select)}, final {len(data.final)}"
        )
    typer.echo(
        "your own: task.dataset=FILE.npz (x_train, y_train, ...) or task.dataset=folder:NAME"
    )


def fetch_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set; see `data list`.")],
    data_dir: DataDir = None,
) -> None:
    """Download a data set from its official address into the data folder."""
    from rich.console import Console

    from workers.fetch import fetch

    folder = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if folder is None:
        raise ConfigError(
            "where to?", expected=f"--data-dir DIR, or {DATA_DIR_VARIABLE}", got="neither"
        )
    root = Path(folder).resolve()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError("cannot make the data folder", got=str(err)) from err
    with Console(stderr=True).status(f"fetching {name} ...") as status:

        def progress(file: str, done: int, total: int | None) -> None:
            share = f" of {total / 1e6:.1f}" if total else ""
            status.update(f"{file}: {done / 1e6:.1f}{share} MB")

        made = fetch(name, root, progress)
    for path in made:
        typer.echo(path)
