"""Gain over the better baseline on ``select``, with an interval, for a search that still runs.

A running search has one seed of most candidates, so their spread over seeds cannot be seen. It is
taken from all layers that were trained with several seeds at the task's learning rate, pooled. The
final claim is not made here: `evosearch.report` compares paired seeds and images on ``final``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evosearch.records import Evaluation, Subject
from evosearch.state import State

Floats = NDArray[np.float64]
LEVEL = 0.95


class Gain(NamedTuple):
    """A difference with its interval; None where no spread over seeds is known yet."""

    value: float
    low: float | None
    high: float | None


class Noise(NamedTuple):
    """Pooled variance over seeds by anchor (k,) and of the mean over anchors, and the degrees of
    freedom behind them.

    A seed's data order is the same on every anchor, so the mean varies more than independent
    anchors would let it.
    """

    variance: Floats
    of_mean: float
    freedom: int


@dataclass(slots=True)
class Samples:
    """Scores on ``select`` at the task's learning rate, by subject, anchor and seed.

    Subjects are births and names of baselines. Of a candidate's first training nothing is kept:
    it stands in its scores.
    """

    anchors: Sequence[str]
    rate: float
    fresh: dict[int, list[dict[int, float]]] = field(default_factory=dict)
    again: dict[int, list[dict[int, float]]] = field(default_factory=dict)
    baselines: dict[str, list[dict[int, float]]] = field(default_factory=dict)
    step_times: dict[str, list[list[float]]] = field(default_factory=dict)
    _changed: dict[tuple[str, int | str], list[dict[int, float]]] = field(default_factory=dict)
    """What came to or changed since its spread was counted."""
    _spreads: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._spreads = np.zeros((2, len(self.anchors) + 1))

    def add(self, subject: int | str, purpose: str, anchor: int, done: Mapping[str, Any]) -> None:
        """Take in one training."""
        if done["split"] != "select":
            return
        if isinstance(subject, str) and purpose == "baseline":
            rows = self.step_times.setdefault(subject, [[] for _ in self.anchors])
            rows[anchor].append(done["seconds"] / max(1, done["steps"]))
        if done["learning_rate"] != self.rate or purpose == "search":
            return
        if isinstance(subject, str):
            purpose = "baseline"
        kept: dict[str, dict[Any, list[dict[int, float]]]] = {
            "baseline": self.baselines, "confirm": self.fresh, "remeasure": self.again,
        }  # fmt: skip
        if purpose not in kept:
            return
        scores = kept[purpose].setdefault(subject, [{} for _ in self.anchors])
        if (purpose, subject) not in self._changed:
            self._changed[purpose, subject] = scores
            self._spreads -= _spread(scores)
        scores[anchor][done["seed"]] = done["score"]

    def take(self, subject: Subject, purpose: str, one: Evaluation) -> None:
        """The same, as events and states have it."""
        key = str(subject.baseline) if subject.birth is None else subject.birth
        done = {
            "split": one.split, "learning_rate": one.learning_rate, "seed": one.seed,
            "score": one.score, "seconds": one.seconds, "steps": one.steps,
        }  # fmt: skip
        self.add(key, purpose, self.anchors.index(one.anchor), done)

    def fresh_scores(self, birth: int) -> tuple[Floats, int] | None:
        """Mean by anchor (k,) over all fresh seeds of a candidate, and their number.

        None before every anchor has one.
        """
        both = [rows for rows in (self.fresh.get(birth), self.again.get(birth)) if rows]
        seeds = [
            {key: score for rows in both for key, score in rows[anchor].items()}
            for anchor in range(len(self.anchors))
        ]
        if not seeds or not all(seeds):
            return None
        means = np.array([np.mean(list(one.values())) for one in seeds])
        return means, min(len(one) for one in seeds)

    def confirmed(self) -> dict[int, tuple[float, ...]]:
        """Birth -> mean score by anchor on the fresh seeds of a confirmation."""
        return {
            birth: tuple(float(np.mean(list(one.values()))) for one in rows)
            for birth, rows in self.fresh.items()
            if all(rows)
        }

    def means_of(self, birth: int) -> tuple[float, ...] | None:
        """The same of one candidate; None before every anchor has a fresh seed."""
        rows = self.fresh.get(birth)
        if rows is None or not all(rows):
            return None
        return tuple(float(np.mean(list(one.values()))) for one in rows)

    def fresh_seeds(self, birth: int) -> int:
        """Fresh seeds that every anchor has of a candidate."""
        return min(len(one) for one in self.fresh[birth])

    def baseline_means(self) -> dict[str, Floats]:
        """Baseline -> mean score by anchor; those with every anchor trained."""
        return {
            name: np.array([np.mean(list(one.values())) for one in rows])
            for name, rows in self.baselines.items()
            if all(rows)
        }

    def noise(self) -> Noise | None:
        """The pooled variance over seeds; None before any layer has two seeds on every anchor.

        Only what came since it was asked before is looked at.
        """
        for scores in self._changed.values():
            self._spreads += _spread(scores)
        self._changed.clear()
        squares, freedom = self._spreads
        if not freedom.all():
            return None
        each = squares.clip(0.0) / freedom  # what was taken back may leave less than 0 by rounding
        return Noise(each[:-1], float(each[-1]), int(freedom.min()))


def _spread(scores: Sequence[Mapping[int, float]]) -> Floats:
    """Squares about the mean over seeds, and degrees of freedom, of a layer.

    Shapes: ``scores`` seed -> score by anchor, k of them; returns (2, k + 1), the last of the mean
    over anchors.
    """
    common = set.intersection(*map(set, scores))
    of_mean = [float(np.mean([one[seed] for one in scores])) for seed in sorted(common)]
    each = [*(list(one.values()) for one in scores), of_mean]
    squares = [float(np.square(np.array(one) - np.mean(one)).sum()) if one else 0.0 for one in each]
    return np.array([squares, [max(0, len(one) - 1) for one in each]])


@dataclass(frozen=True, slots=True)
class Baseline:
    """The better baseline of each anchor: names, mean scores (k,), and seeds behind them (k,)."""

    names: tuple[str, ...]
    means: Floats
    seeds: NDArray[np.int64]


def samples_of(state: State) -> Samples:
    """What a search's state knows of fresh seeds and baselines."""
    config = state.config
    made = Samples(config.anchor_names, config.task.learning_rate)
    baselines = {*config.baselines, *config.confirmation.rivals}
    for key, runs in state.results.items():
        known = Subject(baseline=key) if key in baselines else Subject(birth=int(key[1:]))
        for purpose, one in runs:
            made.take(known, purpose, one)
    return made


def fresh_gains(
    samples: Samples, rivals: Sequence[str], births: Iterable[int] | None = None
) -> dict[int, Gain]:
    """Mean gain of fresh seeds over the better baseline of each anchor, of these births or of all.

    Those without fresh seeds are left out, and all where there is no baseline to compare with.
    """
    baseline = better_baseline(samples, rivals)
    among = {*samples.fresh, *samples.again} if births is None else births
    found = {birth: one for birth in among if (one := samples.fresh_scores(birth)) is not None}
    if baseline is None or not found:
        return {}
    means = np.stack([one for one, _ in found.values()])
    seeds = np.array([number for _, number in found.values()])
    _, _, overall, margin = gains(means, seeds, baseline, samples.noise())
    told = map(with_margin, overall, margin)
    return dict(zip(found, told, strict=True))


def better_baseline(samples: Samples, rivals: Sequence[str]) -> Baseline | None:
    """The best rival of each anchor; of all baselines where no rival was trained."""
    means = samples.baseline_means()
    names = [name for name in rivals if name in means] or sorted(means)
    if not names:
        return None
    table = np.stack([means[name] for name in names])
    best = table.argmax(axis=0)
    chosen = tuple(names[int(one)] for one in best)
    seeds = [len(samples.baselines[name][anchor]) for anchor, name in enumerate(chosen)]
    return Baseline(chosen, table.max(axis=0), np.array(seeds))


def margins(noise: Noise | None, seeds: Floats, base_seeds: Floats) -> Floats:
    """Half width of the interval of a difference of means, by subject and anchor.

    Shapes: ``seeds`` (n, 1), ``base_seeds`` (k,); returns (n, k), NaN where nothing is known.
    """
    shape = np.broadcast_shapes(seeds.shape, base_seeds.shape)
    if noise is None:
        return np.full(shape, np.nan)
    return np.asarray(_factor(noise) * np.sqrt(noise.variance * (1 / seeds + 1 / base_seeds)))


def mean_margins(noise: Noise | None, seeds: Floats, base_seeds: float = math.inf) -> Floats:
    """The same of a mean over anchors, by subject.

    Shapes: ``seeds`` (n,); returns (n,), NaN where nothing is known.
    """
    if noise is None:
        return np.full(seeds.shape, np.nan)
    return np.asarray(_factor(noise) * np.sqrt(noise.of_mean * (1 / seeds + 1 / base_seeds)))


def _factor(noise: Noise) -> float:
    from scipy.special import stdtrit  # a tenth of a second, for whoever asks for an interval

    return float(stdtrit(noise.freedom, 0.5 + LEVEL / 2))


def gains(
    scores: Floats, seeds: NDArray[Any], baseline: Baseline, noise: Noise | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Gain by anchor with its margin, and mean gain over anchors with its margin.

    Where the better baseline is another one on another anchor, the fewest seeds of them count for
    the mean.

    Shapes: ``scores`` (n, k), ``seeds`` (n,); returns (n, k), (n, k), (n,), (n,).
    """
    each = scores - baseline.means
    many = np.maximum(seeds, 1).astype(float)
    margin = margins(noise, many[:, None], baseline.seeds.astype(float))
    overall = mean_margins(noise, many, float(baseline.seeds.min()))
    return each, margin, each.mean(axis=1), overall


def with_margin(value: float, margin: float) -> Gain:
    """The difference with its interval."""
    if math.isnan(margin):
        return Gain(float(value), None, None)
    return Gain(float(value), float(value - margin), float(value + margin))
