"""Numbers as people read them: durations, scores, counts; plain functions from value to text."""

from __future__ import annotations

from collections.abc import Mapping


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


def interval(data: Mapping[str, float]) -> str:
    """A difference with its interval, ``+0.012 [-0.003, +0.027]``."""
    return f"{data['value']:+.3f} [{data['low']:+.3f}, {data['high']:+.3f}]"


def count(number: float | None) -> str:
    """A count with thousands set apart; ``?`` where unknown."""
    return "?" if number is None else f"{number:,.0f}"
