"""The commands about presets: list them, and measure what one can tell apart.

Heavy rooms are imported when a command runs, never before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.commands_data import DataDir, use_data_dir
from api.commands_search import Pool, Workers
from evosearch.errors import ConfigError, WorkerError

if TYPE_CHECKING:
    from evosearch.calibrate import Calibration
    from evosearch.config import SearchConfig, Task
    from evosearch.ports import Pool as PoolPort
    from evosearch.records import Job

LAYERS = (
    "bn-relu", "bn-silu", "gn-relu", "gn-silu", "evonorm-b0", "evonorm-b1", "evonorm-b2",
    "evonorm-s0", "evonorm-s1", "evonorm-s2",
)  # fmt: skip
"""Layers that train well; differences between them are what a search must see."""

MEAN = "mean"

Scores = dict[str, dict[str, list[float]]]
"""Layer -> anchor -> score of each seed."""


def register(app: typer.Typer) -> None:
    """Add the group ``preset`` to ``evosearch``."""
    preset = typer.Typer(
        help="List presets, measure one.", no_args_is_help=True, rich_markup_mode=None
    )
    preset.command("list")(list_presets)
    preset.command("calibrate")(calibrate_preset)
    app.add_typer(preset, name="preset")


def list_presets() -> None:
    """List the presets that come with evosearch."""
    from evosearch.presets import load_preset, preset_names

    for name in preset_names():
        task = load_preset(name).task
        anchors = ", ".join(f"{anchor.name} ({anchor.size})" for anchor in task.anchors)
        typer.echo(f"{name:18} {task.dataset}, {task.steps} steps of {task.batch_size}: {anchors}")


def calibrate_preset(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset, or a .toml file.")],
    seeds: Annotated[int, typer.Option("--seeds", min=2, max=100, help="Seeds a layer.")] = 5,
    longer: Annotated[
        float, typer.Option("--longer", min=1.0, help="Steps of the longer task, as a factor.")
    ] = 4.0,
    longer_seeds: Annotated[int, typer.Option("--longer-seeds", min=1, max=100)] = 2,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Names, with commas; default: good ones that fit."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
    ] = None,
    pool: Pool = "ray",
    workers: Workers = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write all figures there, as JSON.")
    ] = None,
) -> None:
    """Train good layers over seeds; say what the preset's scores can tell apart."""
    from evosearch.presets import load_preset

    use_data_dir(data_dir)
    config = load_preset(preset, settings or ())
    listed = good_layers(config) if layers is None else layers.split(",")
    names = tuple(dict.fromkeys(name.strip() for name in listed if name.strip()))
    if len(names) < 2:
        raise ConfigError("two layers at least", expected="--layers a,b", got=", ".join(names))
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError("no such folder", got=str(out.absolute().parent), hint="make it first")
    from api.wiring import check_names, make_pool

    check_names(config.model_copy(update={"baselines": names}))
    task = config.task
    long_task = task.model_copy(update={"steps": round(task.steps * longer)})
    opened = make_pool(pool, workers)
    try:
        short = train(opened, jobs(config, task, names, range(seeds)))
        # Other seeds, so that a lucky initial draw cannot pass for agreement.
        long = train(opened, jobs(config, long_task, names, range(seeds, seeds + longer_seeds)))
    finally:
        opened.close()
    for line in lines(config.anchor_names, names, short, long):
        typer.echo(line)
    if out is not None:
        write_figures(out, config, names, short, long)
        typer.echo(f"written: {out}")


def good_layers(config: SearchConfig) -> list[str]:
    """Known good layers that every anchor of the config takes."""
    from api.own_config import BASELINES, allowed_baselines

    anchors = config.task.anchors
    found = allowed_baselines(anchors, LAYERS)
    if len(found) < 2:  # a network that forbids mixing takes none of those
        slot = anchors[0].slot or "norm_act"
        found = allowed_baselines(anchors, (*config.baselines, *BASELINES[slot]))
    return found


def write_figures(
    out: Path, config: SearchConfig, names: Sequence[str], short: Scores, long: Scores
) -> None:
    """Everything that was measured and concluded, with the versions of what computed, as JSON."""
    import json

    from api.wiring import versions
    from evosearch.calibrate import advice

    found = calibrations(config.anchor_names, names, short, long)
    data = {
        "preset": config.preset, "versions": versions(),
        "config": config.model_dump(mode="json"), "layers": [*names],
        "scores": short, "scores_of_the_longer_task": long,
        "calibration": figures(config.anchor_names, names, short, long),
        "advice": advice(found[MEAN], failing(config.anchor_names, names, short)),
    }  # fmt: skip
    out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def figures(
    anchors: Sequence[str], names: Sequence[str], short: Scores, long: Scores | None
) -> dict[str, dict[str, float | None]]:
    """Anchor, and `MEAN` for the mean of all, -> its figures by name."""
    return {
        name: {
            "between": one.between, "noise": one.noise, "ratio": plain(one.ratio),
            "seeds_for_one_point": one.seeds, "rank_correlation": plain(one.correlation),
            "ratio_of_the_longer_task": plain(one.longer_ratio),
        }
        for name, one in calibrations(anchors, names, short, long).items()
    }  # fmt: skip


def plain(value: float) -> float | None:
    """The number, or None where JSON has none for it."""
    import math

    return value if math.isfinite(value) else None


def jobs(config: SearchConfig, task: Task, names: Sequence[str], indices: range) -> list[Job]:
    """One job for each layer and seed, on every anchor."""
    from evosearch.records import Job, Run, Subject
    from evosearch.streams import evaluation_seed

    made = []
    for index in indices:
        seed = evaluation_seed(config.seed, "confirm", index)
        runs = tuple(
            Run(anchor=anchor.name, seed=seed, learning_rate=task.learning_rate)
            for anchor in task.anchors
        )
        made += [
            Job(id=f"{name}/{task.steps}/{index}", purpose="baseline",
                subject=Subject(baseline=name), graph=None, runs=runs, task=task)
            for name in names
        ]  # fmt: skip
    return made


def train(pool: PoolPort, waiting: list[Job]) -> Scores:
    """Have the jobs done.

    Raises:
        WorkerError: one of them failed.
    """
    from evosearch.records import EvaluationDone

    found: dict[str, dict[str, dict[str, float]]] = {}
    open_jobs: dict[str, Job] = {}
    queue = list(waiting)
    while queue or open_jobs:
        while queue and len(open_jobs) < pool.capacity:
            job = queue.pop(0)
            open_jobs[job.id] = job
            pool.submit(job)
        for message in pool.poll(0.5):
            job = open_jobs[message.job_id]
            if isinstance(message, EvaluationDone):
                one = message.evaluation
                rows = found.setdefault(str(job.subject.baseline), {})
                rows.setdefault(one.anchor, {})[job.id] = one.score
                continue
            del open_jobs[message.job_id]
            if message.failure is not None:
                raise WorkerError(f"{job.id} failed", got=message.failure.detail)
    order = [job.id for job in waiting]
    return {
        name: {a: [rows[i] for i in order if i in rows] for a, rows in by_anchor.items()}
        for name, by_anchor in found.items()
    }


def lines(
    anchors: Sequence[str], names: Sequence[str], short: Scores, long: Scores | None
) -> list[str]:
    """The report: scores, then figures per anchor and for their mean, then advice.

    ``long``: scores in the longer task, where it was trained.
    """
    import numpy as np

    from evosearch.calibrate import advice

    said = [f"{'layer':16}" + "".join(f"{anchor:>16}" for anchor in anchors)]
    for name in names:
        cells = (f"{np.mean(short[name][a]):.3f} +-{np.std(short[name][a], ddof=1):.3f}"
                 for a in anchors)  # fmt: skip
        said.append(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells))
    said.append("")
    figures = calibrations(anchors, names, short, long)
    for anchor, found in figures.items():
        line = (
            f"{anchor:16} layers {found.between:.4f}, seeds {found.noise:.4f}, ratio "
            f"{found.ratio:.2f}; one point takes {found.seeds} seeds"
        )
        if long is not None:
            line += f"; rank correlation with the longer task {found.correlation:.2f}"
        if found.longer_ratio == found.longer_ratio:  # not NaN
            line += f", where the ratio is {found.longer_ratio:.2f}"
        said.append(line)
    return [*said, "", *advice(figures[MEAN], failing(anchors, names, short))]


def failing(anchors: Sequence[str], names: Sequence[str], short: Scores) -> list[str]:
    """Layers that are unsteady on an anchor."""
    import numpy as np

    from evosearch.calibrate import unsteady

    found = {row for a in anchors for row in unsteady(np.array([short[n][a] for n in names]))}
    return [names[row] for row in sorted(found)]


def calibrations(
    anchors: Sequence[str], names: Sequence[str], short: Scores, long: Scores | None
) -> dict[str, Calibration]:
    """Anchor, and `MEAN` for the mean of all, -> its figures."""
    import numpy as np

    from evosearch.calibrate import calibrate

    tasks = [short] if long is None else [short, long]
    tables = {a: [np.array([task[n][a] for n in names]) for task in tasks] for a in anchors}
    means = [np.mean([tables[a][which] for a in anchors], axis=0) for which in range(len(tasks))]
    return {name: calibrate(*scores) for name, scores in {**tables, MEAN: means}.items()}
