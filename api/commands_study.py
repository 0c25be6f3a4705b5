"""The commands that look back on a search: train a number again, write the report.

They read the database and write files that were asked for; heavy rooms are imported when a command
runs, never before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from api.commands_data import DataDir, use_data_dir
from api.commands_search import Database, Pool, RayAddress, SearchRef, Workers


def register(app: typer.Typer) -> None:
    """Add the commands to ``evosearch``."""
    app.command()(rerun)
    app.command()(report)


def rerun(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE", help="SEARCH-BIRTH, SEARCH-BASELINE, or SEARCH for its leader."
        ),
    ],
    anchor: Annotated[str | None, typer.Option("--anchor", help="Of that anchor.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of that training seed.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Of that learning rate.")] = None,
    split: Annotated[
        Literal["select", "final"] | None, typer.Option("--split", help="Of that split.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Of that data set, in a re-ranking.")
    ] = None,
    rerank: Annotated[
        str | None, typer.Option("--rerank", metavar="KEY", help="Of that re-ranking.")
    ] = None,
    within: Annotated[
        float, typer.Option("--within", min=0.0, help="Difference of scores that is no difference.")
    ] = 0.0,
    listed: Annotated[
        bool, typer.Option("--list", help="List the stored numbers and train nothing.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a script that does it instead.")
    ] = None,
    data_dir: DataDir = None,
    db: Database = None,
) -> int:
    """Train one stored number again and print it beside the stored one; 1 where they differ."""
    from api.export import write_file
    from api.rerun import have_plugins, matching, retrain, script_of, stored_numbers
    from api.wiring import open_database

    use_data_dir(data_dir)
    store = open_database(db)
    try:
        numbers = stored_numbers(store, candidate)
    finally:
        store.close()
    numbers = matching(numbers, anchor=anchor, seed=seed, rate=rate, split=split, dataset=dataset,
                       rerank=rerank)  # fmt: skip
    if listed:
        for one in numbers:
            goal = {a.name: a.objective for a in one.job.task.anchors}[one.stored.anchor]
            typer.echo(f"{one.title}: {goal.text(one.stored.score)}")
        return 0
    number = numbers[0]
    have_plugins(number.job.task.plugins)
    if out is not None:
        write_file(out, script_of(number, out.name))
        typer.echo(f"written: {out}")
        return 0
    if len(numbers) > 1:
        typer.echo(f"the first of {len(numbers)} stored numbers; --list shows the others")
    return retrain(number, within=within, say=typer.echo)


def report(
    ref: SearchRef,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A file .html or .md; default: report-ID.html."),
    ] = None,
    parts: Annotated[
        Path | None,
        typer.Option("--parts", help="Folder for each table as CSV and LaTeX, each plot as SVG."),
    ] = None,
    knock_out: Annotated[
        bool, typer.Option("--knock-out", help="Train the leader without each of its nodes too.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Train over learning rate, batch size and depth.")
    ] = False,
    transfer: Annotated[
        list[str] | None,
        typer.Option(
            "--transfer",
            metavar="NAME",
            help="Train on an anchor (NAME or NAME:SIZE) or data set that the search never used; "
            "may be repeated.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, max=100, help="Of those trainings; default: as confirmed."),
    ] = None,
    kept: Annotated[
        Path | None,
        typer.Option("--kept", help="Folder in which those trainings are kept as they come."),
    ] = None,
    pool: Pool = "ray",
    workers: Workers = None,
    ray_address: RayAddress = None,
    data_dir: DataDir = None,
    db: Database = None,
) -> None:
    """Write the whole report of a search as one HTML page or as Markdown."""
    from api.export import write_file
    from api.reporting.contents import document
    from api.reporting.gather import gather
    from api.reporting.parts import write_parts
    from api.reporting.render import to_html, to_markdown
    from api.wiring import make_pool, open_database
    from evosearch.errors import ConfigError

    if out is not None and out.suffix not in (".html", ".md"):
        raise ConfigError("unknown kind of report", expected=".html or .md", got=str(out))
    if out is not None and not out.absolute().parent.is_dir():  # not after hours of training
        raise ConfigError("no folder for the report", expected="a folder that exists",
                          got=str(out.parent))  # fmt: skip
    use_data_dir(data_dir)
    store = open_database(db)
    try:
        facts = gather(store, ref)
    finally:
        store.close()
    wanted = [name for name, asked in (("knock-out", knock_out), ("robustness", robustness),
                                       ("transfer", transfer)) if asked]  # fmt: skip
    studies = []
    if wanted:
        from api.reporting.run_studies import run_studies

        folder = kept or Path(f"report-{facts.info.id}-kept")
        studies = run_studies(facts, wanted, transfer or (), seeds, folder,
                              lambda: make_pool(pool, workers, ray_address))  # fmt: skip
    made = document(facts, studies)
    target = out or Path(f"report-{facts.info.id}.html")
    if parts is not None:
        typer.echo(f"written: {write_parts(made, parts)} files in {parts}")
    if target.suffix == ".md":
        # Links are from where the report lies.
        linked = None if parts is None else Path(os.path.relpath(parts, target.parent)).as_posix()
        write_file(target, to_markdown(made, linked))
    else:
        write_file(target, to_html(made))
    typer.echo(f"written: {target}")
