"""A pool that answers jobs from a table, under the simulated clock.

The worker's own code decides: the same stages, checks, details and costs as in `workers.evaluate`,
over trainings that only look up what was measured. This file must not train anything or read the
real clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from evosearch.config import Checks, Stability, Task
from evosearch.errors import ConfigError, WorkerError
from evosearch.records import Failure, Job, JobDone, Message, Rejection, Run, Split
from evosearch.screen import WORKER_CODES
from evosearch.streams import evaluation_seed, sample, stream
from workers.checks import derived_statistics
from workers.evaluate import Context, run_job
from workers.layers import LayerFactory
from workers.simulated import SimulatedPool
from workers.table.form import Ascent, Row, Stored, Table
from workers.training import Score, Training

OUTSIDE = "outside_table"
NO_SEED = "the table has no further seed"
"""Why a training with a seed that no stored one stands for fails."""


class Seeds(NamedTuple):
    """Which stored seeds (by position) answer a search, and which are kept from it."""

    answers: tuple[int, ...]
    held_out: tuple[int, ...]


def plan_seeds(search_seed: int, stored: int, held_out: int) -> Seeds:
    """The stored seeds in an order drawn from the search's seed; the last ones are held out.

    Raises:
        ConfigError: no seed would be left to answer with.
    """
    if not 0 <= held_out < stored:
        raise ConfigError(
            "too many seeds are held out", got=str(held_out), expected=f"at most {stored - 1}"
        )
    order = sample(stream(search_seed, "table", 1), range(stored), stored)
    return Seeds(tuple(order[: stored - held_out]), tuple(order[stored - held_out :]))


class TablePool(SimulatedPool):
    """Simulated workers that know what the table holds.

    ``search_seed``, ``held_out``: of `plan_seeds`; the search's first seed and the fresh ones of
    its re-measurements are then distinct stored seeds. Without a ``search_seed`` a stored seed
    answers for itself. A job with any other seed fails at once and costs nothing, for a number that
    was given before is no new measurement.
    ``asked``: first jobs of candidates so far; ``outside``: of these, not in the table.
    ``fresh``: re-measurements so far; ``ran_out``: of these, without a stored seed.
    """

    def __init__(
        self,
        table: Table,
        workers: int = 1,
        backlog: int = 0,
        *,
        search_seed: int | None = None,
        held_out: int = 0,
    ) -> None:
        super().__init__(self.answer, workers, backlog)
        self.table, self.asked, self.outside = table, 0, 0
        self.fresh = self.ran_out = 0
        self.seeds = Seeds(tuple(range(len(table.header.seeds))), ())
        self._drawn = {seed: index for index, seed in enumerate(table.header.seeds)}
        if search_seed is not None:
            self.seeds = plan_seeds(search_seed, len(table.header.seeds), held_out)
            self._drawn = _drawn(search_seed, self.seeds.answers)
        self._context = _Context(table, self._place)
        self._known: set[str] = set()
        self._task: Task | None = None
        self._checks: Checks | None = None

    @property
    def miss_rate(self) -> float:
        """Share of the candidates so far that the table does not hold."""
        return self.outside / self.asked if self.asked else 0.0

    def _place(self, seed: int) -> int:
        """Position of the stored seed that answers for the run's."""
        return self._drawn[seed]

    def answer(self, job: Job) -> tuple[float, Sequence[Message]]:
        """Seconds of a worker, and the messages that it would send.

        Raises:
            ConfigError: the job asks for what was not measured.
            WorkerError: a training was not carried so far.
        """
        self._refuse_unfit(job)
        known = all(run.seed in self._drawn for run in job.runs)
        if job.purpose == "remeasure":
            self.fresh += 1
            self.ran_out += not known
        if not known:
            failure = Failure(cause="error", detail=NO_SEED)
            return 0.0, [JobDone(job_id=job.id, failure=failure, worker="table")]
        if job.graph is not None:
            inside = self.table.find(job.graph) is not None
            if job.purpose == "search" and job.id not in self._known:
                self._known.add(job.id)
                self.asked += 1
                self.outside += not inside
            if not inside:
                rejection = Rejection(code=OUTSIDE, detail=WORKER_CODES[OUTSIDE])
                return 0.0, [JobDone(job_id=job.id, rejection=rejection, worker="table")]
        begin = self._context.now
        messages = list(run_job(job, self._context))
        last = messages[-1]
        if isinstance(last, JobDone) and last.failure is not None:
            raise WorkerError("the table cannot answer", where=job.id, got=last.failure.detail)
        return self._context.now - begin, messages

    def _refuse_unfit(self, job: Job) -> None:
        """Refuse a job that asks for something else than what was measured.

        Raises:
            ConfigError: task, checks, rate or split are others.
        """
        header = self.table.header
        mine = header.config
        if job.task is not self._task:
            if _measured(job.task) != _measured(mine.task):
                raise ConfigError("the table is of another task", where="task")
            self._task = job.task
        checks = job.checks
        if checks is not None and checks is not self._checks:
            steps = {*checks.hurdles.steps} | (
                {checks.quality.steps} if checks.quality.enabled else set()
            )
            other = next((s for s in steps if s not in header.milestones and s < mine.task.steps),
                         None)  # fmt: skip
            if other is not None:
                raise ConfigError(
                    "the table has no scores at that step", where="checks", got=str(other),
                    expected="some of " + ", ".join(map(str, header.milestones)),
                )  # fmt: skip
            if checks.stability.enabled and checks.stability != mine.checks.stability:
                raise ConfigError("the table is of another check", where="checks.stability")
            self._checks = checks
        for run in job.runs:
            if run.learning_rate != mine.task.learning_rate or run.split != "select":
                raise ConfigError(
                    "the table holds one learning rate, scored on select", where=job.id,
                    got=f"rate {run.learning_rate:g}, {run.split}",
                    hint="confirmation.enabled=false",
                )  # fmt: skip


def _drawn(search_seed: int, answers: tuple[int, ...]) -> dict[int, int]:
    """Seed of a training -> position of the stored seed: the first one, then one a fresh seed."""
    drawn = {
        evaluation_seed(search_seed, "remeasure", index): place
        for index, place in enumerate(answers[1:], 1)
    }
    return drawn | {evaluation_seed(search_seed, "search", 0): answers[0]}


def _measured(task: Task) -> Task:
    """The task without what only judges scores."""
    plain = {"reference": 0.0, "references": {}, "quality": None}
    return task.model_copy(
        update={"anchors": tuple(one.model_copy(update=plain) for one in task.anchors)}
    )


class _Context(Context):
    """A worker whose trainings are looked up and whose clock is moved by their stored costs."""

    def __init__(self, table: Table, place: Callable[[int], int]) -> None:
        super().__init__(worker="table", clock=self.time)
        self.now = 0.0
        self.table, self._place = table, place
        self._relative: dict[tuple[str, str, int], dict[str, float]] = {}

    def time(self) -> float:
        """Simulated seconds of work so far."""
        return self.now

    def training(self, run: Run, task: Task, layer: LayerFactory) -> Training:
        stored, row, place = self._stored(run, layer)
        if layer.has_groups:
            layer.groups.update(self.table.header.groups.get(run.anchor, {}))
        self.now += stored.build_seconds
        return StoredTraining(run, task, self, stored, row.ascents[place])

    def statistics(self, training: Training) -> dict[str, float]:
        assert isinstance(training, StoredTraining)
        self.now += training.stored.signal_seconds
        return derived_statistics(training.stored.signal)

    def ascent(self, training: Training, settings: Stability) -> tuple[float, int]:
        assert isinstance(training, StoredTraining)
        found = training.ascended
        if found is None:
            raise ConfigError(
                "the table holds no ascent of this layer", got=training.run.anchor,
                hint="a quality bar at least as high as the one that it was built with",
            )  # fmt: skip
        self.now += found.seconds
        return found.norm, found.steps

    def reference(self, run: Run, task: Task, name: str) -> dict[str, float]:
        place = self._place(run.seed)
        key = (name, run.anchor, place)
        if key not in self._relative:
            row = self.table.rows[self.table.baseline(name)]
            stored = row.runs[place][self._anchor(run.anchor)]
            self._relative[key] = derived_statistics(stored.signal)
        return self._relative[key]

    def _stored(self, run: Run, layer: LayerFactory) -> tuple[Stored, Row, int]:
        table, place = self.table, self._place(run.seed)
        graph = layer.graph
        if layer.baseline is not None:
            index = table.baseline(layer.baseline)
        else:
            found = table.find(graph) if graph is not None else None
            assert found is not None  # what is outside was answered before
            index = found
        row = table.rows[index]
        return row.runs[place][self._anchor(run.anchor)], row, place

    def _anchor(self, name: str) -> int:
        return self.table.header.config.anchor_names.index(name)


class StoredTraining(Training):
    """A training whose every answer was measured before; nothing is computed."""

    def __init__(
        self, run: Run, task: Task, context: _Context, stored: Stored, ascended: Ascent | None
    ) -> None:
        self.run, self.task = run, task
        self.step, self.diverged = 0, False
        self.curve = []
        self.stored, self.ascended = stored, ascended
        self._context = context

    def advance(self, to_step: int) -> int:
        """Go to that step, or to where a worker on a CPU has seen the divergence: at once."""
        start, stored = self.step, self.stored
        to_step = min(to_step, self.task.steps)
        if self.diverged or to_step <= start:
            return 0
        bad = stored.diverged_at
        if bad and bad <= to_step:
            to_step, self.diverged = bad, True
        elif to_step > stored.trained:
            raise ConfigError(
                "the table holds fewer steps of this layer",
                got=f"step {to_step} of {stored.trained} on {self.run.anchor}",
                hint="a quality bar at least as high as the one that it was built with",
            )
        self.step = to_step
        self.curve = [point for point in stored.curve if point[0] <= to_step]
        self._context.now += (to_step - start) * stored.step_seconds
        return to_step - start

    def score(self, split: Split) -> Score:
        """The stored score at the present step."""
        found = self.stored.scores.get(self.step) if split == "select" else None
        if found is None:
            raise ConfigError("the table has no such score", got=f"{split}, step {self.step}")
        self._context.now += self.stored.score_seconds
        return Score(found, "")

    def measured(self, split: Split) -> tuple[Score, dict[str, float]]:
        return self.score(split), {}

    @property
    def worst(self) -> float:
        return self._context.table.header.worst[self.run.anchor]
