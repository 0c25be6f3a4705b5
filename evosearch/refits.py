"""What models of a running search are fitted to, and when: only the count of lessons sets that.

Between two fits a model stays as it is, so the same events give the same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from evosearch.calibrate import spearman

T = TypeVar("T")

LARGEST_STEP = 100
"""Lessons at most from one fit to the next."""


@lru_cache(maxsize=64)  # each candidate asks several times between two verdicts
def fitted_at(taught: int, first: int) -> int | None:
    """After how many lessons the model in use was fitted: at ``first``, then an eighth apart."""
    if taught < first:
        return None
    last = first
    while (following := last + min(LARGEST_STEP, max(5, last // 8))) <= taught:
        last = following
    return last


def lessons_at(latest: Sequence[T], taught: int, last: int, most: int) -> tuple[T, ...]:
    """What a model was fitted to when there were ``last`` lessons: ``most`` of them at most.

    ``latest``: those of ``taught`` lessons in all that are still kept, in their order.
    """
    end = len(latest) - (taught - last)
    return tuple(latest)[max(0, end - most) : end]


def ranks(means: Sequence[float | None]) -> list[float]:
    """Each mean's share of all means that it is at least as good as; 0 where there is none."""
    known = np.sort([mean for mean in means if mean is not None])
    return [
        0.0 if mean is None else float(np.searchsorted(known, mean, "right")) / len(known)
        for mean in means
    ]


def agreement(foretold: Sequence[float], means: Sequence[float | None]) -> float | None:
    """Spearman's correlation of what was foretold of each and the rank that it came to.

    None below three of them, or where either is the same for all.
    """
    if len(foretold) < 3:
        return None
    found = spearman(np.array(foretold, dtype=np.float64), np.array(ranks(means)))
    return round(found, 4) if np.isfinite(found) else None
