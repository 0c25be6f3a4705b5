"""The command that measures this machine: steps, images and candidates for a preset.

Heavy rooms are imported when a command runs, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from api import commands_table
from api.commands_data import DataDir, use_data_dir

if TYPE_CHECKING:
    from evosearch.config import SearchConfig

LAYER = "evonorm-s0"


def register(app: typer.Typer) -> None:
    """Add the group ``bench`` to ``evosearch``."""
    bench = typer.Typer(help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None)
    bench.command("proxy")(bench_proxy)
    commands_table.register(bench)
    bench.callback()(_group)
    app.add_typer(bench, name="bench")


def _group() -> None:
    """Measure this machine."""


def fitting_layer(config: SearchConfig) -> str:
    """EvoNorm-S0, or where an anchor forbids it the first known layer that every anchor takes."""
    from api.commands_preset import good_layers

    names = good_layers(config)
    return LAYER if LAYER in names else names[0]


def bench_proxy(
    preset: Annotated[str, typer.Argument(metavar="[PRESET]")] = "quickstart",
    layer: Annotated[
        str | None, typer.Option("--layer", help="A known layer; default: evonorm-s0, if it fits.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps that are timed.")] = 30,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Say how fast a preset trains here, and where the time goes (one worker, one CPU thread)."""
    from evosearch.presets import load_preset

    use_data_dir(data_dir)
    config = load_preset(preset, settings or ())
    from api.wiring import check_names

    layer = layer or fitting_layer(config)
    check_names(config.model_copy(update={"baselines": (layer,)}))
    from workers import datasets
    from workers.device import choose
    from workers.inline import one_thread
    from workers.profile import PARTS, profile

    where = choose(device)
    data = datasets.load(config.task.dataset, where)
    task = config.task.model_copy(update={"steps": max(config.task.steps, steps + 2)})
    typer.echo(f"preset {config.preset}, layer {layer}, device {where}")
    titles = ("steps/s", "rows/s", *PARTS, "in layers", "scoring")
    typer.echo(f"{'anchor':18}" + "".join(f"{title:>11}" for title in titles))
    total = 0.0
    for anchor in config.anchor_names:
        with one_thread():
            found = profile(task, anchor, layer, data, steps)
        total += found.candidate_seconds(config.task.steps)
        whole = sum(found.parts.values())
        cells = [f"{found.steps_per_second:.1f}",
                 f"{found.steps_per_second * task.batch_size:,.0f}"]  # fmt: skip
        cells += [f"{100 * found.parts[part] / whole:.0f} %" for part in PARTS]
        cells += [f"{100 * found.layers / whole:.0f} %", f"{found.scoring:.2f} s"]
        typer.echo(f"{anchor:18}" + "".join(f"{cell:>11}" for cell in cells))
    typer.echo(
        f"a full evaluation takes {total:.1f} s of a worker: {3600 / total:,.0f} candidates an "
        "hour and worker, before rejections; shares are of a step, layers' forward alone"
    )
