"""kill -9 of the controller, hundreds of times: ``python -m tests.benchmarks.study_kills``.

At moments uniform over a measured run, and in the middle of, before and after every commit; on
SQLite and PostgreSQL; with the inline pool (the resumed search has the log of the uninterrupted
one), with simulated workers and with Ray (every finished evaluation is kept once, none is trained
again whose result was kept, the front is that of all scores, and the log replays). A controller
with Ray takes seconds to start, so it is killed less often (``--ray-kills``, ``--ray-commits``). It
stops at the first search that does not hold. Each figure counts kills that did hit a controller.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.record import write_result
from tests.support.kills import Case, Rounds
from tests.support.postgres import Server, find_binaries

A_SEARCH = 10
"""Kills of one search at moments; then it is finished and looked at."""
FULL = 200
FULL_RAY = 20
EVALUATIONS = {"inline": 2, "simulated": 8, "ray": 4}


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[Callable[[], str]]:
    """Makes URLs of new databases of that kind."""
    if kind == "sqlite":
        numbers = itertools.count()
        yield lambda: f"{folder}/{next(numbers)}.db"
        return
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("no PostgreSQL server binaries on this machine")
    place = Path(tempfile.mkdtemp(prefix="evosearch-pg-"))
    server = Server(binaries, place)
    try:
        yield server.new_database
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)


def study(case: Case, kills: int, commits: int) -> dict[str, Any]:
    """Kills until so many have hit; returns what was hit."""
    begin, rng = time.monotonic(), random.Random(0)
    rounds = Rounds(case)
    print(f"  uninterrupted: {rounds.seconds:.1f} s, {len(rounds.expected)} events", flush=True)
    while rounds.kills < kills:
        count = min(A_SEARCH, kills - rounds.kills)
        # One moment from each of ``count`` equal parts of the run, so that all of it is covered.
        rounds.at_moments([(part + rng.random()) / count for part in range(count)])
        print(f"  {rounds.kills} of {kills} kills", flush=True)
    moments = rounds.kills
    rounds.at_every_commit(commits)
    return {
        "kills at moments": moments,
        "kills at commits": rounds.kills - moments,
        "searches": case.searches,
        "events of the uninterrupted search": len(rounds.expected),
        "seconds of the uninterrupted search": round(rounds.seconds, 2),
        "trainings repeated because their result was not yet kept": rounds.repeated,
        "states hit": dict(sorted(rounds.hits.items())),
        "jobs pending when hit": {str(n): rounds.pending[n] for n in sorted(rounds.pending)},
        "seconds": round(time.monotonic() - begin, 1),
    }


def main() -> None:
    """Runs every case, prints and, if nothing was cut short, records what was hit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=FULL, help="at moments, for each case")
    parser.add_argument("--commits", type=int, default=10**9, help="kills at commits at most")
    parser.add_argument("--ray-kills", type=int, default=FULL_RAY, help="the same with Ray")
    parser.add_argument("--ray-commits", type=int, default=FULL_RAY)
    parser.add_argument("--pools", default="inline,simulated,ray")
    parser.add_argument("--databases", default="sqlite,postgresql")
    told = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for kind, pool in itertools.product(told.databases.split(","), told.pools.split(",")):
        print(f"{kind}, {pool} pool", flush=True)
        with tempfile.TemporaryDirectory() as name, databases(kind, Path(name)) as new_url:
            case = Case(pool, new_url, Path(name), EVALUATIONS[pool])
            ray = pool == "ray"
            results[f"{kind}, {pool} pool"] = study(
                case, told.ray_kills if ray else told.kills,
                told.ray_commits if ray else told.commits,
            )  # fmt: skip
        print(results[f"{kind}, {pool} pool"], flush=True)
    whole = told.kills >= FULL and told.commits >= 10**9 and len(results) == 6
    whole &= min(told.ray_kills, told.ray_commits) >= FULL_RAY
    if whole:
        print(write_result("kills", {"cases": results}))


if __name__ == "__main__":
    main()
