"""Tournaments: who wins by each criterion, and what parsimony changes."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

from evosearch.config import Evolution
from evosearch.pareto import crowding
from evosearch.selection import CRITERIA, tournament
from evosearch.streams import stream

POINTS = {
    1: np.array([-0.9, -0.1]),
    2: np.array([-0.1, -0.9]),
    3: np.array([-0.6, -0.6]),
    4: np.array([-0.5, -0.5]),
}


def winners(settings: Evolution, sizes: dict[int, float] | None = None) -> Counter[int]:
    rng, size = stream(0, "propose", 2), (sizes or {}).__getitem__
    return Counter(tournament(rng, list(POINTS), POINTS, settings, size) for _ in range(600))


def all_of(criterion: str, **more: float) -> Evolution:
    return Evolution(tournament_share=1.0, criterion=criterion, **more)  # type: ignore[arg-type]


def test_pareto_draws_any_member_of_the_front_and_no_other() -> None:
    counts = winners(all_of("pareto"))
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 150


def test_average_takes_the_highest_mean() -> None:
    assert set(winners(all_of("average"))) == {3}


def test_average_is_one_of_scores_whatever_else_is_an_objective() -> None:
    points = {1: np.array([-0.8, -0.8, 20 / 64]), 2: np.array([-0.7, -0.7, 0.0])}
    rng, settings = stream(5, "propose", 0), all_of("average")
    assert {tournament(rng, [1, 2], points, settings) for _ in range(20)} == {2}
    assert {tournament(rng, [1, 2], points, settings, scores=2) for _ in range(20)} == {1}


def test_a_small_tournament_lets_weaker_members_win() -> None:
    assert 4 in winners(Evolution(tournament_share=0.01, tournament_min=1))


def test_nsga2_prefers_room_and_never_takes_who_is_dominated() -> None:
    counts = winners(all_of("nsga2"))
    assert set(counts) == {1, 2, 3}
    # Of two that are drawn from three the one between the ends wins if it is drawn twice: 1/9.
    assert counts[3] / 600 == pytest.approx(1 / 9, abs=0.04)


def test_nsga2_lets_every_member_of_a_whole_front_win_by_its_room() -> None:
    points = {birth: np.array([x, (1 - x) ** 2]) for birth, x in enumerate(
        [0.0, 0.05, 0.1, 0.15, 0.5, 0.9, 1.0])}  # fmt: skip
    rng, settings = stream(4, "propose", 0), all_of("nsga2")
    counts = Counter(tournament(rng, list(points), points, settings) for _ in range(2000))
    assert set(counts) == set(points)
    assert counts[4] > 2 * counts[2]


def test_nsga2_prefers_room_where_there_are_no_ends() -> None:
    """All of the first rank but for one at the same place: the crowded ones lose."""
    front = np.array([[0.0, 1.0], [0.3, 0.5], [0.31, 0.49], [0.32, 0.48], [1.0, 0.0]])
    room = crowding(front)
    assert room[0] == room[4] == math.inf
    assert room[1] > room[2]
    assert room[3] > room[2]


def test_crowding_is_that_of_pymoo() -> None:
    rng = np.random.default_rng(0)
    for count, objectives in ((2, 2), (3, 2), (20, 2), (20, 3), (50, 4)):
        points = rng.normal(size=(count, objectives))
        theirs = calc_crowding_distance(points)
        np.testing.assert_allclose(crowding(points) / objectives, theirs, rtol=1e-12)


def test_crowding_of_equal_rows_is_finite_in_the_middle() -> None:
    assert np.isnan(crowding(np.ones((4, 2)))).sum() == 0
    assert crowding(np.zeros((1, 3))).tolist() == [math.inf]


def test_lexicase_keeps_specialists_and_drops_who_is_best_at_nothing() -> None:
    points = {birth: np.array(point) for birth, point in enumerate(
        [[-0.9, -0.1], [-0.1, -0.9], [-0.5, -0.5], [-0.45, -0.45], [-0.4, -0.4]])}  # fmt: skip
    rng = stream(1, "propose", 0)
    settings = all_of("lexicase")
    counts = Counter(tournament(rng, list(points), points, settings) for _ in range(400))
    assert {0, 1} <= set(counts)
    assert set(counts) <= {0, 1, 2}
    assert min(counts[0], counts[1]) > 60


def test_lexicase_by_hand() -> None:
    """One objective: all within the median absolute deviation of the best one may win."""
    points = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])  # median 2, deviations 2 1 0 8 9: 2
    rng = stream(2, "propose", 0)
    rows = Counter(CRITERIA["lexicase"](rng, points) for _ in range(300))
    assert set(rows) == {0, 1, 2}


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_criterion_takes_one_and_equal_ones(criterion: str) -> None:
    rng = stream(3, "propose", 0)
    assert CRITERIA[criterion](rng, np.array([[1.0, 2.0]])) == 0  # type: ignore[index]
    rows = {CRITERIA[criterion](rng, np.ones((3, 2))) for _ in range(50)}  # type: ignore[index]
    assert rows <= {0, 1, 2}


def test_parsimony_takes_the_smaller_of_two_winners() -> None:
    sizes = {1: 9.0, 2: 3.0, 3: 9.0, 4: 1.0}
    plain, thrifty = winners(all_of("pareto")), winners(all_of("pareto", parsimony=1.0), sizes)
    # 2 wins unless both tournaments are won by others: 1 - (2/3)^2 of the time.
    assert plain[2] / 600 == pytest.approx(1 / 3, abs=0.07)
    assert thrifty[2] / 600 == pytest.approx(5 / 9, abs=0.07)
    assert 4 not in thrifty


def test_without_parsimony_nothing_more_is_drawn_and_no_size_is_asked_for() -> None:
    assert winners(all_of("pareto"), {}) == winners(all_of("pareto", parsimony=0.0), {})
