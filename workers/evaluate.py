"""Runs one job, stage by stage, cheapest first, and streams what comes of it.

Signal on all anchors, quality on all anchors (the first steps of each training), stability, then
each training to its end; whatever fails ends the job at once. This file must not know which pool
it runs in. It is the worker's entry: the one place that catches every error of a layer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import Tensor

from evosearch.config import Anchor, Checks, Stability, Task
from evosearch.errors import ConfigError, PluginError, Stopped
from evosearch.jobs import least_score
from evosearch.objectives import Objective
from evosearch.own import OwnAnchor
from evosearch.plugins import Source, ensure
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
from workers.anchors import ANCHORS, can_be_checked
from workers.checkpoint import checkpoint_path, resume, save
from workers.checks import (
    Clock,
    ascended,
    check_hurdle,
    check_quality,
    check_signal,
    check_stability,
    judge_hurdle,
    signal_statistics,
)
from workers.datasets import Dataset
from workers.device import choose
from workers.failures import DETAIL_LENGTH, failure_of
from workers.latest import PLUGIN_VERSIONS, Latest
from workers.layers import LayerFactory, layer_factory
from workers.measures import measure_of
from workers.own_evaluator import OwnEvaluation
from workers.own_task import OwnData, OwnTraining
from workers.training import Training, anchor_setting


@dataclass(slots=True)
class Context:
    """What a worker keeps between jobs: its name, clock, device, and the data it has loaded.

    ``device``: cpu, cuda, or auto for the GPU where there is one. ``checkpoints``: folder in which
    a training is kept when ``preempted`` is set while it runs. ``cancelled``: the job at hand is
    wanted no more. ``beats``: grows with every step, so that others see that this worker gets on.
    ``sources``: sha256 -> plug-in that came with a job.
    """

    worker: str = "inline"
    clock: Clock = time.perf_counter
    device: str = "auto"
    checkpoints: Path | None = None
    preempted: bool = False
    cancelled: bool = False
    beats: int = 0
    sources: dict[str, Source] = field(default_factory=dict)
    _own: Latest[OwnData] = field(default_factory=lambda: Latest(PLUGIN_VERSIONS))
    _loaded: dict[str, tuple[Tensor, Dataset]] = field(default_factory=dict)
    _references: dict[str, dict[str, float]] = field(default_factory=dict)

    def beat(self) -> None:
        """A sign of life."""
        self.beats += 1

    def dataset(self, name: str) -> Dataset:
        """The data set on this worker's device, loaded once, and again when its file changed."""
        source = datasets.load(name)  # kept there: what did not change has the same rows
        known = self._loaded.get(name)
        if known is None or known[0] is not source.train.x:
            known = self._loaded[name] = source.train.x, source.to(choose(self.device))
        return known[1]

    def own_data(self, own: OwnAnchor, task: Task) -> OwnData:
        """The user's task with its data on this worker's device, kept while it is in use."""
        hashes = ",".join(plugin.sha256 for plugin in task.plugins)
        version = f"{hashes} {id(own.made_by)} {task.batch_size} {task.steps}"
        return self._own.of(own.name, version, lambda: OwnData(own, task, choose(self.device)))

    def reference(self, run: Run, task: Task, name: str) -> dict[str, float]:
        """Signal statistics of the reference layer in that run's network, measured once."""
        key = f"{name} {run.anchor} {run.seed} {run.learning_rate} {task.model_dump_json()}"
        if key not in self._references:
            layer = layer_factory(
                Job(id="", purpose="baseline", subject=Subject(baseline=name), graph=None,
                    runs=(run,), task=task),
                run.anchor,
            )  # fmt: skip
            self._references[key] = self.statistics(self.training(run, task, layer))
        return self._references[key]

    def training(self, run: Run, task: Task, layer: LayerFactory) -> Training:
        """The run's training on this worker's device."""
        return make_training(run, task, layer, self)

    def statistics(self, training: Training) -> dict[str, float]:
        """What the signal check measures of a training that has not begun."""
        return signal_statistics(training)

    def ascent(self, training: Training, settings: Stability) -> tuple[float, int]:
        """What the stability check measures: a gradient's norm, and the steps up to it."""
        return ascended(training, settings)


def make_training(run: Run, task: Task, layer: LayerFactory, context: Context) -> Training:
    """The run's training: of a built-in anchor, or of a user's own task."""
    own = ANCHORS.get(run.anchor).own
    if own is not None and own.kind == "task":
        return OwnTraining(run, task, layer, context.own_data(own, task))
    name = own.dataset if own is not None and own.dataset else task.dataset
    return Training(run, task, layer, context.dataset(name))


def run_job(job: Job, context: Context) -> Iterator[Message]:
    """Messages of the job as they come; the last one is its `JobDone`, whatever happens."""
    work = _Work(job, context)
    try:
        ensure(job.task.plugins, context.sources)
        yield from work.messages()
    except Stopped as err:
        yield work.stopped(err)
    except (Exception, SystemExit) as err:  # the worker's entry: an error is a recorded failure
        yield work.done(failure=failure_of(err))


def _worst(goal: Objective, setting: Anchor, training: Training | None) -> float:
    """The score of a further objective after a divergence.

    Of what lower is better of, a value of 0 would be the best there is: what is measured on a
    network is measured on this one.

    Raises:
        PluginError: nothing says it.
    """
    if goal.worst is not None:
        return goal.score(goal.worst)
    if goal.name in setting.references:
        return setting.references[goal.name]
    if goal.direction == "max":
        return 0.0
    if training is not None and measure_of(goal.name) is not None:
        return training.further([goal])[goal.name]
    raise PluginError(
        f"a training on {setting.name} diverged, and nothing says what {goal.name} is then",
        hint=f'say the value of knowing nothing: es.Objective("{goal.name}", "min", worst=...)',
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
        self.reached = {anchor: dict(scores) for anchor, scores in job.reached.items()}
        self.mark = self.start
        """When the stage at hand began."""

    def messages(self) -> Iterator[Message]:
        self.leave_if_told()
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

    def stopped(self, err: Stopped) -> JobDone:
        """The job's end after a stop: a rejection, or a failure where a worker must go."""
        if err.reason == "cancelled":
            return self.done(failure=Failure(cause="preempted", detail=err.detail[:DETAIL_LENGTH]))
        if self.job.purpose != "search":
            return self.done(failure=Failure(cause="error", detail=str(err)[:DETAIL_LENGTH]))
        code = "hurdle" if err.reason == "hurdle" else "too_slow"
        return self.done(rejection=Rejection(code=code, detail=err.detail[:DETAIL_LENGTH]))

    def checked(self) -> list[int]:
        """Indices of the runs that checks can look into: a user's evaluator hides its network."""
        return [index for index, run in enumerate(self.job.runs) if can_be_checked(run.anchor)]

    def reject(self, checks: Checks) -> JobDone | None:
        """The job's end, if a check rejects the layer, or if nothing else was asked for."""
        rejection = self.signal(checks) if checks.signal.enabled else None
        if rejection is not None:
            passed = self.audit(checks) if self.job.audit and checks.quality.enabled else None
            return self.done(rejection=rejection, audit_passed=passed)
        if self.job.signal_only:
            return self.done()
        if checks.quality.enabled:
            rejection = self.quality(checks)
        places = self.checked()
        if rejection is None and checks.stability.enabled and places:
            result = check_stability(
                self.training(places[0]), checks.stability, self.clock, self.context.ascent
            )
            rejection = self.record(result, places[0])
        return self.done(rejection=rejection) if rejection is not None else None

    def signal(self, checks: Checks) -> Rejection | None:
        for index in self.checked():
            run = self.job.runs[index]
            bounds = (self.job.bounds or checks.signal.bounds).get(run.anchor, {})
            reference = self.reference(run, checks, needed=bool(bounds))
            before = self.clock()
            training = self.training(index)
            built = self.clock() - before
            result = check_signal(training, bounds, reference, self.clock, self.context.statistics)
            # Building the network is part of what a rejection by this check costs.
            result = result.model_copy(update={"seconds": result.seconds + built})
            rejection = self.record(result, index)
            if rejection is not None:
                return rejection
        return None

    def reference(self, run: Run, checks: Checks, *, needed: bool) -> dict[str, float] | None:
        """What the run's signal is relative to; None where nothing is compared with it.

        An anchor without bounds may be no place for the reference layer at all; what is learnt
        there is then learnt from the statistics as they are.
        """
        if not (needed or checks.signal.learn):
            return None
        try:
            return self.context.reference(run, self.job.task, checks.signal.reference)
        except ConfigError:
            if checks.signal.learn:
                return None
            raise

    def quality(self, checks: Checks, *, audited: bool = False) -> Rejection | None:
        for index in self.checked():
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
        least = self.least(run, step)
        self.reached.setdefault(run.anchor, {})[step] = score
        goal = anchor_setting(run, self.job.task).objective
        return self.record(judge_hurdle(run.anchor, step, score, least, goal), index)

    def audit(self, checks: Checks) -> bool:
        """Whether a layer that signal rejected passes quality on every anchor."""
        return self.quality(checks, audited=True) is None

    def hurdle(self, index: int, run: Run) -> dict[int, float] | None:
        """Scores at the steps of hurdles; None if the candidate was given up at one."""
        milestones: dict[int, float] = {}
        if self.job.checks is None or self.job.purpose != "search":
            return milestones
        for step in sorted(self.job.checks.hurdles.steps):
            if index in self.early and step == self.job.checks.quality.steps:
                milestones[step] = self.early[index]
                continue
            training = self.training(index)
            if training.diverged or step >= self.job.task.steps:
                break
            result = check_hurdle(training, step, self.least(run, step), self.clock)
            if self.record(result, index) is not None:
                return None
            milestones[step] = result.findings["score"]
            self.reached.setdefault(run.anchor, {})[step] = milestones[step]
        return milestones

    def least(self, run: Run, step: int) -> float | None:
        """The score that the candidate needs at a hurdle of that run."""
        return least_score(self.job, run.anchor, step, self.reached)

    def train(self, index: int, run: Run) -> Evaluation | None:
        """The run's training to its end; its check run says what was left to do.

        Returns:
            None if a hurdle ended it.
        """
        if index not in self.checked():
            return self.evaluate(index, run)
        milestones = self.hurdle(index, run)
        if milestones is None:
            return None
        start = self.clock()
        training = self.training(index)
        path = self.path(run)
        if path is not None:
            # Not before: checks look at the first steps, which are done again for them.
            resume(training, path)
        steps = training.advance(self.job.task.steps)
        score, more = None, dict[str, float]()
        if not training.diverged:
            score, more = training.measured(run.split)
            finite = all(math.isfinite(one) for one in (score.accuracy, *more.values()))
            training.diverged = not finite
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
        if path is not None:
            path.unlink(missing_ok=True)
        del self.trainings[index]  # a job of many runs holds one network at a time
        return Evaluation(
            anchor=run.anchor,
            seed=run.seed,
            learning_rate=run.learning_rate,
            split=run.split,
            score=training.worst if score is None or training.diverged else score.accuracy,
            more=self.further(run, more, training.diverged, training),
            diverged=training.diverged,
            steps=training.step,
            seconds=self.seconds[index],
            milestones=milestones,
            groups=groups,
            curve=tuple(training.curve),
            correct=score.correct if score is not None and run.split == "final" else "",
        )

    def further(
        self, run: Run, more: dict[str, float], diverged: bool, training: Training | None = None
    ) -> dict[str, float]:
        """Scores of further objectives; after a divergence the worst that is known of each.

        Raises:
            PluginError: nothing is known of one.
        """
        if not diverged:
            return more
        if self.job.purpose == "search":
            return {}  # the candidate is rejected
        setting = anchor_setting(run, self.job.task)
        return {one.name: _worst(one, setting, training) for one in setting.objectives[1:]}

    def evaluate(self, index: int, run: Run) -> Evaluation | None:
        """The run by a user's evaluator, which trains and scores in one go."""
        start = self.clock()
        layer = layer_factory(self.job, run.anchor)
        own = ANCHORS.get(run.anchor).own
        assert own is not None
        hurdles = {}
        if self.job.checks is not None and self.job.purpose == "search":
            for at in self.job.checks.hurdles.steps:
                least = self.least(run, at)
                hurdles[at] = -math.inf if least is None else least
        work = OwnEvaluation(
            own, run, self.job.task, layer, choose(self.context.device), self.clock, hurdles,
            self.leave_if_told,
        )  # fmt: skip
        score, more = work.evaluate()
        self.reached[run.anchor] = dict(work.milestones)
        rejection = None
        if work.diverged and self.job.purpose == "search":
            rejection = Rejection(code="not_finite", detail=f"the evaluation on {run.anchor}")
        self.record(
            CheckRun(check="training", anchor=run.anchor, seconds=self.clock() - start,
                     steps=work.step, rejection=rejection),
            index,
        )  # fmt: skip
        if rejection is not None:
            return None
        return Evaluation(
            anchor=run.anchor, seed=run.seed, learning_rate=run.learning_rate, split=run.split,
            score=work.worst if work.diverged else score.accuracy,
            more=self.further(run, more, work.diverged), diverged=work.diverged, steps=work.step,
            seconds=self.seconds[index], milestones=work.milestones, groups=layer.groups,
        )  # fmt: skip

    def leave_if_told(self) -> None:
        """Raise where the worker must go, or the job is wanted no more.

        Raises:
            Stopped: so it is.
        """
        self.context.beat()
        if self.context.preempted or self.context.cancelled:
            raise Stopped("cancelled", "the worker was told to go")

    def path(self, run: Run) -> Path | None:
        """Where the run's training is kept when the worker must go; None for nowhere."""
        folder = self.context.checkpoints
        return None if folder is None else checkpoint_path(folder, self.job, run)

    def training(self, index: int) -> Training:
        """The training of that run, made when it is first asked for."""
        if index not in self.trainings:
            run, task = self.job.runs[index], self.job.task
            layer = layer_factory(self.job, run.anchor)
            training = self.context.training(run, task, layer)
            self.trainings[index] = training, layer
            training.interrupted = partial(self.keep, index)
            training.beat = self.context.beat
        return self.trainings[index][0]

    def keep(self, index: int, training: Training) -> None:
        """Before each step: whether the worker must go, and if so, save the training.

        Raises:
            Stopped: it must, the job is wanted no more, or a training takes longer than it may.
        """
        self.context.beat()
        if self.context.preempted or self.context.cancelled:
            path = self.path(training.run) if self.context.preempted else None
            if path is not None:
                save(training, path)
            kept = ", kept" if path is not None else ""
            raise Stopped(
                "cancelled", f"told to go at step {training.step} on {training.run.anchor}{kept}"
            )
        limit = self.job.task.evaluation_seconds
        # Of its own stages: while another anchor was at work this one's time stood still.
        if limit is not None and self.seconds[index] + self.clock() - self.mark > limit:
            raise Stopped(
                "deadline",
                f"{limit:g} seconds on {training.run.anchor} are over at step {training.step}",
            )

    def told_checks(self) -> tuple[CheckRun, ...]:
        """The checks that no message has told yet."""
        checks, self.checks = tuple(self.checks), []
        return checks

    def record(self, result: CheckRun, index: int) -> Rejection | None:
        self.checks.append(result)
        self.mark = self.clock()
        self.context.beat()
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
