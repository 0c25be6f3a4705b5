"""Intervals: coverage of the bootstrap, and the audited false-rejection rate."""

from __future__ import annotations

import numpy as np
import pytest

from evosearch.stats import (
    best_of,
    false_rejection_rate,
    mean_interval,
    p_against_best,
    paired_bootstrap,
)


def rights(rng: np.random.Generator, accuracy: float, seeds: int = 10) -> np.ndarray:
    """(3 anchors, seeds, images) of right draws, with easy and hard images and seed effects."""
    image = rng.normal(0.0, 0.1, (1, 1, 200))
    seed = rng.normal(0.0, 0.02, (3, seeds, 1))
    return (rng.random((3, seeds, 200)) < accuracy + image + seed).astype(float)


def test_the_bootstrap_covers_the_true_difference_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(120):
        ours, theirs = rights(rng, 0.72), rights(rng, 0.70)
        _, overall = paired_bootstrap(ours, theirs, resamples=300, level=0.9, seed=trial)
        covered += overall.low <= 0.02 <= overall.high
    assert 0.82 <= covered / 120 <= 1.0


def test_equal_layers_differ_by_nothing_and_a_shift_is_found() -> None:
    ours = rights(np.random.default_rng(1), 0.7)
    each, overall = paired_bootstrap(ours, ours, resamples=100, level=0.95, seed=0)
    assert overall == (0.0, 0.0, 0.0)
    assert len(each) == 3
    worse = rights(np.random.default_rng(2), 0.5)
    each, overall = paired_bootstrap(ours, worse, resamples=300, level=0.95, seed=0)
    assert overall.low > 0.1
    assert overall.value == pytest.approx(np.mean([interval.value for interval in each]))


def test_mean_interval_holds_the_mean_and_shrinks_with_more_seeds() -> None:
    rng = np.random.default_rng(5)
    few, many = rng.normal(0.7, 0.02, 4), rng.normal(0.7, 0.02, 100)
    widths = []
    for values in (few, many):
        value, low, high = mean_interval(values, level=0.95, seed=0)
        assert low <= value <= high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_audited_rejections_stand_for_all_rejections() -> None:
    rate = false_rejection_rate(audited=100, wrong=1, passed=90, share=0.1)
    assert rate is not None
    assert rate.value == pytest.approx(10 / 100)
    assert rate.low < rate.value < rate.high
    none = false_rejection_rate(audited=300, wrong=0, passed=90, share=0.1)
    assert none is not None
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(36.9 / (36.9 + 90), abs=0.01)
    assert false_rejection_rate(audited=0, wrong=0, passed=9, share=0.1) is None


def test_the_best_of_several_is_put_together_anchor_by_anchor() -> None:
    low, high = np.zeros((1, 2, 4)), np.ones((1, 2, 4))
    strongest, places = best_of([np.concatenate([low, high]), np.concatenate([high, low])])
    assert places == [1, 0]
    assert strongest.min() == 1.0


@pytest.mark.parametrize("seeds", [3, 10])
def test_equals_of_two_are_rarely_told_apart_from_them(seeds: int) -> None:
    """Scores without rows: there a bootstrap over three seeds errs one time in eight."""
    rng = np.random.default_rng(seeds)
    above = below = 0
    for _ in range(1500):
        ours, *others = rng.normal(0.7, 0.02, (3, 3, seeds, 1))
        shown = p_against_best(ours, others) < 0.05
        over = ours.mean() > best_of(others)[0].mean()
        above += shown and over
        below += shown and not over
    assert above / 1500 < 0.04
    assert below / 1500 < 0.04
