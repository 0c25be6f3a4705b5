"""Who becomes a parent: tournaments over the population.

Source: Liu et al. 2020, section 3.3: a random share of the population, and of it a random member
of its Pareto front (the criterion ``pareto``) or the member with the highest mean (``average``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np

from evosearch.config import Evolution
from evosearch.pareto import Points, non_dominated
from evosearch.streams import pick, sample


def tournament(
    rng: random.Random,
    population: Sequence[int],
    objectives: Mapping[int, Points],
    settings: Evolution,
) -> int:
    """The birth of the tournament's winner.

    ``objectives``: birth -> minimised objectives (k,) of every member of a non-empty population.
    """
    size = max(settings.tournament_min, math.ceil(settings.tournament_share * len(population)))
    drawn = sample(rng, population, size)
    points = np.stack([objectives[birth] for birth in drawn])
    if settings.criterion == "average":
        return drawn[int(points.mean(axis=1).argmin())]
    front = [birth for birth, keep in zip(drawn, non_dominated(points), strict=True) if keep]
    return pick(rng, front)
