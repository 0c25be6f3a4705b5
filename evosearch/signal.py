"""Bounds of the signal check that a search learns from its own outcomes: pure functions.

The rule, for each anchor and statistic:

- Until ``checks.signal.learn_after`` layers have passed quality on every anchor, nothing is bounded
  (or what the config says).
- Then the bounds are the range of the layers that passed, widened by a factor: ratios divided and
  multiplied by it, losses, differences, by its logarithm on both sides.
- The factor is 10 at first. Each audited rejection that fails quality confirms the bounds, and 25
  confirmations in a row halve the factor's distance from 2, its smallest value.
- An audited rejection that passes quality was wrong: its own statistics join the range, and the
  factor is 10 again.

What is learnt depends on recorded outcomes alone, so the events replay to the same bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evosearch import events as ev
from evosearch.config import Bounds, Signal
from evosearch.records import CheckRun

LOSSES = frozenset({"loss", "second_loss", "third_loss"})
"""Statistics that are compared by their difference; all others by their ratio."""
FIRST_FACTOR = 10.0
LEAST_FACTOR = 2.0
HALVING = 25
"""Confirmations in a row that halve the factor's distance from its smallest value."""

Ranges = Mapping[str, Mapping[str, tuple[float, float]]]
"""Anchor -> statistic -> smallest and largest value."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What outcomes have told so far.

    ``passed``: layers that passed quality on every anchor. ``confirmed``: audited rejections in a
    row that failed it. ``ranges``: of the statistics of all that passed it.
    """

    passed: int = 0
    confirmed: int = 0
    ranges: Ranges = field(default_factory=dict)

    @property
    def factor(self) -> float:
        """By which ranges are widened."""
        left = math.pow(0.5, self.confirmed / HALVING)
        return LEAST_FACTOR + (FIRST_FACTOR - LEAST_FACTOR) * left


def learn(learnt: Learnt, event: ev.Event) -> Learnt:
    """What is known after the event; the same where it tells nothing of the signal check."""
    if isinstance(event, ev.EvaluationRecorded) and event.purpose == "search":
        return _passed(learnt, event.checks) if _passes(event.checks) else learnt
    if not isinstance(event, ev.CandidateRejected):
        return learnt
    if event.audit_passed is None:  # stability or a hurdle may reject what passed quality
        return _passed(learnt, event.checks) if _passes(event.checks) else learnt
    if event.audit_passed:
        return Learnt(learnt.passed, 0, _joined(learnt.ranges, event.checks))
    return Learnt(learnt.passed, learnt.confirmed + 1, learnt.ranges)


def bounds_of(learnt: Learnt, settings: Signal) -> dict[str, dict[str, Bounds]]:
    """The bounds that follow; none as long as too few layers have passed quality."""
    if learnt.passed < settings.learn_after:
        return {}
    return {
        anchor: {name: _widened(name, low, high, learnt.factor) for name, (low, high) in by.items()}
        for anchor, by in learnt.ranges.items()
    }


def relearnt(
    learnt: Learnt, event: ev.Event, known: Mapping[str, Mapping[str, Bounds]], settings: Signal
) -> tuple[ev.BoundsLearnt, ...]:
    """The event that says which bounds hold after that one, if they are others than before."""
    if not settings.learn:
        return ()
    after = learn(learnt, event)
    found = bounds_of(after, settings)
    if not found or found == known:
        return ()
    return (ev.BoundsLearnt(bounds=found, factor=round(after.factor, 4), passed=after.passed),)


def _passes(checks: Sequence[CheckRun]) -> bool:
    """Whether they say that a layer passed signal and then quality, on every anchor."""
    runs = [run for run in checks if run.check in ("signal", "quality")]
    if any(run.rejection is not None or run.audited for run in runs):
        return False
    signal = [run.anchor for run in runs if run.check == "signal"]
    return bool(signal) and signal == [run.anchor for run in runs if run.check == "quality"]


def _passed(learnt: Learnt, checks: Sequence[CheckRun]) -> Learnt:
    return Learnt(learnt.passed + 1, learnt.confirmed, _joined(learnt.ranges, checks))


def _joined(ranges: Ranges, checks: Sequence[CheckRun]) -> Ranges:
    """The ranges with the statistics of one more layer; what is not finite tells nothing."""
    joined = {anchor: dict(by) for anchor, by in ranges.items()}
    for run in checks:
        if run.check != "signal":
            continue
        by = joined.setdefault(run.anchor, {})
        for name, value in run.findings.items():
            if math.isfinite(value):
                low, high = by.get(name, (value, value))
                by[name] = min(low, value), max(high, value)
    return joined


def _widened(name: str, low: float, high: float, factor: float) -> Bounds:
    if name in LOSSES:
        low, high = low - math.log(factor), high + math.log(factor)
    else:
        low, high = low / factor, high * factor
    return Bounds(low=float(f"{low:.4g}"), high=float(f"{high:.4g}"))
