"""Trainings after a search that a report may ask for: knock-out, robustness, transfer.

Which jobs a study needs, how long they take, and their run on a pool; each evaluation is kept in a
folder as it comes, so that a run that was broken off goes on. Nothing is written to the search:
these are looks at *select*, and *final* is never read. All have training seeds that chose nothing:
on those that made a layer the leader its row would be flattered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from api.reporting.gather import Facts
from api.transfers import label, settings_of
from evosearch.config import Anchor, Task
from evosearch.errors import ConfigError
from evosearch.ports import Pool, Progress
from evosearch.records import EvaluationDone, Job, JobDone, Run, Subject
from evosearch.streams import evaluation_seed
from primitives.graph import Graph
from primitives.knock_out import KnockOut, knock_outs

BATCH_SIZES = (4, 16, 64, 256)
RATE_FACTORS = (0.25, 1.0, 4.0)
DEPTH_FACTORS = (1, 2)
LEADER = "leader"


class Trial(NamedTuple):
    """One layer in one setting: what the row says of it, whose it is, and a job for each seed."""

    row: tuple[str, ...]
    layer: str
    jobs: tuple[Job, ...]


@dataclass(slots=True)
class Study:
    """Trials and what came of them.

    ``head``: what the words of rows mean. ``scores``: (row, layer) -> seed -> anchor -> score.
    ``failed``: (row, layer) -> why. ``parts``: of a knock-out, row -> what was taken out.
    """

    name: str
    head: tuple[str, ...]
    trials: list[Trial]
    parts: dict[tuple[str, ...], KnockOut] = field(default_factory=dict)
    scores: dict[tuple[tuple[str, ...], str], dict[int, dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    failed: dict[tuple[tuple[str, ...], str], str] = field(default_factory=dict)

    @property
    def jobs(self) -> list[Job]:
        """The jobs of all trials."""
        return [job for trial in self.trials for job in trial.jobs]

    def by_seed(self, row: tuple[str, ...], layer: str) -> dict[int, float]:
        """Seed -> mean score over anchors, of the seeds that have every anchor."""
        needed = {run.anchor for trial in self.trials if (trial.row, trial.layer) == (row, layer)
                  for run in trial.jobs[0].runs}  # fmt: skip
        found = self.scores.get((row, layer), {})
        return {
            seed: float(np.mean(list(scores.values())))
            for seed, scores in sorted(found.items()) if scores.keys() == needed
        }  # fmt: skip


def knock_out_study(facts: Facts, best: int, seeds: int) -> Study:
    """The leader, and the leader without each node in turn; the same seeds for all."""
    task, graph = facts.state.config.task, facts.state.members[best].graph
    make = _Maker(facts, seeds)
    study = Study("knock-out", ("node", "replaced by"), [])
    study.trials.append(make.trial(("nothing", ""), LEADER, graph, None, task))
    for one in knock_outs(graph):
        study.parts[one.node, one.by] = one
        if one.fault is None:
            study.trials.append(make.trial((one.node, one.by), LEADER, one.graph, None, task))
    return study


def robustness_study(facts: Facts, best: int, seeds: int) -> Study:
    """Leader and rivals over learning rate, batch size and depth of the search's own anchors."""
    config, make = facts.state.config, _Maker(facts, seeds)
    study = Study("robustness", ("depth", "batch size", "learning rate"), [])
    for factor in DEPTH_FACTORS:
        anchors = tuple(_deeper(anchor, factor) for anchor in config.task.anchors)
        for batch in BATCH_SIZES:
            task = config.task.model_copy(update={"anchors": anchors, "batch_size": batch})
            for rate in (config.task.learning_rate * one for one in RATE_FACTORS):
                row = (f"x {factor}", str(batch), f"{rate:g}")
                study.trials += make.beside_rivals(row, best, task, rate)
    return study


def transfer_study(facts: Facts, best: int, seeds: int, names: Iterable[str]) -> Study:
    """Leader and rivals on anchors and data sets that the search never used.

    Raises:
        ConfigError: a name is neither, is the search's own, or what it names takes no such layer;
            so for data beside an anchor of a user's own that brings its own.
    """
    task, make = facts.state.config.task, _Maker(facts, seeds)
    study = Study("transfer", ("data set", "anchor"), [])
    for one in settings_of(task, names):
        if not one.searched:
            row = (one.dataset, label(one.anchor, sized=one.sized))
            study.trials += make.beside_rivals(row, best, one.of(task), task.learning_rate)
    return study


class _Maker:
    """Makes trials with training seeds of their own, on which nothing was selected."""

    def __init__(self, facts: Facts, seeds: int) -> None:
        self._facts = facts
        seed = facts.state.config.seed
        self._seeds = [evaluation_seed(seed, "study", index) for index in range(seeds)]

    def trial(
        self, row: tuple[str, ...], layer: str, graph: Graph | None, rate: float | None, task: Task
    ) -> Trial:
        """A job a seed, every anchor of the task in it."""
        subject = Subject(birth=0) if graph is not None else Subject(baseline=layer)
        rate = task.learning_rate if rate is None else rate
        # A short name: rows hold formulas, and names of jobs become names of files.
        key = sha256("\0".join((*row, layer)).encode()).hexdigest()[:16]
        jobs = tuple(
            Job(
                id=f"{key}/{seed}", purpose="confirm", subject=subject,
                graph=graph, task=task,
                runs=tuple(Run(anchor=one.name, seed=seed, learning_rate=rate)
                           for one in task.anchors),
            )
            for seed in self._seeds
        )  # fmt: skip
        return Trial(row, layer, jobs)

    def beside_rivals(
        self, row: tuple[str, ...], best: int, task: Task, rate: float
    ) -> list[Trial]:
        """The leader and every rival in one setting."""
        state = self._facts.state
        made = [self.trial(row, LEADER, state.members[best].graph, rate, task)]
        for name in state.config.confirmation.rivals:
            made.append(self.trial(row, name, None, rate, task))
        return made


def _depth(anchor: Anchor) -> int:
    from workers.anchors import ANCHORS

    return anchor.depth or ANCHORS.get(anchor.name).sizes[anchor.size][1]


def _deeper(anchor: Anchor, factor: int) -> Anchor:
    from workers.anchors import ANCHORS

    if ANCHORS.get(anchor.name).own is not None:
        raise ConfigError(
            "the depth of an anchor of your own is yours to vary", got=anchor.name,
            hint="robustness is measured with built-in anchors",
        )  # fmt: skip
    if factor == 1:
        return anchor
    return anchor.model_copy(update={"depth": factor * _depth(anchor)})


def seconds_of(facts: Facts, jobs: Sequence[Job]) -> float:
    """Worker-seconds that the jobs will take, from what the search's own trainings took.

    A step's time is taken as proportional to batch and depth; anchors that the search never used
    as what the slowest of its own takes.
    """
    task = facts.state.config.task
    found: dict[str, list[float]] = defaultdict(list)
    for numbers in facts.numbers.values():
        for _, done in numbers:
            found[done.anchor].append(done.seconds / max(1, done.steps))
    known = {anchor: float(np.median(values)) for anchor, values in found.items()}
    depths = {one.name: _depth(one) for one in task.anchors}
    total = 0.0
    for job in jobs:
        here = {one.name: one for one in job.task.anchors}
        for run in job.runs:
            depth = _depth(here[run.anchor])
            deeper = depth / depths.get(run.anchor, depth)
            each = known.get(run.anchor, max(known.values())) * deeper
            total += each * job.task.steps * job.task.batch_size / task.batch_size
    return total


def run_study(study: Study, pool: Pool, told: Progress) -> None:
    """Have everything trained; what a pool in front knows already costs nothing."""
    waiting = {job.id: (job, trial) for trial in study.trials for job in trial.jobs}
    total, queue = len(waiting), list(waiting)
    while waiting:
        while queue and len(waiting) - len(queue) < pool.capacity:
            pool.submit(waiting[queue.pop(0)][0])
        for message in pool.poll(0.5):
            if message.job_id not in waiting:
                continue
            _, trial = waiting[message.job_id]
            key = trial.row, trial.layer
            if isinstance(message, EvaluationDone):
                one = message.evaluation
                study.scores[key][one.seed][one.anchor] = one.score
            elif isinstance(message, JobDone):
                del waiting[message.job_id]
                if message.failure is not None:
                    study.failed[key] = message.failure.detail or message.failure.cause
        told(study.name, total - len(waiting), total)
