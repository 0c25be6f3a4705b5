"""Numbers as people read them: durations, scores, counts; plain functions from value to text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evosearch.objectives import ACCURACY, Objective

DIGITS = 3


def duration(seconds: float | None) -> str:
    """Seconds as ``45 s``, ``3 min 20 s`` or ``2 h 5 min``; ``?`` where unknown."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def cost(seconds: float | None) -> str:
    """A cost in seconds, with three digits where it is small."""
    if seconds is None:
        return ""
    return duration(seconds) if seconds >= 100 else f"{seconds:.3g} s"


def score(value: float | None, *, provisional: bool = False) -> str:
    """An accuracy from 0 to 1; ``~`` marks a provisional one (a single seed)."""
    if value is None:
        return "-"
    return f"{'~' if provisional else ''}{value:.3f}"


def shown(
    score_: float | None, goal: Objective, *, provisional: bool = False, digits: int = DIGITS
) -> str:
    """A score as its objective's value, without the unit; an accuracy as `score` says it."""
    if score_ is None:
        return "-"
    return f"{'~' if provisional else ''}{goal.value(score_):.{digits}f}"


def changed(data: Mapping[str, float], goal: Objective) -> str:
    """A difference of scores with its interval, in the objective's unit; gains may be negative."""
    low, high = sorted((data["low"], data["high"]), key=goal.value)
    return f"{goal.change(data['value'])} [{goal.change(low)}, {goal.change(high)}]"


def goal_of(data: Mapping[str, Any] | None) -> Objective:
    """The objective that a report names; the accuracy for reports that name none."""
    return ACCURACY if data is None else Objective.model_validate(data)


def heading(anchor: str, goal: Objective) -> str:
    """An anchor as the head of a column: with its objective where that is no accuracy."""
    if goal == ACCURACY or goal.name == "accuracy":
        return anchor
    arrow = "higher" if goal.direction == "max" else "lower"
    unit = f" {goal.unit}" if goal.unit else ""
    name = anchor if "#" in anchor else f"{anchor} {goal.name}"
    return f"{name}{unit} ({arrow})"


def interval(data: Mapping[str, float]) -> str:
    """A difference with its interval, ``+0.012 [-0.003, +0.027]``."""
    return f"{data['value']:+.3f} [{data['low']:+.3f}, {data['high']:+.3f}]"


def count(number: float | None) -> str:
    """A count with thousands set apart; ``?`` where unknown."""
    return "?" if number is None else f"{number:,.0f}"
