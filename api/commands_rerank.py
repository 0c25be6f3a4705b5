"""The command ``evosearch rerank``: the top layers and every baseline, tuned and compared anew.

It reads the search and keeps what it trains beside it; heavy rooms are imported when it runs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.commands_data import DataDir, use_data_dir
from api.commands_search import Database, Pool, RayAddress, SearchRef, Workers
from evosearch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from api.reporting.gather import Facts
    from api.rerank import Rerank, Tune
    from api.wiring import PoolName
    from evosearch.records import Job

MOST_RATES = 20


def register(app: typer.Typer) -> None:
    """Add the command to ``evosearch``."""
    app.command()(rerank)


def rerank(
    ref: SearchRef,
    top: Annotated[
        int | None, typer.Option("--top", min=1, max=100, help="Candidates; default: as confirmed.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Default: four times the search's.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=2, max=1000, help="Fresh seeds on final; default: as there."),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option("--rates", help="Learning rates, as 0.1,0.2,0.4; default: as confirmed, "
                     "and of fewer than three also half, once and twice the search's."),
    ] = None,
    anchors: Annotated[
        str | None,
        typer.Option(
            "--anchors", help="As resnet:small,vit, each with its size; default: the search's own."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="In place of the search's own.")
    ] = None,
    transfer: Annotated[
        list[str] | None,
        typer.Option(
            "--transfer", metavar="NAME",
            help="An anchor (NAME or NAME:SIZE) or data set that the search never used, besides; "
            "may be repeated. Default: one anchor, where that is cheap, and one embedded data set.",
        ),
    ] = None,
    no_transfer: Annotated[
        bool, typer.Option("--no-transfer", help="What the search used, and nothing besides.")
    ] = False,
    pool: Pool = "ray",
    workers: Workers = None,
    ray_address: RayAddress = None,
    kept: Annotated[
        Path | None,
        typer.Option("--kept", help="Folder for trainings at hand; default: rerank-ID-kept."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A file for the result as JSON.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it takes and train nothing.")
    ] = False,
    data_dir: DataDir = None,
    db: Database = None,
) -> None:  # fmt: skip
    """Tune the top layers and every baseline on a longer task, and compare them on final."""
    from rich.console import Console

    from api.reporting.gather import gather
    from api.rerank import Asked, Rerank, carry_out, make_plan
    from api.wiring import sql_database
    from db.studies import Studies
    from evosearch.plugins import ensure

    if no_transfer and transfer:
        raise ConfigError("a transfer, and none", got=f"--no-transfer --transfer {transfer[0]}",
                          expected="one of the two")  # fmt: skip
    wanted = () if no_transfer else tuple(transfer) if transfer else None
    asked = Asked(top, steps, seeds, rates_of(rates), names_of(anchors), dataset, wanted)
    check(out, pool, workers, ray_address)
    use_data_dir(data_dir)
    console = Console(stderr=True)
    with sql_database(db) as store:
        facts = gather(store, ref)
        ensure(facts.state.config.task.plugins)
        plan = make_plan(facts, asked)
        if dry_run:
            typer.echo(what_it_takes(facts, list(plan.tune_jobs()), plan))
            return
        made = Rerank(Studies(store), plan)
        tell(console, facts, made)
        folder = (kept or Path(f"rerank-{facts.info.id}-kept")) / plan.key
        with console.status("training ...") as status:

            def told(what: str, done: int, of: int) -> None:
                status.update(f"{what}: {done} of {of}")

            tune, make_pool = runners(pool, workers, ray_address)
            result = carry_out(made, facts, tune, make_pool, folder, told)
    show(result, out)


def check(out: Path | None, pool: str, workers: int | None, address: str | None = None) -> None:
    """Refuse what would fail after hours of training.

    Raises:
        ConfigError: no such folder, more workers than the pool has, or a cluster for none.
    """
    if pool == "inline" and address is not None:
        raise ConfigError("the inline pool knows no cluster", got=f"--ray-address {address}",
                          hint="use --pool ray")  # fmt: skip
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise ConfigError("no file for the result", expected="a file in a folder that exists",
                          got=str(out))  # fmt: skip
    if pool == "inline" and workers not in (None, 1):
        raise ConfigError("the inline pool has one worker", got=f"--workers {workers}",
                          hint="use --pool ray for more")  # fmt: skip


def rates_of(text: str | None) -> tuple[float, ...]:
    """The learning rates of ``0.1,0.2``; none of None.

    Raises:
        ConfigError: one is no positive number, comes twice, or they are too many.
    """
    found = []
    for part in names_of(text):
        try:
            rate = float(part)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0.0):
            raise ConfigError("no learning rate", expected="positive numbers, as 0.1,0.2,0.4",
                              got=repr(part))  # fmt: skip
        found.append(rate)
    if len(set(found)) < len(found) or len(found) > MOST_RATES:
        raise ConfigError("learning rates twice, or too many", got=str(text),
                          expected=f"each once, {MOST_RATES} at most")  # fmt: skip
    return tuple(found)


def names_of(text: str | None) -> tuple[str, ...]:
    """The parts of ``a,b``; none of None.

    Raises:
        ConfigError: a part is empty.
    """
    if text is None:
        return ()
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ConfigError("an empty name in a list", expected="as a,b,c", got=repr(text))
    return parts


def runners(
    pool: PoolName, workers: int | None, address: str | None = None
) -> tuple[Tune, Callable[[], Any]]:
    """What tunes all trials, and what makes the pool of the second stage.

    What is None is taken from the settings' variables, as ``EVOSEARCH_RAY_ADDRESS``.
    """
    from functools import partial

    from api.settings import load_settings
    from api.wiring import make_pool

    make = partial(make_pool, pool, workers, address)
    if pool == "inline":
        from workers.tuning import tune_inline

        return tune_inline, make

    from workers.rerank_tune import tune_with_ray

    known = load_settings({"workers": workers, "ray_address": address})
    tune = partial(tune_with_ray, workers=known.workers, address=known.ray_address,
                   nice=known.worker_nice)  # fmt: skip
    return tune, make


def what_it_takes(facts: Facts, tune_jobs: list[Job], plan: Any) -> str:
    """A line on trainings and their time, if no rate were given up."""
    from api.reporting.studies import seconds_of
    from api.text import duration
    from api.transfers import label
    from evosearch.rerank import row_key

    one = dict.fromkeys((row_key(*row) for row in plan.rows()), plan.rates[0])
    finals = list(plan.final_jobs(one))
    settings = ", ".join(
        f"{one.dataset}/{label(one.anchor, sized=one.sized)}" for one in plan.settings
    )
    trainings = len(tune_jobs) * len(plan.tune_seeds)
    return (
        f"{len(plan.layers)} layers on {settings}: {trainings} trainings of at most "
        f"{plan.task.steps} steps on select at the rates "
        f"{', '.join(f'{rate:g}' for rate in plan.rates)}, {len(finals)} read on final; about "
        f"{duration(seconds_of(facts, [*tune_jobs, *finals]))} of worker time if no rate were "
        "given up and anchors had the search's sizes"
    )


def tell(console: Console, facts: Facts, made: Rerank) -> None:
    """Say what is asked for, and what of it is there already."""
    from api.report_text import say

    plan = made.plan
    jobs = list(plan.tune_jobs())
    say(console, f"re-ranking {plan.key} of search {facts.info.id}")
    say(console, what_it_takes(facts, jobs, plan))
    for other in made.other_versions():
        say(console, f"the same was begun with other versions, as {other}; its numbers stay where "
                     "they are, and this one begins anew")  # fmt: skip
    ended = sum(one.ended for one in made.tuned().values())
    finals = len(made.kept("final"))
    say(console, f"{ended} trials have ended and {finals} numbers are there already; "
                 "Ctrl-C loses none that has ended")  # fmt: skip


def show(result: Mapping[str, Any], out: Path | None) -> None:
    """Print verdict and tables, and write the file."""
    import json

    from rich.console import Console

    from api.export import write_file
    from api.report_text import say
    from api.reporting.blocks import Table, Text
    from api.reporting.rerank_tables import rerank_blocks
    from api.tables import block_table

    console = Console()
    blocks = rerank_blocks(result)
    for block in [*blocks[1:], blocks[0]]:
        if isinstance(block, Table):
            console.print(block_table(block))
        elif isinstance(block, Text):
            say(console, block.text, "bold" if block.strong else "")
    if out is not None:
        write_file(out, json.dumps(result, indent=1) + "\n")
        typer.echo(f"written: {out}")
