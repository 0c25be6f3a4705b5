"""Who becomes a parent: tournaments over the population, and how each picks its winner.

A tournament draws a random share of the population (Liu et al. 2020, section 3.3). Nothing here
knows of searches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evosearch.config import Criterion, Evolution
from evosearch.pareto import Points, crowding, non_dominated
from evosearch.streams import pick, sample

Winner = Callable[[random.Random, Points], int]
"""From minimised objectives (n, k) of those that were drawn to the row of the winner."""


def tournament(
    rng: random.Random,
    population: Sequence[int],
    objectives: Mapping[int, Points],
    settings: Evolution,
    size: Callable[[int], float] = lambda birth: 0.0,
    scores: int | None = None,
) -> int:
    """The birth of the tournament's winner.

    ``objectives``: birth -> minimised objectives (k,) of every member of a non-empty population.
    ``scores``: how many of them, the first ones, make the mean of ``average``; None: all k.
    ``size``: birth -> what parsimony holds against it; asked for only where that is on.

    Source of parsimony: double tournaments, Luke and Panait 2002.
    """
    first = _winner(rng, population, objectives, settings, scores)
    if not settings.parsimony or rng.random() >= settings.parsimony:
        return first
    second = _winner(rng, population, objectives, settings, scores)
    return second if size(second) < size(first) else first


def _winner(
    rng: random.Random,
    population: Sequence[int],
    objectives: Mapping[int, Points],
    settings: Evolution,
    scores: int | None,
) -> int:
    count = max(settings.tournament_min, math.ceil(settings.tournament_share * len(population)))
    drawn = sample(rng, population, count)
    points = np.stack([objectives[birth] for birth in drawn])
    if settings.criterion == "average":
        points = points[:, :scores]
    return drawn[CRITERIA[settings.criterion](rng, points)]


def _pareto(rng: random.Random, points: Points) -> int:
    return pick(rng, [row for row, keep in enumerate(non_dominated(points)) if keep])


def _average(_: random.Random, points: Points) -> int:
    return int(points.mean(axis=1).argmin())


def _crowded(rng: random.Random, points: Points) -> int:
    """Of two of the first rank who has more room around; of equals either.

    Two, as of whole ranks only the ends of the objectives would ever win: their room is infinite.
    """
    rank = np.flatnonzero(non_dominated(points))
    room = crowding(points[rank])
    one, other = (pick(rng, range(len(rank))) for _ in range(2))
    return int(rank[one if room[one] >= room[other] else other])


def _lexicase(rng: random.Random, points: Points) -> int:
    """Objective after objective, in random order, only who is close to its best one stays."""
    left = np.arange(len(points))
    for column in sample(rng, range(points.shape[1]), points.shape[1]):
        values = points[left, column]
        close = np.median(np.abs(values - np.median(values)))
        left = left[values <= values.min() + close]
    return int(left[int(rng.random() * len(left))])


CRITERIA: dict[Criterion, Winner] = {
    "pareto": _pareto,
    "average": _average,
    "nsga2": _crowded,
    "lexicase": _lexicase,
}
"""Name -> how a winner is picked. ``pareto`` and ``average`` are those of Liu et al. 2020;
``nsga2`` is the crowded comparison of Deb et al. 2002, section III.B, of two that are drawn from
the tournament's first rank; ``lexicase`` is dynamic epsilon-lexicase selection (best and median
absolute deviation of those that are left), La Cava et al. 2019."""
