"""The commands that give a search more, or other limits."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands_search import Database, SearchRef, after, shown_url
from api.wiring import open_database
from evosearch.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch search``."""
    for command in (extend, budget):
        app.command()(command)


def extend(
    ref: SearchRef,
    evaluations: Annotated[
        int, typer.Argument(metavar="[N]", min=0, help="Further evaluations.", show_default=False)
    ] = 0,
    hours: Annotated[
        float | None, typer.Option("--hours", help="Further hours, on top of its limit.")
    ] = None,
    gpu_hours: Annotated[
        float | None, typer.Option("--gpu-hours", help="Further GPU-hours, likewise.")
    ] = None,
    train_steps: Annotated[
        int | None, typer.Option("--train-steps", help="Further training steps, likewise.")
    ] = None,
    enqueued: Annotated[
        list[str] | None,
        typer.Option("--enqueue", metavar="FORMULA", help="Evaluated first; may be repeated."),
    ] = None,
    db: Database = None,
) -> None:
    """Go on for N further evaluations; of an ended search a copy does, from before its end."""
    from api.extending import extended
    from evosearch.ports import Enqueue
    from primitives.named import layer_graph

    graphs = [layer_graph(one) for one in enqueued or ()]
    further = {"hours": hours, "gpu_hours": gpu_hours, "train_steps": train_steps}
    store = open_database(db)
    try:
        info = store.search(ref)
        target = extended(store, info.id, evaluations, further)
        for graph in graphs:
            store.send(target, Enqueue(graph=graph))
        if target == info.id:
            told = [f"{evaluations} further evaluations"] if evaluations else []
            told += [f"{more:g} further {name.replace('_', ' ')}"
                     for name, more in further.items() if more is not None]  # fmt: skip
            typer.echo(f"search {info.id}: {after(store, info.id, ', '.join(told))}")
        else:
            typer.echo(
                f"search {info.id} is {info.status} and stays as it is; search {target} goes on "
                f"from before its confirmation: evosearch search resume {target}"
                + (f" --db {shown_url(db)}" if db else "")
            )
    finally:
        store.close()


def budget(
    ref: SearchRef,
    evaluations: Annotated[
        int | None, typer.Option("--evaluations", min=1, help="Evaluations in all.")
    ] = None,
    train_steps: Annotated[
        str | None, typer.Option("--train-steps", metavar="N", help="Training steps in all.")
    ] = None,
    hours: Annotated[str | None, typer.Option("--hours", metavar="H", help="Hours in all.")] = None,
    gpu_hours: Annotated[
        str | None, typer.Option("--gpu-hours", metavar="H", help="GPU-hours in all.")
    ] = None,
    no_gain: Annotated[
        str | None,
        typer.Option("--no-gain", metavar="N", help="Evaluations without a confirmed gain."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="SCORE", help="Score that is enough.")
    ] = None,
    db: Database = None,
) -> None:
    """Change the limits of an unfinished search, each in all; ``none`` clears one."""
    from api.extending import set_budget

    limits: dict[str, float | None] = {} if evaluations is None else {"evaluations": evaluations}
    texts = {"train_steps": train_steps, "hours": hours, "gpu_hours": gpu_hours,
             "no_gain": no_gain, "target": target}  # fmt: skip
    for name, text in texts.items():
        if text is not None:
            limits[name] = None if text == "none" else _number(name, text)
    store = open_database(db)
    try:
        info = store.search(ref)
        set_budget(store, info.id, limits)
        told = ", ".join(f"{name.replace('_', ' ')} {'none' if limit is None else f'{limit:g}'}"
                         for name, limit in limits.items())  # fmt: skip
        typer.echo(f"search {info.id}: {after(store, info.id, told)}")
    finally:
        store.close()


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as err:
        option = name.replace("_", "-")
        raise ConfigError(
            f"--{option} is no number", expected="a number, or none", got=text[:40]
        ) from err
