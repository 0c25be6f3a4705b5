"""Runs one job, stage by stage, cheapest first, and streams what comes of it.

Signal on all anchors, quality on all anchors (the first steps of each training), stability, then
each training to its end; whatever fails ends the job at once. This file must not know which pool
it runs in. It is the worker's entry: the one place that catches every error of a layer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from evosearch.config import Checks, Task
from evosearch.records import (
    CheckRun,
    Evaluation,
    EvaluationDone,
    Failure,
    Job,
    JobDone,
    Message,
    Rejection,
    Run,
    Subject,
)
from workers import datasets
from workers.checkpoint import checkpoint_path, resume, save
from workers.checks import (
    Clock,
    check_hurdle,
    check_quality,
    check_signal,
    check_stability,
    judge_hurdle,
    signal_statistics,
)
from workers.datasets import Dataset
from workers.device import choose
from workers.layers import LayerFactory, layer_factory
from workers.training import Training

DETAIL_LENGTH = 600


@dataclass(slots=True)
class Context:
    """What a worker keeps between jobs: its name, clock, device, and the data it has loaded.

    ``device``: cpu, cuda, or auto for the GPU where there is one. ``checkpoints``: folder in which
    a training is kept when ``preempted`` is set while it runs.
    """

    worker: str = "inline"
    clock: Clock = time.perf_counter
    device: str = "auto"
    checkpoints: Path | None = None
    preempted: bool = False
    _loaded: dict[str, Dataset] = field(default_factory=dict)
    _references: dict[str, dict[str, float]] = field(default_factory=dict)

    def dataset(self, name: str) -> Dataset:
        """The data set on this worker's device, loaded once."""
        if name not in self._loaded:
            self._loaded[name] = datasets.load(name, choose(self.device))
        return self._loaded[name]

    def reference(self, run: Run, task: Task, name: str) -> dict[str, float]:
        """Signal statistics of the reference layer in that run's network, measured once."""
        key = f"{name} {run.anchor} {run.seed} {task.model_dump_json()}"
        if key not in self._references:
            layer = layer_factory(
                Job(id="", purpose="baseline", subject=Subject(baseline=name), graph=None,
                    runs=(run,), task=task)
            )  # fmt: skip
            training = Training(run, task, layer, self.dataset(task.dataset))
            self._references[key] = signal_statistics(training)
        return self._references[key]


class Preempted(Exception):
    """The worker was told to go; the training at hand is kept."""


def run_job(job: Job, context: Context) -> Iterator[Message]:
    """Messages of the job as they come; the last one is its `JobDone`, whatever happens."""
    work = _Work(job, context)
    try:
        yield from work.messages()
    except Exception as err:  # the worker's entry: a layer's error is a recorded failure
        yield work.done(failure=_failure(err))


def _failure(err: Exception) -> Failure:
    line = " ".join(f"{type(err).__name__}: {err}".split())
    if isinstance(err, Preempted):
        return Failure(cause="died", detail=line[:DETAIL_LENGTH])
    short_of_memory = isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError"
    # torch's allocator on the CPU has no error class of its own.
    short_of_memory |= isinstance(err, RuntimeError) and "allocate memory" in str(err)
    return Failure(
        cause="out_of_memory" if short_of_memory else "error", detail=line[:DETAIL_LENGTH]
    )


class _Work:
    """One job while it is done: its trainings, their seconds, and the checks so far."""

    def __init__(self, job: Job, context: Context) -> None:
        self.job, self.context, self.clock = job, context, context.clock
        self.start = context.clock()
        self.checks: list[CheckRun] = []
        self.trainings: dict[int, tuple[Training, LayerFactory]] = {}
        self.seconds = [0.0] * len(job.runs)
        self.early: dict[int, float] = {}

    def messages(self) -> Iterator[Message]:
        if self.job.checks is not None:
            rejected = self.reject(self.job.checks)
            if rejected is not None:
                yield rejected
                return
        for index, run in enumerate(self.job.runs):
            evaluation = self.train(index, run)
            if self.checks[-1].rejection is not None:
                yield self.done(rejection=self.checks[-1].rejection)
                return
            assert evaluation is not None
            yield EvaluationDone(
                job_id=self.job.id, evaluation=evaluation, checks=self.told_checks()
            )
        yield self.done()

    def reject(self, checks: Checks) -> JobDone | None:
        """The job's end, if a check rejects the layer."""
        rejection = self.signal(checks) if checks.signal.enabled else None
        if rejection is not None:
            passed = self.audit(checks) if self.job.audit and checks.quality.enabled else None
            return self.done(rejection=rejection, audit_passed=passed)
        if checks.quality.enabled:
            rejection = self.quality(checks)
        if rejection is None and checks.stability.enabled and self.job.runs:
            rejection = self.record(
                check_stability(self.training(0), checks.stability, self.clock), 0
            )
        return self.done(rejection=rejection) if rejection is not None else None

    def signal(self, checks: Checks) -> Rejection | None:
        for index, run in enumerate(self.job.runs):
            bounds = checks.signal.bounds.get(run.anchor, {})
            # An anchor without bounds may be no place for the reference layer at all.
            name = checks.signal.reference
            reference = self.context.reference(run, self.job.task, name) if bounds else None
            before = self.clock()
            training = self.training(index)
            built = self.clock() - before
            result = check_signal(training, bounds, reference, self.clock)
            # Building the network is part of what a rejection by this check costs.
            result = result.model_copy(update={"seconds": result.seconds + built})
            rejection = self.record(result, index)
            if rejection is not None:
                return rejection
        return None

    def quality(self, checks: Checks, *, audited: bool = False) -> Rejection | None:
        for index in range(len(self.job.runs)):
            result = check_quality(
                self.training(index), checks.quality, self.clock, audited=audited
            )
            rejection = self.record(result, index)
            if rejection is None and not audited:
                rejection = self.first_hurdle(index, checks.quality.steps, result)
            if rejection is not None:
                return rejection
        return None

    def first_hurdle(self, index: int, step: int, quality: CheckRun) -> Rejection | None:
        """The hurdle at quality's own step, judged by its score before the next anchor is tried."""
        run = self.job.runs[index]
        if self.job.checks is None or step not in self.job.checks.hurdles.steps:
            return None
        score = quality.findings["accuracy"]
        self.early[index] = score
        least = self.job.hurdles.get(run.anchor, {}).get(step)
        return self.record(judge_hurdle(run.anchor, step, score, least), index)

    def audit(self, checks: Checks) -> bool:
        """Whether a layer that signal rejected passes quality on every anchor."""
        return self.quality(checks, audited=True) is None

    def hurdle(self, index: int, run: Run) -> dict[int, float] | None:
        """Scores at the steps of hurdles; None if the candidate was given up at one."""
        milestones: dict[int, float] = {}
        if self.job.checks is None or self.job.purpose != "search":
            return milestones
        least = self.job.hurdles.get(run.anchor, {})
        for step in sorted(self.job.checks.hurdles.steps):
            if index in self.early and step == self.job.checks.quality.steps:
                milestones[step] = self.early[index]
                continue
            training = self.training(index)
            if training.diverged or step >= self.job.task.steps:
                break
            result = check_hurdle(training, step, least.get(step), self.clock)
            if self.record(result, index) is not None:
                return None
            milestones[step] = result.findings["score"]
        return milestones

    def train(self, index: int, run: Run) -> Evaluation | None:
        """The run's training to its end; its check run says what was left to do.

        Returns:
            None if a hurdle ended it.
        """
        milestones = self.hurdle(index, run)
        if milestones is None:
            return None
        start = self.clock()
        training = self.training(index)
        steps = training.advance(self.job.task.steps)
        score = None if training.diverged else training.score(run.split)
        rejection = None
        if training.diverged and self.job.purpose == "search":
            rejection = Rejection(
                code="not_finite",
                detail=f"training loss within {training.step} steps on {run.anchor}",
            )
        self.record(
            CheckRun(
                check="training",
                anchor=run.anchor,
                seconds=self.clock() - start,
                steps=steps,
                rejection=rejection,
            ),
            index,
        )
        groups = self.trainings[index][1].groups
        if self.context.checkpoints is not None:
            path = checkpoint_path(self.context.checkpoints, self.job, run)
            path.unlink(missing_ok=True)
        del self.trainings[index]  # a job of many runs holds one network at a time
        return Evaluation(
            anchor=run.anchor,
            seed=run.seed,
            learning_rate=run.learning_rate,
            split=run.split,
            score=training.worst if score is None else score.accuracy,
            diverged=training.diverged,
            steps=training.step,
            seconds=self.seconds[index],
            milestones=milestones,
            groups=groups,
            curve=tuple(training.curve),
            correct=score.correct if score is not None and run.split == "final" else "",
        )

    def training(self, index: int) -> Training:
        """The training of that run, made when it is first asked for."""
        if index not in self.trainings:
            layer = layer_factory(self.job, self.job.runs[index].anchor)
            data = self.context.dataset(self.job.task.dataset)
            training = Training(self.job.runs[index], self.job.task, layer, data)
            self.trainings[index] = training, layer
            folder = self.context.checkpoints
            if folder is not None:
                path = checkpoint_path(folder, self.job, self.job.runs[index])
                if self.job.attempt > 1:
                    resume(training, path)
                training.interrupted = partial(self.keep, path)
        return self.trainings[index][0]

    def keep(self, path: Path, training: Training) -> None:
        """Before each step: whether the worker must go, and if so, save the training.

        Raises:
            Preempted: it must.
        """
        if self.context.preempted:
            save(training, path)
            raise Preempted(f"told to go at step {training.step} on {training.run.anchor}, kept")

    def told_checks(self) -> tuple[CheckRun, ...]:
        """The checks that no message has told yet."""
        checks, self.checks = tuple(self.checks), []
        return checks

    def record(self, result: CheckRun, index: int) -> Rejection | None:
        self.checks.append(result)
        self.seconds[index] += result.seconds if result.check != "stability" else 0.0
        return result.rejection

    def done(
        self,
        *,
        rejection: Rejection | None = None,
        failure: Failure | None = None,
        audit_passed: bool | None = None,
    ) -> JobDone:
        return JobDone(
            job_id=self.job.id,
            checks=self.told_checks(),
            rejection=rejection,
            failure=failure,
            audit_passed=audit_passed,
            worker=self.context.worker,
            seconds=self.clock() - self.start,
        )
