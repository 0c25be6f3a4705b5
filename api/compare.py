"""Trains one layer beside the known ones: an answer within a minute, before any search.

Every layer gets the same seeds, so the same initial weights and batches. Scores are on ``select``,
at the preset's one learning rate: this is a look, not a claim, and it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.report_text import say
from api.tables import table
from api.text import duration
from evosearch.config import SearchConfig
from evosearch.errors import WorkerError
from evosearch.ports import Pool
from evosearch.records import EvaluationDone, Job, JobDone, Run, Subject
from evosearch.report import formula_of, known_as
from evosearch.screen import SCREEN_CODES, Screen
from evosearch.stats import mean_interval
from evosearch.streams import evaluation_seed
from primitives.graph import Graph

if TYPE_CHECKING:
    from rich.status import Status

BESIDE = ("bn-relu", "bn-silu", "gn-silu", "evonorm-b0", "evonorm-s0")
"""Known layers beside which one is trained, where every anchor takes them."""
LEVEL = 0.95
MINE = Subject(birth=0)
CHECKED = "checks"


def compare(
    graph: Graph,
    config: SearchConfig,
    seeds: int,
    make_pool: Callable[[], Pool],
    console: Console,
) -> None:
    """Train, then print the checks' verdicts and the table."""
    say(console, f"layer: {formula_of(graph)}", "bold")
    known = known_as(graph)
    if known:
        say(console, f"equals {known} of the catalog in function")
    fault = Screen(config).judge(graph, {}, {}).code
    if fault is not None:
        say(console, f"a search would reject it in the controller: {fault}, {SCREEN_CODES[fault]}")
    pool = make_pool()
    try:
        done = Comparison(graph, config, seeds)
        with console.status("training ...") as status:
            done.run(pool, status)
    finally:
        pool.close()
    say(console, done.verdict())
    console.print(done.table())
    for key, cause in done.failed.items():
        say(console, f"failed: {key}: {cause}")
    rate = config.task.learning_rate
    say(
        console,
        f"accuracy on select, {seeds} seeds, one learning rate ({rate:g}), {100 * LEVEL:g} % "
        f"intervals over seeds; training took {duration(done.seconds)} of worker time",
    )


class Comparison:
    """The trainings of one comparison and what came of them."""

    def __init__(self, graph: Graph, config: SearchConfig, seeds: int) -> None:
        from api.own_config import allowed_baselines

        self._graph, self._config, self._seeds = graph, config, seeds
        # Where an anchor forbids what these mix, the config's own baselines stand in.
        self.beside = allowed_baselines(config.task.anchors, BESIDE) or [*config.baselines]
        self.scores: dict[str, dict[str, dict[int, float]]] = {}
        self.failed: dict[str, str] = {}
        self.checks: JobDone | None = None
        self.seconds = 0.0

    def run(self, pool: Pool, status: Status) -> None:
        """Have everything trained.

        Raises:
            WorkerError: the pool came to nothing.
        """
        waiting = list(self._jobs())
        total, open_jobs = len(waiting), dict[str, Job]()
        while waiting or open_jobs:
            while waiting and len(open_jobs) < pool.capacity:
                job = waiting.pop(0)
                open_jobs[job.id] = job
                pool.submit(job)
            for message in pool.poll(0.5):
                job = open_jobs[message.job_id]
                if isinstance(message, EvaluationDone):
                    one = message.evaluation
                    rows = self.scores.setdefault(job.subject.key, {})
                    rows.setdefault(one.anchor, {})[one.seed] = one.score
                    continue
                del open_jobs[message.job_id]
                self._ended(job, message)
                if job.id == CHECKED and message.rejection is not None:
                    waiting.insert(0, self._job(0))
            left = len(waiting) + len(open_jobs)
            status.update(f"training: {total - left} of {total} jobs done")
        if not self.scores:
            raise WorkerError("nothing could be trained", got="; ".join(self.failed.values()))

    def verdict(self) -> str:
        """What the worker-side checks say about the layer."""
        if self.checks is None or self.checks.failure is not None:
            return "the checks came to no verdict"
        if self.checks.rejection is None:
            return "the checks signal, quality and stability pass it"
        last = self.checks.checks[-1].check if self.checks.checks else "a check"
        return f"a search would reject it at {last}: {self.checks.rejection.detail}"

    def table(self) -> Table:
        """Mean score with its interval, per layer and anchor."""
        made = table()
        made.add_column("layer", no_wrap=True)
        for anchor in self._config.anchor_names:
            made.add_column(anchor, justify="right", no_wrap=True)
        for key in (MINE.key, *self.beside):
            rows = self.scores.get(key, {})
            cells = [self._cell(rows.get(anchor, {})) for anchor in self._config.anchor_names]
            mine = key == MINE.key
            made.add_row("this layer" if mine else key, *cells, style="bold" if mine else None)
        return made

    def _cell(self, scores: dict[int, float]) -> Text:
        values = np.array([scores[seed] for seed in sorted(scores)])
        if not len(values):
            return Text("-")
        if len(values) == 1:
            return Text(f"~{values[0]:.3f}")
        found = mean_interval(values, level=LEVEL, seed=0)
        return Text(f"{found.value:.3f} [{_short(found.low)}, {_short(found.high)}]")

    def _ended(self, job: Job, message: JobDone) -> None:
        self.seconds += message.seconds
        if job.id == CHECKED:
            self.checks = message
        if message.failure is not None:
            self.failed[job.subject.key] = message.failure.detail or message.failure.cause

    def _jobs(self) -> Iterator[Job]:
        yield self._job(0).model_copy(
            update={"id": CHECKED, "purpose": "search", "checks": self._config.checks}
        )
        for index in range(self._seeds):
            if index:
                yield self._job(index)
            for name in self.beside:
                yield self._job(index, name)

    def _job(self, index: int, baseline: str | None = None) -> Job:
        """One layer, one seed, every anchor."""
        task = self._config.task
        seed = evaluation_seed(self._config.seed, "search", index)
        subject = MINE if baseline is None else Subject(baseline=baseline)
        return Job(
            id=f"{subject.key}/{index}",
            purpose="baseline",
            subject=subject,
            graph=self._graph if baseline is None else None,
            runs=tuple(
                Run(anchor=anchor.name, seed=seed, learning_rate=task.learning_rate)
                for anchor in task.anchors
            ),
            task=task,
        )


def _short(share: float) -> str:
    """A share without its leading zero, so that three intervals stand in 80 columns."""
    return f"{share:.3f}".removeprefix("0")
