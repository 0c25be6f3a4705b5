"""Speed of the SQLite store as a search grows: ``python -m tests.benchmarks.bench_store``.

At each size: reads (queries counted, median milliseconds), durable outcome transactions a second,
the bare driver with the same statements and rows in the same run, and the time to open the search
for a resume, from its snapshot and by folding its whole log. ``--sizes`` names the sizes; with a
million as the last one it takes about an hour. It writes results/store.json, a table and a chart.
Figures of a busy machine are worth little.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import event as hooks

from db import rows as stored
from db.admin import vacuum
from db.check import check
from db.engine import begin
from db.queries import Queries
from db.sql_store import SqlStore, record
from db.worked import worked_seconds
from evosearch.events import Event, Skipped
from evosearch.ports import Snapshot
from evosearch.propose import Proposer
from evosearch.snapshot import dump_state, reopen, worth_saving
from evosearch.state import State, recover
from evosearch.streams import evaluation_seed
from tests.benchmarks.chart import write_chart
from tests.benchmarks.record import RESULTS, write_result
from tests.support.events import (
    ANCHORS,
    CREATED,
    dominates,
    evaluated,
    evaluation,
    graph,
    queued,
    rejected,
    standing,
)
from tests.support.rest_reads import Reads, figures, lists

ID = "bench001"
WARM = 20
SEED = evaluation_seed(CREATED.config.seed, "search", 0)


class Log:
    """An endless log with a true front; half of the candidates are evaluated."""

    def __init__(self) -> None:
        self._rng = random.Random(0)
        self._front: dict[int, list[float]] = {}
        self._evaluated: list[int] = []
        self.birth = 0

    def queue(self) -> Event:
        """The next candidate, with what the controller skipped before it."""
        self.birth += 1
        parents = (self._rng.choice(self._evaluated),) if self._evaluated else ()
        skipped = Skipped(
            counts={"no_x": 210, "constant": 70, "repeat": 12},
            seconds={"no_x": 0.01, "constant": 0.005, "repeat": 0.002},
            repeats=dict.fromkeys(self._some(12), 1),
            examples=((self.birth, "constant", graph(self.birth)),) if self.birth < 120 else (),
        )
        return queued(self.birth, parents, skipped=skipped)

    def _some(self, count: int) -> set[int]:
        recent = self._evaluated[-2500:]
        return {self._rng.choice(recent) for _ in range(count)} if recent else set()

    def outcome(self) -> list[Event]:
        """All trainings and the outcome of the newest candidate."""
        birth, scores = self.birth, [self._rng.betavariate(4, 4) for _ in ANCHORS]
        self._evaluated.append(birth)
        into: list[int] = []
        out: list[int] = []
        if not any(dominates(other, scores) for other in self._front.values()):
            out = [one for one, other in self._front.items() if dominates(scores, other)]
            into = [birth]
            self._front = {k: v for k, v in self._front.items() if k not in out} | {birth: scores}
        curve = tuple((step, 2.0 / step) for step in range(1, 101, 10))
        runs: list[Event] = [
            evaluation(birth, anchor, score, seed=SEED, curve=curve)
            for anchor, score in zip(ANCHORS, scores, strict=True)
        ]
        return [*runs, evaluated(birth, standing(scores, into, out, self.birth / 1e9))]

    def both(self) -> list[Event]:
        """A candidate from proposal to outcome; every second one is rejected."""
        new = self.queue()
        return [new, rejected(self.birth)] if self.birth % 2 else [new, *self.outcome()]


class Search:
    """The search in the store, grown as a controller would grow it, snapshots included."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.log = store, Log()
        self.state, self.saved = State(CREATED), 0
        store.create(ID, "benchmark", CREATED)

    def apply(self, events: Sequence[Event]) -> None:
        """What was stored happens to the state too."""
        for event in events:
            self.state.apply(event)

    def grow(self, candidates: int) -> None:
        """Records candidates, many in one transaction.

        What follows from a graph is computed once for each of the 4,096 that come again and again;
        filling is no part of what is measured.
        """
        with mock.patch.object(stored, "graph_columns", cache(stored.graph_columns)):
            self._grow(candidates)

    def _grow(self, candidates: int) -> None:
        lease = self.store.acquire(ID, "bench", 36_000)
        while self.log.birth < candidates:
            with begin(self.store.engine, write=True) as connection:
                for _ in range(min(20, -(-(candidates - self.log.birth) // 250))):
                    count = min(250, candidates - self.log.birth)
                    events = [one for _ in range(count) for one in self.log.both()]
                    at, last = datetime.now(UTC), self.state.seq
                    numbered = [(seq, at, one) for seq, one in enumerate(events, last + 1)]
                    record(connection, ID, last, numbered)
                    self.apply(events)
            if worth_saving(self.state, self.saved):
                self.saved = self.state.seq
                self.store.save(lease, Snapshot(self.saved, dump_state(self.state)))
        self.store.release(lease)

    def opening(self, fold: bool) -> dict[str, float]:
        """Seconds to open the search, and how many events came after its snapshot.

        Beside the state the service reads how long the search was worked on, and sets up proposals.
        """
        figures: dict[str, float] = {"events after the snapshot": self.state.seq - self.saved}
        figures["open_s"] = round(timed(lambda: self.same(reopen(self.store, ID)[0])), 2)
        if fold:
            figures["fold_s"] = round(timed(lambda: self.same(recover(self.store.events(ID)))), 2)
        figures["worked_s"] = round(timed(lambda: worked_seconds(self.store, ID)), 2)
        figures["proposer_s"] = round(timed(lambda: Proposer(self.state)), 2)
        figures["save_s"] = round(timed(lambda: dump_state(self.state)), 2)
        return figures

    def same(self, state: State) -> None:
        """Fail unless that is this search's state."""
        assert (state.seq, state.hypervolume) == (self.state.seq, self.state.hypervolume)
        assert state.front.members == self.state.front.members


def outcomes(search: Search, count: int) -> dict[str, float]:
    """Durable outcome transactions a second, through the store and through the bare driver.

    The bare driver gets the writing statements and rows of the very same transactions, on a copy
    of the database as it was before them. A few more go before, uncounted: a process builds its
    statements once.
    """
    store, log = search.store, search.log
    path = Path(store.url)
    lease = store.acquire(ID, "bench", 3600)
    batches = []
    queue: list[Event] = []
    for _ in range(WARM + count):
        queue.append(log.queue())
        batches.append(log.outcome())
    store.append(lease, queue)
    search.apply(queue)
    for batch in batches[:WARM]:
        store.append(lease, batch)
        search.apply(batch)
    del batches[:WARM]
    with store.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = path.with_name("bare.db")
    shutil.copyfile(path, copy)
    recorded: list[list[tuple[str, Any, bool]]] = []

    def note(_c: Any, _k: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if statement.startswith("BEGIN"):
            recorded.append([])
        elif not statement.startswith("SELECT"):
            recorded[-1].append((statement, parameters, many))

    hooks.listen(store.engine, "before_cursor_execute", note)
    mine = [timed(lambda batch=batch: store.append(lease, batch)) for batch in batches]
    hooks.remove(store.engine, "before_cursor_execute", note)
    search.apply([event for batch in batches for event in batch])
    bare = sqlite3.connect(copy, isolation_level=None)
    bare.execute("PRAGMA foreign_keys = ON")
    bare.execute("PRAGMA synchronous = FULL")
    theirs = [timed(lambda one=one: _bare(bare, one)) for one in recorded]
    bare.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"bare.db{suffix}").unlink(missing_ok=True)
    store.release(lease)
    return {
        "n": count,
        "store_per_s": round(1 / statistics.fmean(mine), 1),
        "bare_per_s": round(1 / statistics.fmean(theirs), 1),
        "store_median_ms": round(statistics.median(mine) * 1e3, 3),
        "store_p95_ms": round(statistics.quantiles(mine, n=20)[-1] * 1e3, 3),
        "bare_median_ms": round(statistics.median(theirs) * 1e3, 3),
        "ratio": round(statistics.fmean(theirs) / statistics.fmean(mine), 3),
    }


def _bare(connection: sqlite3.Connection, statements: list[tuple[str, Any, bool]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement, parameters, many in statements:
        if many:
            connection.executemany(statement, parameters)
        else:
            connection.execute(statement, parameters)
    connection.execute("COMMIT")


def timed(task: Callable[[], object]) -> float:
    """Seconds that the task takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def reads(store: SqlStore, log: Log) -> Iterator[tuple[str, dict[str, float]]]:
    """Each read model: statements and milliseconds."""
    queries, middle = Queries(store), log.birth // 2
    tasks: dict[str, Callable[[], object]] = {
        "list of searches": queries.searches,
        "front": lambda: queries.front(ID),
        "funnel": lambda: queries.funnel(ID),
        "states": lambda: queries.states(ID),
        "population summary": lambda: queries.population(ID, 2500),
        "candidate": lambda: queries.candidate(ID, middle),
        "newest events": lambda: queries.events(ID, newest=True),
    }
    rest = Reads(store, ID)
    tasks |= {f"REST: {name}": task for name, task in lists(rest, ANCHORS[0]).items()}
    tasks |= {f"REST: {name}": task for name, task in figures(rest, 2500).items()}
    for name, task in tasks.items():
        statements: list[str] = []

        def note(_c: Any, _k: Any, text: str, *_: Any, to: list[str] = statements) -> None:
            to.append(text)

        hooks.listen(store.engine, "before_cursor_execute", note)
        task()
        hooks.remove(store.engine, "before_cursor_execute", note)
        spans = [timed(task) * 1e3 for _ in range(30)]
        yield (
            name,
            {
                "statements": sum(not one.startswith("BEGIN") for one in statements),
                "median_ms": round(statistics.median(spans), 2),
                "max_ms": round(max(spans), 2),
            },
        )


def measure(search: Search, count: int, whole: bool) -> dict[str, Any]:
    """All figures at the size that the search has."""
    store = search.store
    figures: dict[str, Any] = {"candidates": search.log.birth, "events": search.state.seq}
    figures["file_mib"] = round(Path(store.url).stat().st_size / 2**20, 1)
    figures["reads"] = dict(reads(store, search.log))
    figures["opening"] = search.opening(whole)
    if whole:
        problems: list[str] = []
        figures["check_s"] = round(timed(lambda: problems.extend(check(store))), 1)
        assert problems == []
    # Last, for it leaves candidates of its own behind.
    figures["outcomes"] = outcomes(search, count)
    return figures


def table(figures: Sequence[dict[str, Any]]) -> str:
    """The figures as a Markdown table, a column a size."""
    names = list(figures[0]["reads"])
    rows = [["candidates", *(f"{one['candidates']:,}" for one in figures)]]
    rows.append(["---", *("---:" for _ in figures)])
    for name in names:
        rows.append([f"{name}, ms", *(f"{one['reads'][name]['median_ms']:g}" for one in figures)])
    rows.append(["durable outcomes/s", *(f"{one['outcomes']['store_per_s']:g}" for one in figures)])
    rows.append(["of the bare driver's", *(f"{one['outcomes']['ratio']:.0%}" for one in figures)])
    for name in ("open_s", "worked_s", "proposer_s", "fold_s"):
        cells = (one["opening"].get(name) for one in figures)
        rows.append([name.replace("_", ", "), *("-" if x is None else f"{x:g}" for x in cells)])
    rows.append(["check, s", *(f"{one['check_s']:g}" if "check_s" in one else "-"
                               for one in figures)])  # fmt: skip
    rows.append(["file, MiB", *(f"{one['file_mib']:,.0f}" for one in figures)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def chart(figures: Sequence[dict[str, Any]], path: Path) -> None:
    """Median milliseconds over candidates."""
    shown = {
        "first page": "REST: by birth, falling", "page by score": "REST: by mean_score, falling",
        "front": "front", "funnel": "funnel", "population summary": "population summary",
        "candidate": "candidate",
    }  # fmt: skip
    lines = {
        name: {one["candidates"]: max(one["reads"][key]["median_ms"], 0.01) for one in figures}
        for name, key in shown.items()
    }
    lines["record an outcome"] = {
        one["candidates"]: one["outcomes"]["store_median_ms"] for one in figures
    }
    lines["open for a resume"] = {
        one["candidates"]: max(one["opening"]["open_s"] * 1e3, 0.01) for one in figures
    }
    write_chart(path, "SQLite store", "candidates in the search", "median ms", lines)


def main() -> None:
    """Fills a store, measures it at each size, writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="100,1000,10000,100000,1000000")
    parser.add_argument("--outcomes", type=int, default=300)
    parser.add_argument("--whole", type=int, default=100_000, help="largest size to fold and check")
    parser.add_argument("--folder", type=Path, help="where the database is put meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are written")
    told = parser.parse_args()
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        store = SqlStore(f"{folder}/store.db")
        search = Search(store)
        for size in map(int, told.sizes.split(",")):
            seconds = timed(lambda size=size: search.grow(size))
            vacuum(store)
            figures.append(measure(search, told.outcomes, size <= told.whole))
            figures[-1]["fill_s"] = round(seconds, 1)
            print(json.dumps(figures[-1]), flush=True)
        store.close()
    versions = {"sqlite": sqlite3.sqlite_version, "load": round(os.getloadavg()[0], 1)}
    path = write_result("store", {**versions, "sizes": figures}, told.out)
    path.with_suffix(".md").write_text(table(figures))
    chart(figures, path.with_suffix(".svg"))
    print(table(figures))


if __name__ == "__main__":
    main()
