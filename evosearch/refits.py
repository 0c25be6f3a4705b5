"""When a model of a running search is fitted anew: at points that only the count of lessons sets.

Between two points a model stays as it is, so the same events give the same model.
"""

from __future__ import annotations

from functools import cache

LARGEST_STEP = 100
"""Lessons at most from one fit to the next."""


@cache
def fitted_at(taught: int, first: int) -> int | None:
    """After how many lessons the model in use was fitted: at ``first``, then an eighth apart."""
    if taught < first:
        return None
    last = first
    while (following := last + min(LARGEST_STEP, max(5, last // 8))) <= taught:
        last = following
    return last
