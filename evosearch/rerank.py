"""What a re-ranking trains: the plan of its rows, the trials of each, and the rates they end with.

Layers are those that a search put on top, and its baselines; a row is one layer in one setting (a
data set and an anchor). Each row is tuned on ``select`` over the same learning rates and seeds, so
that no layer is compared at another's rate; then it is trained with fresh seeds and read on
``final``. Plain data: this file must not know where anything is trained or kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from evosearch.config import Anchor, Augmentation, SearchConfig, Task
from evosearch.records import GraphData, Job, Record, Run, Split, Subject

RUNG_SHARES = (0.25, 0.5, 1.0)
"""Of the steps, where the rates of a row are compared and the weaker ones given up."""
REDUCTION = 2
"""Of the rates of a row, one in so many goes on after a rung."""
RATE_FACTORS = (0.5, 1.0, 2.0)
"""Of a search's learning rate: what is tried where nobody says which rates, or too few."""
ENOUGH_RATES = len(RATE_FACTORS)


class Layer(Record):
    """A layer that is ranked: a candidate of the search with its graph, or a named baseline."""

    subject: Subject
    graph: GraphData | None = None
    formula: str = ""
    known_as: str | None = None

    @property
    def key(self) -> str:
        """``c12`` for candidate 12, else the baseline's name."""
        return self.subject.key


class Setting(Record):
    """A data set and an anchor. ``searched``: the search trained on both, so this is no transfer.

    ``dataset`` is the task's, also where an anchor of a user's own brings its data. ``whole``:
    images are trained on as they are, for the search's crops and flips were made for images of
    another size. ``sized``: the anchor comes in sizes; a user's own has one.
    """

    dataset: str
    anchor: Anchor
    searched: bool
    whole: bool = False
    sized: bool = True

    @property
    def key(self) -> str:
        """Names a setting within a plan."""
        return f"{self.dataset}/{self.anchor.name}"

    def of(self, task: Task) -> Task:
        """The task in this setting."""
        there: dict[str, Any] = {"dataset": self.dataset, "anchors": (self.anchor,)}
        if self.whole:
            there["augmentation"] = Augmentation()
        return task.model_copy(update=there)


class Tuned(Record):
    """How far a trial has come: step -> score on ``select`` of each tuning seed.

    ``ended``: nothing more is trained, as it is complete or was given up. ``steps``: training steps
    of all seeds, ``seconds``: of a worker. ``worker``: who told it last.
    """

    scores: dict[int, tuple[float, ...]] = {}
    ended: bool = False
    steps: int = 0
    seconds: float = 0.0
    worker: str = ""

    def mean(self, step: int) -> float:
        """Mean score over the seeds at that rung."""
        return float(np.mean(self.scores[step]))


class Plan(Record):
    """All that decides a re-ranking's numbers.

    ``task``: the longer task, with the search's anchors; a row has its own setting in their place.
    ``layers``: the candidates that were chosen, then every baseline. ``versions``: package ->
    version of what trains; with others the numbers could be others, so that it is another plan.
    """

    search: str
    layers: tuple[Layer, ...]
    settings: tuple[Setting, ...]
    task: Task
    rates: tuple[float, ...]
    tune_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    resamples: int
    level: float
    versions: dict[str, str] = {}

    @cached_property
    def key(self) -> str:
        """A digest of everything in it: the same plan goes on, another one begins anew."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def differs_in_versions_alone(self, other: Plan) -> bool:
        """Whether the other one asks for the same, of other versions."""
        same = self.model_copy(update={"versions": other.versions}) == other
        return same and self.versions != other.versions

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps at which the rates of a row are compared; the last one is the end."""
        if len(self.rates) == 1:
            return (self.task.steps,)
        return tuple(sorted({math.ceil(share * self.task.steps) for share in RUNG_SHARES}))

    def rows(self) -> Iterator[tuple[Layer, Setting]]:
        """Every layer in every setting."""
        return ((layer, setting) for setting in self.settings for layer in self.layers)

    def tune_jobs(self) -> Iterator[Job]:
        """The trials: one job for each row and rate, its runs are the tuning seeds."""
        for layer, setting in self.rows():
            for rate in self.rates:
                name = f"{row_key(layer, setting)}/{rate!r}"
                yield self._job(name, layer, setting, self.tune_seeds, rate)

    def final_jobs(self, rates: Mapping[str, float]) -> Iterator[Job]:
        """One job for each row that has a rate, and fresh seed; its run reads ``final``."""
        for layer, setting in self.rows():
            key = row_key(layer, setting)
            for seed in self.final_seeds if key in rates else ():
                yield self._job(f"{key}/{seed}", layer, setting, (seed,), rates[key], final=True)

    def _job(
        self, name: str, layer: Layer, setting: Setting, seeds: Iterable[int], rate: float,
        *, final: bool = False,
    ) -> Job:  # fmt: skip
        split: Split = "final" if final else "select"
        runs = tuple(
            Run(anchor=setting.anchor.name, seed=seed, learning_rate=rate, split=split)
            for seed in seeds
        )
        return Job(
            id=name, purpose="final" if final else "tune", subject=layer.subject,
            graph=layer.graph, runs=runs, task=setting.of(self.task),
        )  # fmt: skip


def default_rates(config: SearchConfig) -> tuple[float, ...]:
    """The rates of the search's confirmation, where these are three or more.

    With fewer of them half, once and twice the search's own are tried too: a layer is compared at
    a rate that was chosen for it.
    """
    rates = tuple(dict.fromkeys(config.confirmation.learning_rates))
    if len(rates) >= ENOUGH_RATES:
        return rates
    around = (factor * config.task.learning_rate for factor in RATE_FACTORS)
    return tuple(sorted({*rates, *around}))


def row_key(layer: Layer, setting: Setting) -> str:
    """Names a row within a plan."""
    return f"{layer.key}/{setting.key}"


def row_of(job_id: str) -> str:
    """The row that a job of a plan belongs to."""
    return job_id.rpartition("/")[0]


def survivors(scores: Mapping[str, float]) -> list[str]:
    """The trials of a row that go on after a rung, in their order: the better part, one at least.

    Equal scores go to the earlier trial, so that the same scores give the same decision.
    """
    names = list(scores)
    ranked = sorted(names, key=lambda name: (-scores[name], names.index(name)))
    kept = set(ranked[: math.ceil(len(names) / REDUCTION)])
    return [name for name in names if name in kept]


def best_rates(plan: Plan, tuned: Mapping[str, Tuned]) -> dict[str, float]:
    """Row -> the learning rate with the highest mean score on ``select`` at the end of training.

    Of equal ones the lower. A row of which no trial came to the end has none.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for job in plan.tune_jobs():
        one = tuned.get(job.id)
        if one is not None and plan.task.steps in one.scores:
            score = (one.mean(plan.task.steps), -job.runs[0].learning_rate)
            found.setdefault(row_of(job.id), []).append(score)
    return {row: -max(scores)[1] for row, scores in found.items()}
