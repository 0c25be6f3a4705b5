"""How much training each search configuration needs on a tabular benchmark, over hundreds of seeds.

``python -m tests.benchmarks.study_table TABLE [--seeds 200] [--steps 20000] [--variants ...]``.
Every variant is the real controller with the real proposals on simulated workers; every training
step counts, those of rejected and audited candidates too. What counts at a moment is the
hypervolume of the front that the search would return then, computed on the means of stored seeds
that the search never saw. Says how many steps and simulated seconds each variant needs to reach
what random search, and the paper's algorithm, have at the end of the budget. Writes
``results/table.json`` and, for each variant, its path into ``.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evosearch import events as ev
from evosearch.config import SearchConfig
from evosearch.controller import Controller
from evosearch.pareto import hypervolume
from evosearch.ports import Command, Lease, SearchInfo, Snapshot, StoredCommand
from evosearch.presets import config_from, parse_override, set_override
from evosearch.screen import Screen
from evosearch.state import State
from tests.benchmarks.chart import Band, write_bands
from tests.benchmarks.record import RESULTS, write_result
from workers.table.form import Table, load_table
from workers.table.pool import TablePool

NO_HURDLES = "checks.hurdles.steps=[]"
NO_LIMIT = "evolution.same_start=0"
NO_OPERATORS = "evolution.operators={}"
OF_PROPOSALS = "evolution.random_of=proposals"
BY_ROWS = "space.draw=rows"
NO_CHALLENGE = "evolution.challenge_top=0"
EQUAL_ALONE = "evolution.alike=1.0"
NO_FRESH_SEEDS = ("evolution.remeasure_every=0", NO_CHALLENGE)
PAPER = (
    NO_HURDLES, NO_LIMIT, EQUAL_ALONE, NO_OPERATORS, OF_PROPOSALS, BY_ROWS, *NO_FRESH_SEEDS,
    "evolution.random_share=0.5",
)  # fmt: skip
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "paper": PAPER,
    "random": (*PAPER, "evolution.random_share=1.0"),
    "no hurdles": (NO_HURDLES,),
    "no limit on equal starts": (NO_LIMIT,),
    "only equal starts count": (EQUAL_ALONE,),
    "the paper's mutation alone": (NO_OPERATORS,),
    "random graphs as a share of proposals": (OF_PROPOSALS,),
    "primitives drawn by rows": (BY_ROWS,),
    "leaders unchallenged": (NO_CHALLENGE,),
    "no fresh seeds": NO_FRESH_SEEDS,
    "no signal check": ("checks.signal.enabled=false",),
    "averages in tournaments": ("evolution.criterion=average",),
    "nsga2 in tournaments": ("evolution.criterion=nsga2",),
    "lexicase in tournaments": ("evolution.criterion=lexicase",),
    "parsimony": ("evolution.parsimony=0.5",),
    "restarts": ("evolution.restart_after=60",),
    "learnt priorities": ("evolution.primitive_floor=0.25",),
    "a surrogate": ("surrogate.enabled=true",),
}
"""Name -> overrides of the table's config. ``paper`` and ``random`` have the same checks; each of
the others is the default without one ingredient, or with another one."""
RIVALS = ("random", "paper")
GRID = 60
RESAMPLES = 2000
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
PROPOSAL_SECONDS = 1e-4
"""What a proposal costs on the simulated clock."""


class Forgetful:
    """A store of one search that keeps nothing, for what happens is in the controller's state."""

    def __init__(self, config: SearchConfig) -> None:
        self._created = ev.Created(config=config)
        self._seq = 1

    def append(self, lease: Lease, events: Sequence[ev.Event], done: Sequence[int] = ()) -> int:
        self._seq += len(events)
        return self._seq

    def events(self, search_id: str, after: int = 0) -> Iterator[ev.StoredEvent]:
        yield ev.StoredEvent(seq=1, at=NEVER, event=self._created)

    def snapshot(self, search_id: str) -> Snapshot | None:
        return None

    def save(self, lease: Lease, snapshot: Snapshot) -> None: ...

    def commands(self, lease: Lease) -> list[StoredCommand]:
        return []

    def create(self, search_id: str, title: str, created: ev.Event) -> SearchInfo:
        raise NotImplementedError

    def searches(self) -> list[SearchInfo]:
        return []

    def search(self, ref: str) -> SearchInfo:
        raise NotImplementedError

    def acquire(self, search_id: str, owner: str, seconds: float) -> Lease:
        return Lease(search_id, owner, 1)

    def renew(self, lease: Lease, seconds: float) -> None: ...

    def release(self, lease: Lease) -> None: ...

    def send(self, search_id: str, command: Command) -> int:
        raise NotImplementedError

    def close(self) -> None: ...


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


@cache
def _screen(path: str, variant: str) -> Screen:
    """One for all seeds: what it remembers are answers of pure functions."""
    return Screen(configured(_loaded(path), variant, 0))


def configured(table: Table, variant: str, seed: int, more: Sequence[str] = ()) -> SearchConfig:
    """The table's config as the variant has it."""
    data = table.header.config.model_dump(mode="json")
    fixed = ("confirmation.enabled=false", "baselines=[]", "budget.evaluations=1000000")
    for text in (*fixed, *VARIANTS[variant], *more):
        set_override(data, *parse_override(text))
    return config_from({**data, "seed": seed})


def search(task: tuple[str, str, int, dict[str, Any]]) -> dict[str, Any]:
    """One search until its budget of training steps is spent, with its path.

    A point of the path: training steps, simulated seconds, hypervolume; one per change.
    """
    path, variant, seed, options = task
    table = _loaded(path)
    config = configured(table, variant, seed, options["set"])
    pool = TablePool(table, options["workers"], search_seed=seed, held_out=options["held_out"])
    store = Forgetful(config)
    controller = Controller(store, pool, store.acquire("table", "study", 1e9))
    if not options["set"]:
        controller.proposer.screen = _screen(path, variant)
    judge = Judge(table, config, pool.seeds.held_out)
    begin, state, budget = time.process_time(), controller.state, options["steps"]
    points: list[tuple[int, float, float]] = []
    front: frozenset[int] = frozenset()
    birth = steps = 0
    while state.phase == "search" and not controller.over and steps < budget:
        controller.step(0.0)
        pool.advance((state.next_birth - birth) * PROPOSAL_SECONDS)
        birth, steps = state.next_birth, state.train_steps.total()
        if state.front.members != front:
            front = state.front.members
            value = judge.hypervolume(state)
            if not points or value != points[-1][2]:
                points.append((steps, round(pool.now, 3), value))
    return {
        "variant": variant, "seed": seed, "steps": steps, "seconds": round(pool.now, 1),
        "exhausted": state.phase != "search", "hypervolume": points[-1][2] if points else 0.0,
        "proposals": state.next_birth, "asked": pool.asked, "outside": pool.outside,
        "evaluated": state.evaluated, "rejected": dict(state.rejected),
        "own_seconds": round(time.process_time() - begin, 2), "path": points,
    }  # fmt: skip


def reached(path: Sequence[Sequence[float]], level: float, axis: int, *, stays: bool) -> float:
    """Where along an axis (0 steps, 1 seconds) the path comes to the level; infinite if never.

    ``stays``: for good, else for the first time.
    """
    if level <= 0.0:
        return 0.0
    at = math.inf
    for point in path:
        if point[2] >= level:
            if at == math.inf:
                at = float(point[axis])
            if not stays:
                return at
        else:
            at = math.inf
    return at


def median(values: Sequence[float]) -> dict[str, float | None]:
    """Median with its bootstrap interval; None stands for infinity (the level is not reached).

    The upper of two middle values, so that an infinity never mixes with a number.
    """
    found = np.sort(np.asarray(values, dtype=float))
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.choice(found, size=(RESAMPLES, len(found))), axis=1)[:, len(found) // 2]
    low, high = np.sort(drawn)[[int(0.025 * RESAMPLES), int(0.975 * RESAMPLES) - 1]]
    finite = {"value": found[len(found) // 2], "low": low, "high": high}
    return {name: round(float(v), 4) if math.isfinite(v) else None for name, v in finite.items()}


def compare(rows: Sequence[dict[str, Any]], rival: str, variant: str) -> dict[str, Any]:
    """What the variant needs to reach the rival's hypervolume at the end, seed by seed.

    As a share of all that the rival spent, and of what it had spent when it first had as much.
    """
    theirs = {row["seed"]: row for row in rows if row["variant"] == rival}
    ours = {row["seed"]: row for row in rows if row["variant"] == variant}
    seeds = sorted(theirs.keys() & ours.keys())
    found: dict[str, Any] = {"seeds": len(seeds)}
    for axis, name in enumerate(("steps", "seconds")):
        spent, shares, stays, of_theirs = [], [], [], []
        for seed in seeds:
            level, end = theirs[seed]["hypervolume"], theirs[seed][name]
            own = reached(ours[seed]["path"], level, axis, stays=False)
            first = reached(theirs[seed]["path"], level, axis, stays=False)
            spent.append(own)
            shares.append(own / end)
            stays.append(reached(ours[seed]["path"], level, axis, stays=True) / end)
            of_theirs.append(own / first if first else 1.0)
        found[name] = {
            "needed": median(spent), "share": median(shares), "share_for_good": median(stays),
            "of_rivals_own": median(of_theirs),
            "reached_by": sum(math.isfinite(value) for value in spent) / max(1, len(seeds)),
        }  # fmt: skip
    return found


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Variant -> its hypervolume at the end, its costs, and what it needs to reach each rival."""
    found: dict[str, Any] = {}
    for variant in dict.fromkeys(row["variant"] for row in rows):
        some = [row for row in rows if row["variant"] == variant]
        asked = sum(row["asked"] for row in some)
        found[variant] = {
            "searches": len(some),
            "hypervolume": median([row["hypervolume"] for row in some]),
            "evaluated": median([row["evaluated"] for row in some]),
            "new_functions": median([row["asked"] for row in some]),
            "proposals": median([row["proposals"] for row in some]),
            "exhausted": sum(row["exhausted"] for row in some),
            "outside_share": sum(row["outside"] for row in some) / max(1, asked),
            "against": {
                rival: compare(rows, rival, variant)
                for rival in RIVALS
                if any(row["variant"] == rival for row in rows)
            },
        }
    return found


def bands(rows: Sequence[dict[str, Any]], axis: int) -> dict[str, list[Band]]:
    """Variant -> quartiles of the hypervolume over seeds, along an axis of the paths."""
    name = ("steps", "seconds")[axis]
    end = float(np.median([row[name] for row in rows]))
    grid = np.linspace(0.0, end, GRID)
    found: dict[str, list[Band]] = {}
    for variant in dict.fromkeys(row["variant"] for row in rows):
        values = np.array([_along(r["path"], axis, grid) for r in rows if r["variant"] == variant])
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        found[variant] = [Band(*one) for one in zip(grid, low, middle, high, strict=True)]
    return found


def _along(path: Sequence[Sequence[float]], axis: int, grid: Any) -> Any:
    """The hypervolume at each place of the grid; 0 before the first point."""
    if not path:
        return np.zeros(len(grid))
    places = np.searchsorted([point[axis] for point in path], grid, side="right") - 1
    values = np.array([point[2] for point in path])
    return np.where(places >= 0, values[np.maximum(places, 0)], 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=1, help="stored seeds kept from searches")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    options = {name: getattr(told, name) for name in ("steps", "workers", "held_out", "set")}
    tasks = [
        (str(told.table), variant, told.first_seed + seed, options)
        for variant in told.variants
        for seed in range(told.seeds)
    ]
    begin, rows = time.perf_counter(), []
    with ProcessPoolExecutor(told.processes) as pool:
        results = map(search, tasks) if told.processes == 1 else pool.map(search, tasks)
        for row in results:
            rows.append(row)
            if len(rows) % told.seeds == 0:
                seconds = time.perf_counter() - begin
                print(f"{row['variant']}: done after {seconds:.0f} s", flush=True)
    found = summary(rows)
    print(json.dumps(found, indent=1))
    header = _loaded(str(told.table)).header
    space = header.config.space
    result = {
        "table": {"primitives": list(space.allow), "nodes": space.nodes,
                  "functions": header.functions, "seeds": len(header.seeds)},
        "options": options, "variants": {name: list(VARIANTS[name]) for name in told.variants},
        "summary": found, "runs": [{k: v for k, v in row.items() if k != "path"} for row in rows],
    }  # fmt: skip
    print(write_result("table", result, told.out))
    for axis, name in enumerate(("training steps", "simulated seconds")):
        target = told.out / f"table_{name.split()[1]}.svg"
        write_bands(target, "Front on held-out seeds", name, "hypervolume", bands(rows, axis))


if __name__ == "__main__":
    main()
