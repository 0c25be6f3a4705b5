"""The commands about users' own code: check an anchor, list anchors, write a skeleton.

Heavy rooms are imported when a command runs, never before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from api.commands_data import DataDir, use_data_dir
from api.commands_search import PluginPath
from evosearch.errors import ConfigError

MARKS = {True: "ok", False: "FAIL", None: "-"}


def register(app: typer.Typer) -> None:
    """Add the group ``anchor`` and the command ``new`` to ``evosearch``."""
    anchor = typer.Typer(
        help="List anchor networks, check one of yours.", no_args_is_help=True,
        rich_markup_mode=None,
    )  # fmt: skip
    anchor.command("list")(list_anchors)
    anchor.command("check")(check)
    app.add_typer(anchor, name="anchor")
    app.command("new")(new)


def list_anchors() -> None:
    """List the anchor networks, built in and of your plug-ins."""
    from evosearch.plugins import load, registered_sources
    from workers.anchors import ANCHORS

    for source in registered_sources():
        load(source)
    for name in ANCHORS.names():
        network = ANCHORS.get(name)
        what = network.own.where if network.own is not None else "built in"
        forbids = f", forbids {' and '.join(sorted(network.forbids))}" if network.forbids else ""
        typer.echo(f"{name:18} {', '.join(network.slots)}{forbids} ({what})")


def check(
    anchor: Annotated[
        str, typer.Argument(metavar="ANCHOR", help="FILE.py:NAME, FILE.py, or an anchor's name.")
    ],
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=50, help="Seeds a baseline.")] = 3,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Training steps; default: 100.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1.0, help="Time limit of the whole check.")
    ] = 600.0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    plugin_path: PluginPath = None,
    data_dir: DataDir = None,
) -> None:
    """Look into an anchor of yours before a search: where layers go, cost, repeats, leaks."""
    from api.anchor_check import check_anchor, refuse_failed
    from evosearch.presets import parse_override

    use_data_dir(data_dir)
    found = check_anchor(
        anchor, seeds=seeds, steps=steps, seconds=seconds, device=device,
        plugin_path=plugin_path, settings=dict(parse_override(one) for one in settings or ()),
        told=_tell,
    )  # fmt: skip
    refuse_failed(found, anchor)
    typer.echo("it can be searched for")


def _tell(finding: dict[str, Any]) -> None:
    typer.echo(f"{MARKS[finding['ok']]:5} {finding['name']:22} {finding['text']}")
    if finding["ok"] is False and finding["where"]:
        typer.echo(f"      at {finding['where']}")


def new(
    kind: Annotated[
        Literal["anchor", "dataset", "primitive"],
        typer.Argument(metavar="KIND", help="anchor, dataset or primitive."),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as tiny-gpt.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where it is written.")] = Path(),
) -> None:
    """Write a skeleton that works, and a test of it."""
    from api.skeletons import skeleton

    if not folder.is_dir():
        raise ConfigError("no such folder", got=str(folder))
    for path, text in skeleton(kind, name).items():
        target = folder / path
        if target.exists():
            raise ConfigError("this file exists", got=str(target), hint="choose another name")
        target.write_text(text, encoding="utf-8")
        typer.echo(f"written: {target}")
