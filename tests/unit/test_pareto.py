"""Non-dominated sets and hypervolume against closed forms, brute force and pymoo."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from evosearch.errors import EvosearchError
from evosearch.pareto import FEW, Front, dominates, hypervolume, non_dominated


def brute_force(points: np.ndarray, reference: np.ndarray) -> float:
    """Sum of grid cells that some point dominates: exact, exponential in the dimension."""
    axes = [np.unique(np.append(points[:, k], reference[k])) for k in range(len(reference))]
    axes = [axis[axis <= reference[k]] for k, axis in enumerate(axes)]
    total = 0.0
    for cell in itertools.product(*(range(len(axis) - 1) for axis in axes)):
        low = np.array([axis[i] for axis, i in zip(axes, cell, strict=True)])
        high = np.array([axis[i + 1] for axis, i in zip(axes, cell, strict=True)])
        if ((points <= low).all(axis=1)).any():
            total += float(np.prod(high - low))
    return total


def test_hypervolume_of_a_box_and_of_a_staircase() -> None:
    assert hypervolume([[0.25, 0.5, 0.0]], [1, 1, 1]) == pytest.approx(0.75 * 0.5)
    stairs = [[i / 4, (3 - i) / 4] for i in range(4)]
    assert hypervolume(stairs, [1, 1]) == pytest.approx(sum((i + 1) / 16 for i in range(4)))


def test_points_outside_the_reference_and_empty_sets_add_nothing() -> None:
    assert hypervolume(np.empty((0, 3)), [1, 1, 1]) == 0.0
    assert hypervolume([[0.5, 2.0]], [1, 1]) == 0.0
    assert hypervolume([[0.5, 2.0], [0.5, 0.5]], [1, 1]) == pytest.approx(0.25)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_hypervolume_equals_brute_force_and_pymoo(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    for size in (1, 2, 7):
        points = rng.random((size, dimension)).round(1)
        reference = np.full(dimension, 0.95)
        expected = brute_force(points, reference)
        assert hypervolume(points, reference) == pytest.approx(expected, abs=1e-12)
        assert hypervolume(points, reference) == pytest.approx(
            float(HV(ref_point=reference)(points)), abs=1e-12
        )


def test_hypervolume_of_many_points_equals_pymoo() -> None:
    points = np.random.default_rng(0).random((200, 3))
    reference = np.ones(3)
    assert hypervolume(points, reference) == pytest.approx(float(HV(ref_point=reference)(points)))


def test_non_dominated_equals_pymoo_with_ties() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 5, FEW, FEW + 1, 300):
        points = rng.integers(0, 6, (size, 3)).astype(float)
        expected = set(NonDominatedSorting().do(points, only_non_dominated_front=True))
        assert set(np.flatnonzero(non_dominated(points))) == expected


def test_non_dominated_where_rounding_makes_sums_equal() -> None:
    points = [[1e16, 1.0], [1e16, 0.0], [1.7e308, 1.7e308], [1e16, 0.0]]
    assert non_dominated(points).tolist() == [False, True, False, True]
    assert non_dominated(points * FEW).tolist() == [False, True, False, True] * FEW


def test_equal_points_do_not_dominate_each_other() -> None:
    assert not dominates(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert non_dominated([[1.0, 2.0], [1.0, 2.0]]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    for call in (non_dominated, lambda v: hypervolume(v, [1, 1])):
        with pytest.raises(EvosearchError, match="finite"):
            call([[0.0, bad]])
    with pytest.raises(EvosearchError, match="finite"):
        Front([1, 1]).change(1, [0.0, bad])


def test_front_kept_incrementally_equals_front_from_scratch() -> None:
    rng, order = np.random.default_rng(2), random.Random(2)
    front, latest = Front([1.0, 1.0, 1.0]), {}
    for step in range(400):
        if step == 250:
            again = Front([1.0, 1.0, 1.0])
            again.restore(front.points, front.members)
            front = again
        known = step > 20 and order.random() < 0.3
        member = order.choice(sorted(latest)) if known else step
        point = rng.random(3).round(2)
        change = front.change(member, point)
        front.apply(member, point, change.entered, change.left)
        latest[member] = point
        values = np.stack(list(latest.values()))
        mask = non_dominated(values)
        scratch = {m for m, keep in zip(latest, mask, strict=True) if keep}
        assert front.members == scratch
        assert change.hypervolume == pytest.approx(hypervolume(values, [1, 1, 1]))


def test_what_a_lowered_member_had_dominated_returns() -> None:
    front = Front([0.0, 0.0])
    for member, point in ((1, [-0.9, -0.9]), (2, [-0.5, -0.5])):
        change = front.change(member, point)
        front.apply(member, point, change.entered, change.left)
    assert front.members == {1}
    change = front.change(1, [-0.1, -0.1])
    assert (change.entered, change.left) == ((2,), (1,))
