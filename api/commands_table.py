"""The commands about tabular benchmarks: build one, show what it holds.

Heavy rooms are imported when a command runs, never before.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.commands_data import DataDir, use_data_dir
from api.text import duration

if TYPE_CHECKING:
    from evosearch.ports import Progress
    from workers.table.build import Plan
    from workers.table.form import Table

DEFAULT_PRIMITIVES = "max,mul,div,sigmoid,rms_batch,std_instance"
DEFAULT_LIVE = 4
DEFAULT_DENIED = "v0,v1"
SAY_EVERY = 30.0
"""Seconds between lines of progress."""


def register(bench: typer.Typer) -> None:
    """Add the group ``table`` to ``evosearch bench``."""
    table = typer.Typer(
        help="A small space trained in full, to compare searches on.", no_args_is_help=True,
        rich_markup_mode=None,
    )  # fmt: skip
    table.command("build")(build_table)
    table.command("show")(show_table)
    bench.add_typer(table, name="table")


def build_table(
    preset: Annotated[str, typer.Argument(metavar="[PRESET]")] = "quickstart",
    out: Annotated[
        Path, typer.Option("--out", help="The table; a build goes on beside it.")
    ] = Path("table.npz"),
    primitives: Annotated[
        str, typer.Option("--primitives", help="Primitives of the sub-space, by comma.")
    ] = DEFAULT_PRIMITIVES,
    live: Annotated[
        int, typer.Option("--live", min=1, max=6, help="Most live nodes of a graph.")
    ] = DEFAULT_LIVE,
    deny: Annotated[
        str, typer.Option("--deny", help="Initial nodes that no graph reads, by comma.")
    ] = DEFAULT_DENIED,
    where: Annotated[
        str, typer.Option("--where", help="What a graph must be, as space.where says it.")
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of every function.")] = 5,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Measure a random few functions only.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count, measure --limit (or 20) functions, stop.")
    ] = False,
    again: Annotated[
        Path | None,
        typer.Option("--again", help="A table to make anew under the checks of now, untrained."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Train every function of a sub-space on a preset's task, once and for all.

    A build may be stopped, started again, and shared by several processes.
    """
    from api.wiring import check_names
    from evosearch.presets import load_preset
    from workers.table import build as building
    from workers.table.form import load_table, save_table

    use_data_dir(data_dir)
    if again is not None:
        table = building.again(load_table(again), _said())
        save_table(out, table)
        _say_built(out, table)
        return
    space = (
        f"space.allow={_listed(primitives)}", f"space.deny={_listed(deny)}",
        f"space.nodes={live}", f"space.where={json.dumps(where)}",
    )  # fmt: skip
    config = load_preset(preset, (*space, *(settings or ())))
    check_names(config)
    few = limit if limit is not None or not dry_run else 20
    plan = building.make_plan(config, seeds, few, _said())
    _count(plan)
    _say_published(plan)
    if dry_run:
        _estimate(plan)
        return
    _say_built(out, building.build(plan, out, _said()))


def _say_built(out: Path, table: Table) -> None:
    typer.echo(
        f"{out}: {len(table.functions):,} functions, {len(table.viable()):,} of them viable, "
        f"{out.stat().st_size / 2**20:.1f} MiB"
    )


def show_table(
    file: Annotated[
        Path | None, typer.Argument(help="By default the table that comes with the package.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON.")] = False,
) -> None:
    """Say what a table holds: stages, known layers, seed noise, how soon it is exhausted."""
    from workers.table.figures import figures
    from workers.table.form import SHIPPED, load_table

    found = figures(load_table(file or SHIPPED))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for line in _lines(found):
        typer.echo(line)


def _listed(names: str) -> str:
    return json.dumps([name.strip() for name in names.split(",") if name.strip()])


def _count(plan: Plan) -> None:
    from evosearch.subspace import uncrowded

    found = plan.found
    typer.echo(
        f"{found.raw:,} sequences of nodes, {found.graphs:,} live graphs, "
        f"{len(found.functions):,} functions"
    )
    for code, (count, chance) in found.refused.items():
        typer.echo(f"  {code:14} {count:>9,} graphs, {100 * chance:.1f} % of random ones")
    through = len(uncrowded(found.functions, plan.config))
    typer.echo(f"a search comes to {through:,} functions; the others begin as these do")


def _say_published(plan: Plan) -> None:
    """Which known layers the sub-space holds; a loud word where it holds none."""
    from workers.table.build import published_in

    known = published_in(plan)
    if known:
        typer.echo("known layers inside: " + ", ".join(known))
        return
    typer.secho(
        "warning: no known layer is inside this sub-space, so a search on it cannot be seen to "
        "find one again; allow more --primitives or more --live nodes",
        err=True, fg="yellow",
    )  # fmt: skip


def _estimate(plan: Plan) -> None:
    """What measuring a few functions says of all."""
    from workers.table.build import sampled
    from workers.table.figures import verdicts

    table, seconds = sampled(plan, _said())
    every, count = len(plan.found.functions), len(table.functions)
    early = ("signal", "not_finite")
    passing = sum(any(code not in early for code, _, _ in row) for row in verdicts(table))
    viable = len(table.viable())
    typer.echo(
        f"of {count} random functions {passing} pass signal with some seed and {viable} are "
        f"viable: about {every * passing / count:,.0f} and {every * viable / count:,.0f} of all"
    )
    hours = seconds * every / count / 3600
    typer.echo(f"{len(plan.seeds)} seeds take about {hours:.1f} hours of one core")


def _said() -> Progress:
    """Lines of progress now and then, with the time left."""
    begin = last = time.monotonic()
    first: int | None = None

    def progress(what: str, done: int, of: int) -> None:
        nonlocal last, first
        first = done if first is None else first
        now = time.monotonic()
        if now - last < SAY_EVERY:
            return
        last = now
        if not of:
            typer.echo(f"{done:,} {what}", err=True)
        elif done > first:
            left = (of - done) * (now - begin) / (done - first)
            typer.echo(f"{done:,} of {of:,} {what}, about {duration(left)} left", err=True)

    return progress


def _lines(found: dict[str, Any]) -> list[str]:
    space = found["space"]
    lines = [
        f"up to {space['live_nodes']} live nodes of {', '.join(space['primitives'])}"
        + (f", {space['where']}" if space["where"] else ""),
        f"{space['raw_sequences']:,} sequences, {space['live_graphs']:,} live graphs, "
        f"{space['functions']:,} functions, {space['in_the_table']:,} in the table, "
        f"{found['viable']:,} viable, {found['seeds']} seeds",
        "verdicts in the mean over seeds: "
        + ", ".join(f"{code} {count:,.0f}" for code, count in found["verdicts"].items()),
        f"a search comes to {found['uncrowded']['functions']:,} functions, "
        f"{found['uncrowded']['viable']:,} of them viable; the others begin as these do",
        *(_known(name, one) for name, one in found["published"].items()),
        *(() if found["published"] else ("no known layer is in the table",)),
        *(
            f"better than {name}: {one['mean']:,} in the mean, {one['every_anchor']:,} everywhere"
            for name, one in found["beats"].items()
        ),
        *(f"rank correlation {pair}: {rho}" for pair, rho in found["rank_correlation"].items()),
        *(
            f"{anchor}: functions differ by {one['between']} (sd), seeds by {one['noise']}"
            for anchor, one in found["noise"].items()
        ),
    ]
    for what, one in found["random_proposals"].items():
        if one:
            lines.append(
                f"random proposals until half of the {what} are met: {one['half']:,}; nine "
                f"tenths: {one['nine_tenths']:,}; all: {one['all']:,}"
            )
    cost = found["random_search_to_the_end"]
    lines.append(
        f"every function once: {cost['train_steps']:,} steps, {cost['worker_hours']:.2f} hours"
    )
    return lines + [f"{_scores(one['scores'])}  {one['formula']}" for one in found["top"]]


def _known(name: str, one: dict[str, Any]) -> str:
    scores = _scores(one["scores"]) if one["scores"] else "not viable"
    return f"{name}: {scores}, one in {1 / one['probability']:,.0f} random proposals"


def _scores(scores: list[float]) -> str:
    return " ".join(f"{score:.3f}" for score in scores)
