"""One layer at one learning rate, its seeds side by side, from rung to rung.

And the rule without Ray: the rates of a row train to a rung, the better part goes on. All scores
are of ``select``; nothing here may read ``final``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from evosearch.plugins import ensure
from evosearch.records import Job
from evosearch.rerank import Tuned, row_of, survivors
from workers.checkpoint import checkpoint_path, resume, save
from workers.evaluate import Context, make_training
from workers.inline import one_thread
from workers.layers import layer_factory
from workers.training import Training

Heard = Callable[[str, Tuned], None]
"""Told a trial's id and how far it has come, at each rung."""


class Tuning:
    """A trial: the trainings of a job's runs, advanced and scored together; it can be resumed."""

    def __init__(self, job: Job, context: Context) -> None:
        self.job, self._context = job, context
        ensure(job.task.plugins, context.sources)
        self.scores: dict[int, tuple[float, ...]] = {}
        self.seconds = 0.0
        self._trainings = self._begin()

    def _begin(self) -> list[Training]:
        made = []
        for run in self.job.runs:
            layer = layer_factory(self.job, run.anchor)
            made.append(make_training(run, self.job.task, layer, self._context))
        return made

    @property
    def steps(self) -> int:
        """Training steps that are done, of all seeds."""
        return sum(training.step for training in self._trainings)

    @property
    def step(self) -> int:
        """The last rung that was scored; 0 before the first."""
        return max(self.scores, default=0)

    def advance(self, to_step: int) -> tuple[float, ...]:
        """Train up to so many steps, and score each seed; one that diverged gets the worst."""
        found, began = [], time.perf_counter()
        with one_thread():
            for training in self._trainings:
                training.advance(to_step)
                value = training.worst if training.diverged else training.score("select").accuracy
                found.append(value if value == value else training.worst)
        self.scores[to_step] = tuple(found)
        self.seconds += time.perf_counter() - began
        return self.scores[to_step]

    def tuned(self, worker: str, *, ended: bool = False) -> Tuned:
        """How far it has come."""
        return Tuned(
            scores=dict(self.scores), ended=ended, steps=self.steps, seconds=self.seconds,
            worker=worker,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the trial depends on."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "scores": {str(step): list(scores) for step, scores in self.scores.items()},
            "trainings": [training.state() for training in self._trainings],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` of the same trial returned.

        Raises:
            LookupError, ValueError, RuntimeError: it is no such state; nothing was changed.
        """
        fresh = self._begin()
        for training, kept in zip(fresh, state["trainings"], strict=True):
            training.restore(kept)
        scores = {int(step): tuple(map(float, one)) for step, one in state["scores"].items()}
        seconds = float(state["seconds"])
        self._trainings, self.scores, self.seconds = fresh, scores, seconds


def tune_inline(
    jobs: Iterable[Job], rungs: Sequence[int], known: Mapping[str, Tuned], heard: Heard,
    folder: Path,
) -> dict[str, str]:  # fmt: skip
    """Tune row after row in this process, by successive halving, the same each time.

    ``known``: what came of trials before; what it tells is not trained again. ``folder``: where a
    trial is kept between rungs.

    Returns:
        Trial -> why it failed, of those that did.
    """
    context, failures = Context(worker="inline"), dict[str, str]()
    for _, row in groupby(jobs, key=lambda job: row_of(job.id)):
        race = _Race(list(row), rungs, known, heard, folder, context)
        failures |= race.run()
    return failures


class _Race:
    """The rates of one row, from rung to rung."""

    def __init__(
        self, row: Sequence[Job], rungs: Sequence[int], known: Mapping[str, Tuned], heard: Heard,
        folder: Path, context: Context,
    ) -> None:  # fmt: skip
        self._waiting = {job.id: job for job in row}
        self._rungs, self._known, self._heard = rungs, known, heard
        self._folder, self._context = folder, context
        self._tunings: dict[str, Tuning] = {}

    def run(self) -> dict[str, str]:
        failures = {}
        for rung in self._rungs:
            scores = {}
            for name in list(self._waiting):
                try:
                    scores[name] = self._score(name, rung)
                except Exception as err:  # the worker's entry: an error is a recorded failure
                    failures[name] = " ".join(f"{type(err).__name__}: {err}".split())[:300]
                    self._drop(name)
            if rung == self._rungs[-1]:
                break
            kept = survivors(scores)
            for name in [name for name in self._waiting if name not in kept]:
                tuning = self._tunings.get(name)
                told = tuning.tuned("inline") if tuning is not None else self._known[name]
                if not told.ended:
                    self._heard(name, told.model_copy(update={"ended": True}))
                self._drop(name)
        for name in list(self._waiting):
            self._drop(name)
        return failures

    def _score(self, name: str, rung: int) -> float:
        """The trial's mean score at that rung, trained now if it is not known."""
        before = self._known.get(name, Tuned())
        if rung in before.scores:
            return before.mean(rung)
        if name not in self._tunings:
            self._tunings[name] = Tuning(self._waiting[name], self._context)
            resume(self._tunings[name], self._path(name))
        tuning = self._tunings[name]
        tuning.advance(rung)
        told = tuning.tuned("inline", ended=rung == self._rungs[-1])
        if not told.ended:
            save(tuning, self._path(name))
        self._heard(name, told)
        return told.mean(rung)

    def _path(self, name: str) -> Path:
        job = self._waiting[name]
        return checkpoint_path(self._folder, job, job.runs[0])

    def _drop(self, name: str) -> None:
        """Forget a trial that trains no further."""
        self._path(name).unlink(missing_ok=True)
        self._tunings.pop(name, None)
        del self._waiting[name]
