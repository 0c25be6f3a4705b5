"""Builds a table: enumerates the sub-space, measures every function, packs one file.

Rows are measured in a fixed shuffled order, so that a part of them is a fair sample and the time
left can be told. A build may be killed at any moment, started again, and shared by processes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evosearch.config import SearchConfig
from evosearch.errors import ConfigError
from evosearch.ports import Progress, unseen
from evosearch.streams import evaluation_seed, sample, stream
from evosearch.subspace import Enumeration, enumerate_functions
from primitives.catalog import CATALOG
from primitives.digest import digest
from primitives.fingerprint import fingerprint
from primitives.graph import Graph
from workers import datasets
from workers.evaluate import Context
from workers.table.form import TABLE_VERSION, Header, Row, Table, save_table
from workers.table.journal import Journal, read_row
from workers.table.measure import measure_row, milestones, refuse_unfit

WAIT = 0.5
"""Seconds between looks at rows that other processes measure."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: baselines first, then functions in the order of ``order``."""

    config: SearchConfig
    found: Enumeration
    seeds: tuple[int, ...]
    order: tuple[int, ...]
    baselines: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return len(self.baselines) + len(self.order)

    def layer(self, number: int) -> Graph | str:
        """The layer of a row."""
        if number < len(self.baselines):
            return self.baselines[number]
        return self.found.functions[self.order[number - len(self.baselines)]].graph


def make_plan(
    config: SearchConfig, seeds: int, limit: int | None = None, progress: Progress = unseen
) -> Plan:
    """The plan of a table for searches with this config.

    ``limit``: functions that are measured, by default all; fewer are a random sample.

    Raises:
        ConfigError: a table cannot answer such a search, or its space is too large.
    """
    refuse_unfit(config)
    found = enumerate_functions(config, progress)
    every = range(len(found.functions))
    order = sample(stream(0, "table", 0), every, len(every))
    names = dict.fromkeys((config.checks.signal.reference, *config.baselines))
    return Plan(
        config,
        found,
        tuple(evaluation_seed(0, "search", index) for index in range(seeds)),
        tuple(order if limit is None else order[:limit]),
        tuple(names),
    )


def published_in(plan: Plan) -> list[str]:
    """Known layers whose function is in the sub-space, whether or not all of it is measured."""
    functions = plan.found.functions
    digests = {name for one in functions for name in one.digests}
    prints = {one.fingerprint for one in functions}
    affine = plan.config.evolution.modulo_affine
    return [
        name
        for name, entry in CATALOG.items()
        if digest(entry.graph) in digests
        or fingerprint(entry.graph, modulo_affine=affine) in prints
    ]


def build_folder(out: Path) -> Path:
    """Where the rows of a table lie while it is built."""
    return out.with_name(out.name + ".build")


def build(plan: Plan, out: Path, progress: Progress = unseen) -> Table:
    """Measure what is not measured yet, pack the table, and return it.

    Raises:
        ConfigError: rows of another build lie beside ``out``.
    """
    context = Context(device="cpu")
    with Journal(build_folder(out), _identity(plan)) as journal:
        while len(journal.done()) < plan.rows:
            progress("rows", len(journal.done()), plan.rows)
            if not _measure_one(plan, journal, context):
                time.sleep(WAIT)  # the others are at the last rows
        with journal.packing():
            table = _packed(plan, journal, context)
            save_table(out, table)
    return table


def again(old: Table, progress: Progress = unseen) -> Table:
    """The same table under the controller's checks of now: of its functions those that they let
    through, with the rows that were measured.

    Raises:
        ConfigError: the table was not complete, or they let a function through that it has not.
    """
    plan = make_plan(old.header.config, len(old.header.seeds), progress=progress)
    functions = plan.found.functions
    places = [old.find(one.graph) for one in functions]
    missing = places.count(None)
    if missing or old.header.seeds != plan.seeds:
        raise ConfigError(
            "the table cannot be made anew from its rows",
            got=f"{missing:,} of {len(functions):,} functions are not in it", hint="build it",
        )  # fmt: skip
    header = _header(plan, old.header.groups, Context(device="cpu"))
    header = header.model_copy(update={"made_with": old.header.made_with})
    numbers = [*(one for one in places if one is not None), *map(old.baseline, plan.baselines)]
    return Table(header, functions, [old.rows[one] for one in numbers])


def _measure_one(plan: Plan, journal: Journal, context: Context) -> bool:
    """Measure the first row that nobody has; False if there is none."""
    done = journal.done()
    for number in range(plan.rows):
        if number in done:
            continue
        with journal.claim(number) as mine:
            if not mine:
                continue
            groups: dict[str, dict[str, int]] = {}
            begin = time.process_time()
            row = measure_row(plan.config, plan.seeds, plan.layer(number), context, groups)
            journal.append(number, row, groups=groups, spent=time.process_time() - begin)
            return True
    return False


def _packed(plan: Plan, journal: Journal, context: Context) -> Table:
    done, first = journal.done(), len(plan.baselines)
    groups: dict[str, dict[str, int]] = {}
    for entry in done.values():
        for anchor, widths in entry["groups"].items():
            groups.setdefault(anchor, {}).update(widths)
    # In the order of the enumeration, the smallest graphs first.
    places = sorted(range(len(plan.order)), key=lambda place: plan.order[place])
    numbers = [*(first + place for place in places), *range(first)]
    rows = [read_row(done[number]) for number in numbers]
    functions = [plan.found.functions[plan.order[place]] for place in places]
    return Table(_header(plan, groups, context), functions, rows)


def _header(plan: Plan, groups: dict[str, dict[str, int]], context: Context) -> Header:
    worst = 1.0 / context.dataset(plan.config.task.dataset).num_classes
    return Header(
        config=plan.config,
        seeds=plan.seeds,
        milestones=milestones(plan.config),
        baselines=plan.baselines,
        worst=dict.fromkeys(plan.config.anchor_names, worst),
        groups=groups,
        raw=plan.found.raw,
        graphs=plan.found.graphs,
        refused=plan.found.refused,
        functions=len(plan.found.functions),
        made_with={name: version(name) for name in ("torch", "numpy")},
    )


def _identity(plan: Plan) -> dict[str, Any]:
    """What must be equal for rows of two processes to belong to one table."""
    return {
        "version": TABLE_VERSION,
        "config": plan.config.model_dump(mode="json"),
        "seeds": list(plan.seeds),
        "rows": [len(plan.found.functions), len(plan.order)],
        "torch": version("torch"),
        "data": len(datasets.load(plan.config.task.dataset, "cpu").train),
    }


def sampled(plan: Plan, progress: Progress = unseen) -> tuple[Table, float]:
    """A table that is measured here and kept nowhere, and the processor seconds it took.

    The seconds are those of the functions; the baselines come on top once.
    """
    context = Context(device="cpu")
    rows: list[Row] = []
    groups: dict[str, dict[str, int]] = {}
    seconds = 0.0
    for place, index in enumerate(plan.order):
        graph = plan.found.functions[index].graph
        begin = time.process_time()
        rows.append(measure_row(plan.config, plan.seeds, graph, context, groups))
        seconds += time.process_time() - begin
        progress("functions", place + 1, len(plan.order))
    for name in plan.baselines:
        rows.append(measure_row(plan.config, plan.seeds, name, context, groups))
    functions = [plan.found.functions[index] for index in plan.order]
    return Table(_header(plan, groups, context), functions, rows), seconds
