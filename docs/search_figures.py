"""How the pages write a figure with its interval."""

from __future__ import annotations

from collections.abc import Mapping

FEWEST = 6
"""Seeds for an interval: the range of five would hold a median 94 % of the time, of six 97 %."""


def share(one: Mapping[str, float | None], seeds: int) -> str:
    """A median over seeds with its interval, where they are enough for one; what is not reached is
    said so."""
    value, low, high = (
        "not reached" if one[name] is None else f"{one[name]:.2f}"
        for name in ("value", "low", "high")
    )
    return value if seeds < FEWEST else f"{value} [{low}, {high}]"


def number(one: Mapping[str, float | None], digits: int) -> str:
    """A median with its interval."""
    value, low, high = (f"{one[name] or 0.0:,.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def percent(one: Mapping[str, float]) -> str:
    """A share in per cent, with its interval."""
    value, low, high = (100 * one[name] for name in ("value", "low", "high"))
    return f"{value:+.0f} % [{low:+.0f}, {high:+.0f}]"


def points(one: Mapping[str, float]) -> str:
    """A difference of accuracies in points, with its interval."""
    value, low, high = (100 * one[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
