"""Intervals for what a search claims; pure functions of arrays.

Accuracies are shares (0 to 1). Higher is better here: these are the numbers that people read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rights = NDArray[np.float64]
"""Share of right draws: (anchors, seeds, images)."""


class Interval(NamedTuple):
    """A value with its interval."""

    value: float
    low: float
    high: float


def paired_bootstrap(
    ours: Rights, theirs: Rights, *, resamples: int, level: float, seed: int
) -> tuple[list[Interval], Interval]:
    """Differences of mean accuracy, ours minus theirs: per anchor, and their mean.

    Seeds and images are drawn with replacement; all draws of an image go together, and both layers
    share seeds and images, as they did in training (common initial weights and batches).

    Shapes: ``ours``, ``theirs``: (anchors, seeds, images).

    Source: percentile bootstrap over two crossed factors (Owen, "The pigeonhole bootstrap", 2007).
    """
    difference = ours - theirs
    _, seeds, images = difference.shape
    rng = np.random.default_rng(seed)
    draws = []
    for start in range(0, resamples, 500):
        count = min(500, resamples - start)
        by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        by_image = rng.multinomial(images, np.full(images, 1 / images), size=count) / images
        draws.append(
            np.stack([((by_seed @ anchor) * by_image).sum(axis=1) for anchor in difference], axis=1)
        )
    sampled = np.concatenate(draws)
    tail = (1.0 - level) / 2.0
    values = difference.mean(axis=(1, 2))

    def interval(value: float, column: NDArray[np.float64]) -> Interval:
        low, high = np.quantile(column, [tail, 1.0 - tail])
        return Interval(float(value), float(low), float(high))

    each = [interval(value, sampled[:, i]) for i, value in enumerate(values)]
    return each, interval(values.mean(), sampled.mean(axis=1))


def mean_interval(values: NDArray[np.float64], *, level: float, seed: int) -> Interval:
    """Mean of a few scores (n,) with its percentile bootstrap interval."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(values, size=(2000, len(values))).mean(axis=1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def paired_interval(differences: NDArray[np.float64], *, level: float = 0.95) -> Interval:
    """Mean of paired differences (seeds,) with Student's interval; NaN bounds for one seed.

    A bootstrap over three seeds is far too narrow; this one assumes normal differences instead.
    """
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Interval(mean, float("nan"), float("nan"))
    from scipy.special import stdtrit

    half = float(stdtrit(count - 1, 0.5 + level / 2) * differences.std(ddof=1) / count**0.5)
    return Interval(mean, mean - half, mean + half)


def false_rejection_rate(
    *, audited: int, wrong: int, passed: int, share: float, level: float = 0.95
) -> Interval | None:
    """Share of good candidates that a check throws out, from an audit of some of its rejections.

    ``wrong`` of ``audited`` rejections would have passed quality, each standing for ``1 / share``;
    ``passed`` candidates passed both. None where nothing was audited or nothing was good.

    Returns:
        wrong / share / (wrong / share + passed), with the exact Poisson interval of ``wrong``.
    """
    if not audited or share <= 0.0:
        return None
    # Here, for it takes a good part of a second and every start of the service would wait for it.
    from scipy.special import gammaincinv

    tail = (1.0 - level) / 2.0
    low = float(gammaincinv(wrong, tail)) if wrong else 0.0
    high = float(gammaincinv(wrong + 1, 1.0 - tail))
    if not wrong and not passed:
        return None
    rates = [count / share / (count / share + passed) for count in (wrong, low, high)]
    return Interval(*rates)


class Paired(NamedTuple):
    """A two-sided test of a mean difference: its statistic, degrees of freedom and p-value."""

    statistic: float
    freedom: float
    p: float


def paired_test(ours: Rights, theirs: Rights) -> Paired:
    """Whether two layers that share seeds and images differ in mean accuracy over anchors.

    Both seeds and images are taken as drawn, so that a difference has to hold for others of either.
    With one image (a metric without rows) it is Student's paired test over seeds. NaN for one seed.

    Shapes: ``ours``, ``theirs``: (anchors, seeds, images).

    Source: the analysis of variance of crossed readers and cases, one of each a cell, with the
    degrees of freedom of Hillis, "A comparison of denominator degrees of freedom methods for
    multiple observer ROC analysis", 2007.
    """
    from scipy.special import stdtr

    difference = (ours - theirs).mean(axis=0)
    seeds, images = difference.shape
    if seeds < 2:
        return Paired(float("nan"), float("nan"), float("nan"))
    mean, by_seed = difference.mean(), difference.mean(axis=1)
    over_seeds = images * float(by_seed.var(ddof=1))
    over_images = 0.0
    if images > 1:
        by_image = difference.mean(axis=0)
        rest = difference - by_seed[:, None] - by_image[None, :] + mean
        remainder = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
        over_images = max(0.0, seeds * float(by_image.var(ddof=1)) - remainder)
    variance = over_seeds + over_images
    if variance <= _ROUNDING * max(1.0, float(np.abs(difference).max())) ** 2:
        # The same difference everywhere: it is certain, or there is none.
        certain = bool(abs(mean) > _ROUNDING)
        return Paired(float("inf") if certain else 0.0, seeds - 1.0, 0.0 if certain else 1.0)
    statistic = float(mean / np.sqrt(variance / (seeds * images)))
    freedom = (seeds - 1) * (variance / over_seeds) ** 2 if over_seeds > 0.0 else float("inf")
    return Paired(statistic, freedom, 2.0 * float(stdtr(min(freedom, 1e9), -abs(statistic))))


_ROUNDING = 1e-15


def best_of(others: Sequence[Rights]) -> tuple[Rights, list[int]]:
    """The one with the highest mean on each anchor, put together, and which one that is.

    Shapes: all (anchors, seeds, images); the places (anchors,).
    """
    means = np.stack([one.mean(axis=(1, 2)) for one in others])
    places = [int(place) for place in means.argmax(axis=0)]
    return np.stack([others[place][anchor] for anchor, place in enumerate(places)]), places


def p_against_best(ours: Rights, others: Sequence[Rights]) -> float:
    """p of a layer's difference to the best of several, by `paired_test`; NaN for one seed.

    The best of each anchor was picked by the very numbers that are tested. That makes it harder to
    be above it, and easier to be below: of equal layers the best of several would leave most others
    behind. So the p of a layer below it is the largest of those against each, 1 where it is not
    below that one.

    Shapes: all (anchors, seeds, images).
    """
    strongest, _ = best_of(others)
    p = paired_test(ours, strongest).p
    if np.isnan(p) or ours.mean() >= strongest.mean():
        return p
    return max(paired_test(ours, one).p if ours.mean() < one.mean() else 1.0 for one in others)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the given order; NaN is no test and stays NaN.

    The chance that any true null hypothesis is rejected is at most the level, whatever depends on
    what.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected, floor = [float("nan")] * len(values), 0.0
    order = sorted((p, place) for place, p in enumerate(values) if not np.isnan(p))
    for rank, (p, place) in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * p))
        corrected[place] = floor
    return corrected


def p_value(value: float | None) -> str:
    """As people read it, such as ``0.0123``; a dash where there was no test, of one seed say."""
    if value is None or np.isnan(value):
        return "-"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
