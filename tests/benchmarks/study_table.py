"""How much training each search configuration needs on a tabular benchmark, over hundreds of seeds.

``python -m tests.benchmarks.study_table [TABLE] [--seeds 200] [--steps 5000] [--variants ...]
[--rows FILE ...] [--report]``. A finished search is a line of the first FILE; what the files hold
is not done again, so a study may be stopped and started again, and have more seeds of one variant
than of another; ``--report`` searches nothing. Every variant of `tests.benchmarks.rivals` is the
real controller with the real proposals on simulated workers; every training step counts: those of
rejected and audited candidates, and the two that a signal check takes back. A training costs the
processor seconds that it took when the table was built; the controller's are measured, each search
in a process of its own, so that none knows what another has computed. What counts at a moment is
the hypervolume of the front that the search would return then, computed on the means of stored
seeds that the search never saw. Says how many steps and simulated seconds each variant needs to
have, for good, what each rival has at the end of the budget. Writes ``results/table.json`` and the
variants' paths into ``table_steps.svg`` and ``table_seconds.svg``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import SearchConfig
from evosearch.controller import Controller
from evosearch.errors import ConfigError
from evosearch.pareto import hypervolume
from evosearch.ports import Lease, Snapshot
from evosearch.presets import config_from, load_preset, parse_override, set_override
from evosearch.records import Job, Message
from evosearch.state import State
from tests.benchmarks.chart import write_bands
from tests.benchmarks.record import (
    RESULTS,
    add_row,
    code_digest,
    read_rows,
    refuse_mixed,
    resumed,
    text_digest,
    write_result,
)
from tests.benchmarks.rivals import RIVALS, VARIANTS, same_search, spent_on
from tests.benchmarks.search_paths import DEFAULT, bands, summary, summary_of, targets
from workers.table.form import SHIPPED, Table, load_table
from workers.table.pool import TablePool, plan_seeds

SECONDS_ARE = "simulated seconds"
SEARCH_CODE = (
    "evosearch/*.py", "evosearch/*.npz", "tests/benchmarks/rivals.py",
    "tests/benchmarks/study_table.py",
)  # fmt: skip
"""Files whose change may change a search or its costs, beside those of workers and primitives."""


class Forgetful(MemoryStore):
    """A store that keeps of a search only how it began, for the controller's state has the rest.

    Nobody sends commands to its searches.
    """

    def append(self, lease: Lease, events: Sequence[ev.Event], done: Sequence[int] = ()) -> int:
        return 1  # the last event is still the first one

    def save(self, lease: Lease, snapshot: Snapshot) -> None: ...


class Answers(TablePool):
    """The table, with the processor seconds that looking things up took: they are no search's."""

    took = 0.0

    def answer(self, job: Job) -> tuple[float, Sequence[Message]]:
        begin = time.process_time()
        try:
            return super().answer(job)
        finally:
            self.took += time.process_time() - begin


class Judge:
    """Hypervolumes of fronts on seeds that the search did not see."""

    def __init__(self, table: Table, config: SearchConfig, held_out: tuple[int, ...]) -> None:
        self._table, self._held_out = table, list(held_out)
        self._bound = np.array([-one.reference for one in config.task.anchors])
        self._known: dict[frozenset[int], float] = {}

    def hypervolume(self, state: State) -> float:
        """Of the members of the search's front as it stands."""
        found = (self._table.find(state.members[birth].graph) for birth in state.front.members)
        rows = frozenset(row for row in found if row is not None)
        if rows not in self._known:
            points = [-_held_out_mean(self._table, row, self._held_out) for row in rows]
            self._known[rows] = hypervolume(np.array(points), self._bound) if points else 0.0
        return self._known[rows]


def _held_out_mean(table: Table, row: int, held_out: list[int]) -> Any:
    return table.scores(row)[held_out].mean(axis=0)


@cache
def _loaded(path: str) -> Table:
    return load_table(Path(path))


def configured(table: Table, variant: str, seed: int, more: Sequence[str] = ()) -> SearchConfig:
    """The table's space and task, searched as its preset does it now, as the variant has it."""
    data = table.header.config.model_dump(mode="json")
    now = load_preset(table.header.config.preset).model_dump(mode="json")
    data |= {name: now[name] for name in ("evolution", "surrogate")}
    data["checks"]["hurdles"] = now["checks"]["hurdles"]
    fixed = ("confirmation.enabled=false", "baselines=[]", "budget.evaluations=1000000")
    for text in (*fixed, *VARIANTS[variant], *more):
        set_override(data, *parse_override(text))
    return config_from({**data, "seed": seed})


def skipped(table: Table, variants: Sequence[str], more: Sequence[str] = ()) -> dict[str, str]:
    """Variants that cannot differ from the default on this table -> why they are left out."""
    plain = configured(table, "default", 0, more)
    return {
        variant: "the same search as the default on this table"
        for variant in variants
        if variant != "default" and same_search(configured(table, variant, 0, more), plain)
    }


def search(task: tuple[str, str, int, dict[str, Any]]) -> dict[str, Any]:
    """One search until its budget of training steps is spent, with its path.

    A point of the path: training steps, simulated seconds, hypervolume; one per change. With one
    worker only seconds differ from run to run.
    """
    path, variant, seed, options = task
    table = _loaded(path)
    config = configured(table, variant, seed, options["set"])
    pool = Answers(table, options["workers"], search_seed=seed, held_out=options["held_out"])
    store = Forgetful()
    store.create("table001", variant, ev.Created(config=config))
    controller = Controller(store, pool, store.acquire("table001", "study", 1e9))
    judge, state, budget = (
        Judge(table, config, pool.seeds.held_out),
        controller.state,
        options["steps"],
    )
    points: list[tuple[int, float, float]] = []
    front: frozenset[int] = frozenset()
    own, steps = 0.0, 0
    while state.phase == "search" and not controller.over and steps < budget:
        begin, looked_up = time.process_time(), pool.took
        controller.step(0.0)
        spent = time.process_time() - begin - (pool.took - looked_up)
        pool.advance(spent)
        own += spent
        steps = sum(spent_on(state).values())
        if state.front.members != front:
            front = state.front.members
            value = judge.hypervolume(state)
            if not points or value != points[-1][2]:
                points.append((steps, round(pool.now, 3), value))
    return {
        "variant": variant, "seed": seed, "budget": budget, "steps": steps,
        "seconds": round(pool.now, 1), "controller_seconds": round(own, 2),
        "exhausted": steps < budget, "hypervolume": points[-1][2] if points else 0.0,
        "proposals": state.next_birth, "asked": pool.asked, "outside": pool.outside,
        "fresh_seeds": pool.fresh, "fresh_seeds_refused": pool.ran_out,
        "evaluated": state.evaluated, "rejected": dict(state.rejected),
        "spent_on": spent_on(state), "path": points,
    }  # fmt: skip


def conditions(table: Table, seeds: Sequence[int], held_out: int) -> dict[str, int]:
    """What the intervals are conditional on: one table, and few arrangements of its stored seeds.

    ``arrangements``: of stored seeds into a first one, fresh ones and held-out ones; ``met``: how
    many of them the searches had.
    """
    stored = len(table.header.seeds)
    plans = {plan_seeds(seed, stored, held_out) for seed in seeds}
    met = {(plan.answers, frozenset(plan.held_out)) for plan in plans}
    return {
        "tables": 1, "stored_seeds": stored, "held_out": held_out,
        "arrangements": math.perm(stored, stored - held_out), "met": len(met),
    }  # fmt: skip


def table_digest(path: Path) -> str:
    """Of a table's file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def settings_of(told: argparse.Namespace, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant -> what its rows must share with others' to be compared, and ``config``, its own."""
    shared = {"table": table_digest(told.table), "code": code_digest(SEARCH_CODE), **options}
    configs = {
        one: configured(_loaded(str(told.table)), one, 0, options["set"]) for one in told.variants
    }
    return {
        one: {**shared, "config": text_digest(config.model_dump_json())}
        for one, config in configs.items()
    }


def searched(told: argparse.Namespace, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the files, and those of the searches that were still to be done.

    Raises:
        ConfigError: they are of several studies.
    """
    settings = settings_of(told, options)
    seeds = range(told.first_seed, told.first_seed + told.seeds)
    known, left = resumed(told.rows, settings, seeds)
    left.sort(
        key=lambda one: told.variants.index(one[0])
    )  # a variant's screen serves all its seeds
    tasks = [(str(told.table), variant, seed, options) for variant, seed in left]
    begin, rows = time.perf_counter(), []
    # What every search needs, and none should pay for: a process is a copy of this one.
    _loaded(str(told.table))
    import_module("sklearn.ensemble")
    with get_context("fork").Pool(told.processes, maxtasksperchild=1) as pool:
        for row in pool.imap(search, tasks, chunksize=1):
            rows.append({**row, "settings": settings[row["variant"]]})
            if told.rows:
                add_row(told.rows[0], rows[-1])
            if len(rows) == len(tasks) or tasks[len(rows)][1] != row["variant"]:
                seconds = time.perf_counter() - begin
                print(f"{row['variant']}: done after {seconds:.0f} s", flush=True)
    return [*known, *rows]


def reported(told: argparse.Namespace, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the files, whatever code searched.

    Raises:
        ConfigError: there is none, or they are of several studies, of another table or of other
            options.
    """
    rows = read_rows(told.rows)
    refuse_mixed(rows)
    wanted = {"table": table_digest(told.table), **options}
    found = {key: rows[0]["settings"][key] for key in wanted} if rows else "no row"
    if found != wanted:
        raise ConfigError(
            "rows of the table and the options that are asked for", expected=str(wanted),
            got=str(found), where=", ".join(map(str, told.rows)) or "--rows",
        )  # fmt: skip
    return rows


def result_of(
    table: Table, rows: Sequence[dict[str, Any]], options: dict[str, Any], left_out: dict[str, str]
) -> dict[str, Any]:
    """What the rows say, with what they are rows of."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    found = summary(rows)
    header, space = table.header, table.header.config.space
    return {
        "table": {"primitives": list(space.allow), "nodes": space.nodes, "where": space.where,
                  "functions": header.functions, "held": len(table.functions)},
        "conditions": conditions(table, seeds, options["held_out"]), "seconds_are": SECONDS_ARE,
        "options": options, "variants": {name: list(VARIANTS[name]) for name in variants},
        "left_out": left_out, "targets": targets(found), "summary": found,
        "default_with_their_seeds": with_the_fewest_seeds(rows),
    }  # fmt: skip


def with_the_fewest_seeds(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The default's summary on the seeds that all variants have; empty where there are none."""
    seeds = [
        {row["seed"] for row in rows if row["variant"] == variant}
        for variant in dict.fromkeys(row["variant"] for row in rows)
    ]
    common = set.intersection(*seeds)
    some = [row for row in rows if row["seed"] in common]
    return summary_of(some, DEFAULT) if any(row["variant"] == DEFAULT for row in some) else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=2, help="stored seeds kept from searches")
    parser.add_argument("--processes", type=int, default=1, help="searches at a time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rows", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="of the rows alone, search nothing")
    told = parser.parse_args()
    options = {name: getattr(told, name) for name in ("steps", "workers", "held_out", "set")}
    table = _loaded(str(told.table))
    left_out = skipped(table, told.variants, told.set)
    for variant, why in left_out.items():
        print(f"{variant}: left out, {why}")
    told.variants = [one for one in told.variants if one not in left_out]
    try:
        rows = reported(told, options) if told.report else searched(told, options)
    except ConfigError as err:
        raise SystemExit(str(err)) from err
    result = result_of(table, rows, options, left_out)
    print(json.dumps({key: result[key] for key in ("targets", "summary")}, indent=1))
    print(write_result("table", result, told.out))
    drawn = [row for one in ("default", *RIVALS) for row in rows if row["variant"] == one]
    for axis, name in enumerate(("training steps", SECONDS_ARE) if drawn else ()):
        target = told.out / f"table_{name.split()[1]}.svg"
        write_bands(target, "Front on held-out seeds", name, "hypervolume", bands(drawn, axis))


if __name__ == "__main__":
    main()
