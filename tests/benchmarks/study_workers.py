"""A controller with thousands of simulated workers: do they wait for it, and does it slow down?

``python -m tests.benchmarks.study_workers [--workers 5000] [--evaluations 80000]``. First a short
quickstart is really run; its candidates' outcomes and times, scaled so that a worker is ten minutes
at a candidate in the mean (``--mean-of evaluations``: at one that is trained to the end), are what
simulated workers answer with. Then the real controller with the real SQLite store makes real
proposals for them; what it takes by the real clock passes on the simulated one too. ``--sizes``:
what a proposal costs with so many candidates stored already. Writes ``results/workers.json`` and
``.svg``; a run of one part (``--evaluations 0``, or ``--sizes ""``) leaves the figures of the other
as they are. Figures of a busy machine are worth little (``--cpu-clock`` counts processor time in
place of real time).
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import pstats
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from db.engine import begin
from db.sql_store import SqlStore, record
from evosearch import events as ev
from evosearch.config import SearchConfig
from evosearch.controller import Controller
from evosearch.observe import observe
from evosearch.ports import Snapshot
from evosearch.presets import load_preset
from evosearch.records import EvaluationDone, Job, JobDone, Message
from evosearch.snapshot import dump_state, reopen
from evosearch.state import State
from tests.benchmarks.chart import write_chart
from tests.benchmarks.record import RESULTS, write_result
from tests.benchmarks.recorded import SEED, Outcome, record_search
from workers.simulated import SimulatedPool

ID = "workers1"
MEAN_SECONDS = 600.0
OF_THE_PAPER = ("evolution.population_size=2500", "evolution.tournament_share=0.05")
"""Thousands of workers need a population of its size; tournaments are as large as its own."""
BACKLOG = 2
"""Waiting jobs a worker, as the Ray pool has them."""
SCORE_NOISE = 0.02
"""Standard deviation put on recorded scores, so that the front keeps moving."""
BATCH = 250
POINTS = 20
Clock = Callable[[], float]


class Answers:
    """What a simulated worker answers: a recorded outcome, drawn from the job's id.

    A job without checks gets a full evaluation. Times are the recorded ones times ``factor``.
    """

    def __init__(self, outcomes: Sequence[Outcome], mean_of: str) -> None:
        self._outcomes = list(outcomes)
        self._full = [one for one in outcomes if one.rejected_by is None]
        counted = self._full if mean_of == "evaluations" else self._outcomes
        self.factor = MEAN_SECONDS / statistics.mean(one.seconds for one in counted)
        self.graphs = [one.graph for one in self._full]

    def __call__(self, job: Job) -> tuple[float, list[Message]]:
        rng = random.Random(job.id)
        outcome = rng.choice(self._outcomes if job.checks is not None else self._full)
        scored = {one.evaluation.anchor: one.evaluation for one in outcome.messages
                  if isinstance(one, EvaluationDone)}  # fmt: skip
        checks = {one.evaluation.anchor: one.checks for one in outcome.messages
                  if isinstance(one, EvaluationDone)}  # fmt: skip
        messages: list[Message] = []
        for run in job.runs if outcome.rejected_by is None else ():
            score = scored[run.anchor].score + rng.gauss(0.0, SCORE_NOISE)
            evaluation = scored[run.anchor].model_copy(
                update={"seed": run.seed, "learning_rate": run.learning_rate, "split": run.split,
                        "score": min(1.0, max(0.0, score))}
            )  # fmt: skip
            messages.append(
                EvaluationDone(job_id=job.id, evaluation=evaluation, checks=checks[run.anchor])
            )
        done = outcome.messages[-1]
        assert isinstance(done, JobDone)
        audit = done.audit_passed if job.audit else None
        messages.append(done.model_copy(update={"job_id": job.id, "audit_passed": audit}))
        return outcome.seconds * self.factor, messages


class Clocked:
    """A simulated pool whose clock also runs while the controller works, by a real clock."""

    def __init__(self, pool: SimulatedPool, clock: Clock) -> None:
        self.pool, self.capacity = pool, pool.capacity
        self.cancel, self.close = pool.cancel, pool.close
        self._clock, self._since, self._seconds = clock, clock(), 0.0

    @property
    def controller_seconds(self) -> float:
        """What the controller has taken until now."""
        self._pass()
        return self._seconds

    def submit(self, job: Job) -> None:
        self._pass()
        self.pool.submit(job)
        self._since = self._clock()

    def poll(self, timeout: float) -> list[Message]:
        self._pass()
        messages = self.pool.poll(timeout)
        self._since = self._clock()
        return messages

    def _pass(self) -> None:
        now = self._clock()
        self.pool.advance(now - self._since)
        self._seconds += now - self._since
        self._since = now


def memory() -> dict[str, float]:
    """Mebibytes of this process now, and at most so far."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"mib": round(pages * resource.getpagesize() / 2**20), "peak_mib": round(peak)}


def simulate(
    url: str, config: SearchConfig, answers: Answers, workers: int, target: int, clock: Clock
) -> dict[str, Any]:
    """A search until workers have evaluated so many candidates; figures on the way and in all."""
    store = SqlStore(url)
    store.create(ID, "study of workers", ev.Created(config=config))
    inner = SimulatedPool(answers, workers, BACKLOG * workers)
    pool = Clocked(inner, clock)
    controller = Controller(store, pool, store.acquire(ID, "study", 1e7), clock=clock)
    state = controller.state
    path: list[dict[str, Any]] = []
    full_at: tuple[float, float] | None = None
    while answered(state) < target and not controller.over and state.phase == "search":
        controller.step(0.0)
        if full_at is None:  # after the first fill; before it workers wait for first proposals
            full_at = (inner.now, inner.idle)
        if answered(state) >= target * (len(path) + 1) / POINTS:
            path.append(_figures(state, pool, workers))
            print(json.dumps(path[-1]), flush=True)
    assert full_at is not None
    found = {**_figures(state, pool, workers), "path": path, "rejected": dict(state.rejected)}
    steady = (inner.idle - full_at[1]) / (workers * (inner.now - full_at[0]))
    found["first_fill_seconds"], found["idle_after_first_fill"] = full_at[0], steady
    store.close()
    return found


def answered(state: State) -> int:
    """Candidates that a worker has evaluated: trained to the end, or up to the check that they
    failed."""
    return state.evaluated + state.rejected.total()


def _figures(state: State, pool: Clocked, workers: int) -> dict[str, Any]:
    queued = len(state.fingerprints)
    return {
        "answered": answered(state), "to_the_end": state.evaluated, "queued": queued,
        "proposals": state.next_birth,
        "simulated_hours": round(pool.pool.now / 3600, 3),
        "idle_share": round(pool.pool.idle / (workers * pool.pool.now), 5),
        "controller_share": round(pool.controller_seconds / pool.pool.now, 4),
        "ms_per_proposal": round(1e3 * pool.controller_seconds / state.next_birth, 4),
        "ms_per_candidate": round(1e3 * pool.controller_seconds / queued, 3),
        **memory(),
    }  # fmt: skip


class Filler:
    """Puts candidates into a store as a controller would, but for the proposals' checks.

    Graphs are recorded ones; identities are digests of the birth, so that none repeats. A store
    that holds candidates gets more of them.
    """

    def __init__(self, store: SqlStore, config: SearchConfig, answers: Answers) -> None:
        created = ev.Created(config=config)
        self.store, self.answers, self.state = store, answers, State(created)
        if store.searches():
            self.state, _ = reopen(store, ID)
        else:
            store.create(ID, "study of workers", created)

    def fill(self, candidates: int) -> None:
        """Up to so many candidates, each with its outcome, and a snapshot at the end."""
        lease = self.store.acquire(ID, "filler", 1e7)
        while self.state.next_birth < candidates:
            last, found = self.state.seq, []
            for _ in range(min(BATCH, candidates - self.state.next_birth)):
                found += self._one()
            at = datetime.now(UTC)
            rows = [(seq, at, one) for seq, one in enumerate(found, last + 1)]
            with begin(self.store.engine, write=True) as connection:
                record(connection, ID, last, rows)
        self.store.save(lease, Snapshot(self.state.seq, dump_state(self.state)))
        self.store.release(lease)

    def _one(self) -> list[ev.Event]:
        birth = self.state.next_birth
        identity = hashlib.sha256(str(birth).encode()).hexdigest()
        queued = ev.CandidateQueued(
            birth=birth, graph=self.answers.graphs[birth % len(self.answers.graphs)],
            digest=identity, fingerprint=identity, origin="random",
        )  # fmt: skip
        found: list[ev.Event] = [queued]
        self.state.apply(queued)
        for message in self.answers(self.state.pending[f"c{birth}"])[1]:
            for event in observe(self.state, message):
                found.append(event)
                self.state.apply(event)
        return found


def at_size(url: str, answers: Answers, candidates: int, clock: Clock) -> dict[str, Any]:
    """What the controller takes for so many further candidates of a stored search."""
    store = SqlStore(url)
    opening = clock()
    pool = Clocked(SimulatedPool(answers, 50, 50 * BACKLOG), clock)
    controller = Controller(store, pool, store.acquire(ID, "study", 1e7), clock=clock)
    opened, state = clock() - opening, controller.state

    def queued() -> int:
        return len(state.fingerprints)

    # The first fill, and the screen's memory with it; a search of this size has its baselines.
    first = queued()
    while queued() < first + pool.capacity or state.pending.purposes["baseline"]:
        controller.step(0.0)
    before = pool.controller_seconds, state.next_birth, queued()
    funnel = Counter({code: tally.seconds for code, tally in state.funnel.items()})
    while queued() < before[2] + candidates:
        controller.step(0.0)
    seconds, proposals = pool.controller_seconds - before[0], state.next_birth - before[1]
    checks = sum(tally.seconds for tally in state.funnel.values()) - funnel.total()
    store.close()
    made = queued() - before[2]
    return {
        "opening_seconds": round(opened, 2), "proposals": proposals, "candidates": made,
        "us_per_proposal": round(1e6 * seconds / proposals, 1),
        "us_per_proposal_in_checks": round(1e6 * checks / proposals, 1),
        "ms_per_candidate": round(1e3 * seconds / made, 2),
        "ms_per_candidate_besides_checks": round(1e3 * (seconds - checks) / made, 2),
        **memory(),
    }  # fmt: skip


def sizes(
    folder: Path, config: SearchConfig, answers: Answers, counts: list[int], each: int, clock: Clock
) -> list[dict[str, Any]]:
    """The cost of a proposal at each number of stored candidates.

    ``folder``: a store ``COUNT.db`` that is there is not filled again; the others are put there.
    """
    rows, before = [], None
    for count in counts:
        filled = folder / f"{count}.db"
        if not filled.exists():
            growing = folder / "growing.db"
            for path in folder.glob("growing.db*"):
                path.unlink()
            if before is not None:
                shutil.copyfile(before, growing)
            store = SqlStore(str(growing))
            Filler(store, config, answers).fill(count)
            with begin(store.engine) as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            store.close()
            growing.rename(filled)
        copy, before = folder / "copy.db", filled
        shutil.copyfile(filled, copy)
        rows.append({"stored": count, **at_size(str(copy), answers, each, clock)})
        print(json.dumps(rows[-1]), flush=True)
        for path in folder.glob("copy.db*"):
            path.unlink()
    return rows


def chart(rows: list[dict[str, Any]], path: Path) -> None:
    """Costs over stored candidates."""
    names = {
        "a proposal, us": "us_per_proposal",
        "a candidate, ms": "ms_per_candidate",
        "a candidate besides checks, ms": "ms_per_candidate_besides_checks",
    }
    lines = {
        name: {row["stored"]: max(row[key], 0.01) for row in rows} for name, key in names.items()
    }
    write_chart(path, "Controller", "candidates stored", "cost", lines)


def kept(folder: Path) -> dict[str, Any]:
    """The parts that an earlier run measured."""
    path = folder / "workers.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {key: found[key] for key in ("pool", "sizes") if key in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=5000)
    parser.add_argument(
        "--evaluations", type=int, default=80_000, help="by workers, checks and all"
    )
    parser.add_argument("--recorded", type=int, default=40, help="evaluations of the real search")
    parser.add_argument("--mean-of", choices=("evaluations", "jobs"), default="jobs")
    parser.add_argument("--sizes", default="1000,10000,100000,1000000", help="empty: not measured")
    parser.add_argument("--each", type=int, default=500, help="candidates measured at each size")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cpu-clock", action="store_true")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--folder", type=Path, help="where databases are put meanwhile")
    parser.add_argument("--keep", type=Path, help="filled stores are put there, and found again")
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    clock = time.process_time if told.cpu_clock else time.perf_counter
    outcomes = record_search("quickstart", (), told.recorded)
    answers = Answers(outcomes, told.mean_of)
    settings = [*OF_THE_PAPER, "confirmation.enabled=false", *told.set]

    config = load_preset("quickstart", [*settings, "budget.evaluations=1000000000"], seed=SEED)
    result: dict[str, Any] = {
        "workers": told.workers, "mean_of": told.mean_of, "overrides": settings,
        "clock": "processor" if told.cpu_clock else "real",
        "recorded": [[one.rejected_by, round(one.seconds, 4)] for one in outcomes],
        "factor": answers.factor,
    }  # fmt: skip
    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory(dir=told.folder) as name:
        if told.profile:
            profiler.enable()
        if told.evaluations:
            result["pool"] = simulate(
                f"{name}/pool.db", config, answers, told.workers, told.evaluations, clock
            )
            print({key: one for key, one in result["pool"].items() if key != "path"}, flush=True)
        if told.sizes:
            counts = [int(one) for one in told.sizes.split(",")]
            folder = told.keep or Path(name)
            folder.mkdir(parents=True, exist_ok=True)
            result["sizes"] = sizes(folder, config, answers, counts, told.each, clock)
            told.out.mkdir(exist_ok=True)
            chart(result["sizes"], told.out / "workers.svg")
        profiler.disable()
        if told.profile:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(35)
    print(write_result("workers", kept(told.out) | result, told.out))


if __name__ == "__main__":
    main()
