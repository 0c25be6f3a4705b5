"""Speed of the SQLite store: ``python -m tests.benchmarks.bench_store [--candidates N]``.

Reads on a large search (queries counted, median milliseconds), durable outcome transactions a
second on a small and a large one, the bare driver with the same statements and rows in the same
run, and the time to read the whole log for a resume. Figures of a busy machine are worth little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import event as hooks

from db.admin import vacuum
from db.check import check
from db.engine import begin
from db.queries import Queries
from db.sql_store import SqlStore, insert_search, record
from evosearch.events import Event, Skipped
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

ID = "bench001"


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
            evaluation(birth, anchor, score, curve=curve)
            for anchor, score in zip(ANCHORS, scores, strict=True)
        ]
        return [*runs, evaluated(birth, standing(scores, into, out, self.birth / 1e9))]

    def both(self) -> list[Event]:
        """A candidate from proposal to outcome; every second one is rejected."""
        new = self.queue()
        return [new, rejected(self.birth)] if self.birth % 2 else [new, *self.outcome()]


def grow(store: SqlStore, log: Log, last: int, candidates: int) -> int:
    """Records candidates in one transaction; returns the last sequence number."""
    at = datetime.now(UTC)
    with begin(store.engine, write=True) as connection:
        while log.birth < candidates:
            events = [one for _ in range(250) for one in log.both()]
            numbered = [(seq, at, one) for seq, one in enumerate(events, last + 1)]
            record(connection, ID, last, numbered)
            last = numbered[-1][0]
    return last


def outcomes(store: SqlStore, log: Log, count: int) -> dict[str, float]:
    """Durable outcome transactions a second, through the store and through the bare driver.

    The bare driver gets the writing statements and rows of the very same transactions, on a copy
    of the database as it was before them.
    """
    path = Path(store.url)
    lease = store.acquire(ID, "bench", 3600)
    batches = []
    queue: list[Event] = []
    for _ in range(count):
        queue.append(log.queue())
        batches.append(log.outcome())
    store.append(lease, queue)
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
        "first page": lambda: queries.candidates(ID),
        "page in the middle": lambda: queries.candidates(ID, cursor=str(middle)),
        "page of evaluated": lambda: queries.candidates(ID, states=["evaluated"]),
        "page by score": lambda: queries.candidates(ID, order="score"),
        "deep page by score": lambda: queries.candidates(ID, order="score", cursor=f"0.5:{middle}"),
        "front": lambda: queries.front(ID),
        "funnel": lambda: queries.funnel(ID),
        "states": lambda: queries.states(ID),
        "population summary": lambda: queries.population(ID, 2500),
        "candidate": lambda: queries.candidate(ID, middle),
        "newest events": lambda: queries.events(ID, newest=True),
    }
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


def main() -> None:
    """Fills a store, measures it, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--outcomes", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the database is put meanwhile")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    told = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "sqlalchemy": sqlalchemy.__version__,
        },
    }
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        store, log = SqlStore(f"{folder}/store.db"), Log()
        with begin(store.engine, write=True) as connection:
            insert_search(connection, ID, "benchmark", CREATED, datetime.now(UTC))
        grow(store, log, 1, 100)
        figures["outcomes at 100"] = outcomes(store, log, told.outcomes)
        start = time.perf_counter()
        last = grow(store, log, store.search(ID).last_seq, told.candidates)
        figures["candidates"], figures["events"] = log.birth, last
        figures["fill_s"] = round(time.perf_counter() - start, 1)
        figures["outcomes at the end"] = outcomes(store, log, told.outcomes)
        vacuum(store)
        figures["file_mib"] = round(Path(store.url).stat().st_size / 2**20, 1)
        figures["reads"] = dict(reads(store, log))
        figures["read_log_s"] = round(timed(lambda: sum(1 for _ in store.events(ID))), 2)
        problems: list[str] = []
        figures["check_s"] = round(timed(lambda: problems.extend(check(store))), 1)
        figures["problems"] = problems
        store.close()
    text = json.dumps(figures, indent=1)
    print(text)
    if told.json:
        told.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
