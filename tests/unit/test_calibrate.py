"""Calibration figures against known truth, and the report's lines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from api.commands_preset import lines
from evosearch.calibrate import advice, calibrate, spearman

RNG = np.random.default_rng(2)


def test_spreads_are_found_again():
    truth = RNG.normal(0.7, 0.03, (400, 1))
    found = calibrate(truth + RNG.normal(0.0, 0.02, (400, 6)))
    assert found.between == pytest.approx(0.03, rel=0.1)
    assert found.noise == pytest.approx(0.02, rel=0.1)
    assert found.ratio == pytest.approx(1.5, rel=0.15)
    assert found.seeds == pytest.approx(2 * (1.96 * 0.02 / 0.01) ** 2, rel=0.2)
    assert math.isnan(found.correlation)


def test_equal_layers_have_no_spread_of_their_own():
    found = calibrate(RNG.normal(0.7, 0.02, (300, 5)))
    assert found.between < 0.005
    assert advice(found)[0].startswith("one seed does not rank")


def test_spearman_equals_an_independent_one_with_ties():
    for _ in range(20):
        a, b = RNG.integers(0, 6, (2, 15)).astype(float)
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_advice_follows_the_figures():
    scores = np.array([[0.5, 0.51], [0.6, 0.61], [0.7, 0.71]])
    same = calibrate(scores, scores)
    assert same.correlation == pytest.approx(1.0)
    assert advice(same)[0] == "one seed tells these layers apart"
    assert "much alike" in advice(same)[-1]
    assert "mislead" in advice(calibrate(scores, scores[::-1]))[-1]
    with pytest.raises(ValueError, match="two layers"):
        calibrate(scores[:1])


def test_the_report_has_a_row_a_layer_and_figures_an_anchor():
    short = {n: {"resnet": [0.5 + i / 10, 0.52 + i / 10]} for i, n in enumerate("ab")}
    said = lines(["resnet"], ["a", "b"], short, short)
    assert said[1].split() == ["a", "0.510", "+-0.014"]
    assert [line.split()[0] for line in said[4:6]] == ["resnet", "mean"]
    assert "rank correlation with the longer task 1.00" in said[5]
