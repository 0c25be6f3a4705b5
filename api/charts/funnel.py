"""The way from proposals to the front, stage by stage, with shares, costs and savings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import Ledger
from api.rest.chart_schemas import FunnelBar, FunnelPath, GainView
from db.views import FunnelRow
from evosearch.stats import Interval

MEANINGS = {
    "proposed": "graphs that mutation, chance or people proposed",
    "fresh": "new functions that pass the controller's checks; each goes to a worker",
    "signal": "spread, gradient and loss of the first three batches are in bounds",
    "quality": "enough accuracy after the first training steps",
    "stability": "the gradient stays small under gradient ascent",
    "evaluated": "trained to the end on every anchor",
    "front": "no other candidate is at least as good on every anchor",
}
CHECKS = ("signal", "quality", "stability")
"""Worker-side checks that are stages, in their order; a candidate ends at its first rejection."""
_FILTERS = {
    "fresh": "", "evaluated": "state=evaluated", "front": "where=on_front",
}  # fmt: skip


def funnel_path(
    ledger: Ledger, rows: Iterable[FunnelRow], states: Mapping[str, int], rate: Interval | None,
    audited: int, within: NDArray[np.bool_] | None = None,
) -> FunnelPath:  # fmt: skip
    """One bar a stage. A rejection saves the training that an evaluated candidate takes.

    ``within``: which evaluated candidates a brush holds; the last stages tell how many they are.

    Candidates without a verdict (waiting, failed) count as new functions and nowhere after.
    """
    rows = list(rows)
    refused = sum(row.count for row in rows if row.stage == "enqueued")
    # Duplicates have a row of their own and are counted among the controller's codes as well.
    fresh = sum(states.values()) - states.get("duplicate", 0) - refused
    skipped = sum(row.count for row in rows if row.stage == "controller")
    counts = {"proposed": fresh + skipped + refused, "fresh": fresh}
    left = fresh - sum(states.get(name, 0) for name in _NO_VERDICT)
    thrown = {check: _thrown(rows, check) for check in CHECKS}
    for check in CHECKS:
        left -= thrown[check]
        counts[check] = max(0, left)
    evaluated = states.get("evaluated", 0)
    counts |= {"evaluated": evaluated, "front": len(ledger.entered)}
    seconds = {check: _seconds(rows, check) for check in CHECKS}
    seconds["evaluated"] = _seconds(rows, "training")
    cost = seconds["quality"] + seconds["stability"] + seconds["evaluated"]
    each = cost / evaluated / 3600 if evaluated else None
    held = {} if within is None else _held(ledger, within)
    bars: list[FunnelBar] = []
    for stage, count in counts.items():
        before = bars[-1].count if bars else 0
        audit = rate if stage == "signal" else None
        bars.append(
            FunnelBar(
                stage=stage, meaning=MEANINGS[stage], count=count,
                share=count / before if before else None,
                worker_seconds=seconds.get(stage, 0.0),
                saved_hours=None if each is None or stage not in thrown else thrown[stage] * each,
                false_rejection_rate=None if audit is None else GainView(**audit._asdict()),
                filter=_FILTERS.get(stage), inside=held.get(stage),
            )
        )  # fmt: skip
    return FunnelPath(bars=bars, audited=audited)


_NO_VERDICT = ("proposed", "queued", "running", "failed", "lost", "quarantined")


def _held(ledger: Ledger, within: NDArray[np.bool_]) -> dict[str, int]:
    """Stage -> candidates of the brush that came so far; only evaluated ones have a place in it."""
    births = ledger.column("birth")[ledger.members()[within]].tolist()
    return {"evaluated": len(births), "front": sum(one in ledger.entered for one in births)}


def _thrown(rows: Iterable[FunnelRow], check: str) -> int:
    return sum(row.count for row in rows if row.stage == check and row.code)


def _seconds(rows: Iterable[FunnelRow], check: str) -> float:
    return sum(row.seconds for row in rows if row.stage in (check, f"audit:{check}"))
