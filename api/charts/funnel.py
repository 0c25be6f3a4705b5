"""The way from proposals to the front, stage by stage, with shares, costs and savings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import Ledger
from api.rest.chart_schemas import FunnelBar, FunnelPath, GainView
from db.candidate_filter import HURDLE_CODE, SURROGATE_CODES
from db.views import FunnelRow
from evosearch.screen import SCREEN_CODES
from evosearch.stats import Interval

MEANINGS = {
    "proposed": "graphs that mutation, chance or people proposed",
    "own_checks": "graphs that the checks of your plug-ins let pass, and what comes before them",
    "fresh": "new functions that pass the controller's checks; each goes to a worker",
    "signal": "spread, gradient and loss of the first three batches are in bounds",
    "surrogate": "not given up by the model that ranks what waits for its training",
    "quality": "enough accuracy after the first training steps",
    "stability": "the gradient stays small under gradient ascent",
    "hurdles": "scores in the middle of training that reach the hurdles",
    "evaluated": "trained to the end on every anchor",
    "front": "no other candidate is at least as good on every anchor",
}
CHECKS = ("signal", "quality", "stability")
"""Worker-side checks that are stages, in their order; a candidate ends at its first rejection."""
_THROWN_BY = {"signal": "signal", "surrogate": "surrogate", "quality": "quality",
              "stability": "stability", "hurdles": "hurdle"}  # fmt: skip
"""Stage after the controller's -> what a filter calls who rejects there (``rejected_by``)."""
_BEFORE_OWN = list(SCREEN_CODES)[: list(SCREEN_CODES).index("own_check") + 1]


def funnel_path(
    ledger: Ledger, rows: Iterable[FunnelRow], states: Mapping[str, int], rate: Interval | None,
    audited: int, within: NDArray[np.bool_] | None = None,
) -> FunnelPath:  # fmt: skip
    """One bar a stage. A rejection saves the training that an evaluated candidate takes.

    Stages of own checks, a surrogate and hurdles are there where the search has them.
    ``within``: which evaluated candidates a brush holds; the last stages tell how many they are.

    Candidates without a verdict (waiting, failed) count as new functions and nowhere after.
    """
    rows = list(rows)
    counts, thrown = _counts(ledger, rows, states)
    evaluated = counts["evaluated"]
    seconds = {check: _seconds(rows, check) for check in CHECKS}
    seconds["evaluated"] = _seconds(rows, "training")
    cost = seconds["quality"] + seconds["stability"] + seconds["evaluated"]
    saved = {} if not evaluated else _saved(rows, counts, thrown, cost / evaluated / 3600)
    filters = _filters(counts)
    held = {} if within is None else _held(ledger, within)
    bars: list[FunnelBar] = []
    for stage, count in counts.items():
        before = bars[-1].count if bars else 0
        audit = rate if stage == "signal" else None
        bars.append(
            FunnelBar(
                stage=stage, meaning=MEANINGS[stage], count=count,
                share=count / before if before else None,
                worker_seconds=seconds.get(stage, 0.0), saved_hours=saved.get(stage),
                false_rejection_rate=None if audit is None else GainView(**audit._asdict()),
                filter=filters.get(stage), inside=held.get(stage),
            )
        )  # fmt: skip
    return FunnelPath(bars=bars, audited=audited)


_NO_VERDICT = ("proposed", "queued", "running", "failed", "lost", "quarantined")


def _counts(
    ledger: Ledger, rows: Sequence[FunnelRow], states: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """(stage -> what came through it, stage -> what it threw out), in the order of the stages."""
    config = ledger.config
    refused = sum(row.count for row in rows if row.stage == "enqueued")
    # Duplicates have a row of their own and are counted among the controller's codes as well.
    fresh = sum(states.values()) - states.get("duplicate", 0) - refused
    skipped = sum(row.count for row in rows if row.stage == "controller")
    counts = {"proposed": fresh + skipped + refused}
    thrown = {check: _thrown(rows, check) for check in CHECKS}
    thrown["surrogate"] = _ended(rows, SURROGATE_CODES)
    thrown["hurdles"] = _ended(rows, (HURDLE_CODE,))
    own = _of(rows, ("own_check",))
    if own or config.space.checks:
        thrown["own_checks"] = own
        counts["own_checks"] = counts["proposed"] - _of(rows, _BEFORE_OWN)
    counts["fresh"] = fresh
    there = {"surrogate": config.surrogate.enabled, "hurdles": bool(config.checks.hurdles.steps)}
    left = fresh - sum(states.get(name, 0) for name in _NO_VERDICT)
    for stage in _THROWN_BY:
        if not (there.get(stage, True) or thrown[stage]):
            continue
        left -= thrown[stage]
        counts[stage] = max(0, left)
    counts |= {"evaluated": states.get("evaluated", 0), "front": len(ledger.entered)}
    return counts, thrown


def _saved(
    rows: Sequence[FunnelRow], counts: Mapping[str, int], thrown: Mapping[str, int], each: float
) -> dict[str, float]:
    """Stage -> hours of training that its rejections made needless; ``each``: of one candidate.

    What own checks throw out would have come to a worker as seldom as what they let pass does. Of
    hurdles what their candidates had taken until then is not saved.
    """
    saved = {stage: each * thrown[stage] for stage in counts if stage in thrown}
    if counts.get("own_checks"):
        saved["own_checks"] *= counts["fresh"] / counts["own_checks"]
    if "hurdles" in saved:
        spent = sum(row.seconds for row in rows if (row.stage, row.code) == ("worker", HURDLE_CODE))
        saved["hurdles"] = max(0.0, saved["hurdles"] - spent / 3600)
    return saved


def _filters(counts: Iterable[str]) -> dict[str, str]:
    """Stage -> the query of /candidates that lists what came through it, where that is stored."""
    found = {"fresh": "not (state = 'duplicate' or rejected_by = 'controller')"}
    gone = ["'controller'"]
    for stage in counts:
        if stage in _THROWN_BY:
            gone.append(f"'{_THROWN_BY[stage]}'")
            found[stage] = (
                f"state in ('evaluated', 'rejected') and not rejected_by in ({', '.join(gone)})"
            )
    made = {stage: urlencode({"where": text}) for stage, text in found.items()}
    return made | {"evaluated": "state=evaluated", "front": "state=evaluated&where=on_front"}


def _held(ledger: Ledger, within: NDArray[np.bool_]) -> dict[str, int]:
    """Stage -> candidates of the brush that came so far; only evaluated ones have a place in it."""
    births = ledger.column("birth")[ledger.members()[within]].tolist()
    return {"evaluated": len(births), "front": sum(one in ledger.entered for one in births)}


def _of(rows: Iterable[FunnelRow], codes: Sequence[str]) -> int:
    """What the controller refused with these codes, of proposals and of enqueued formulas."""
    return sum(row.count for row in rows
               if row.stage in ("controller", "enqueued") and row.code in codes)  # fmt: skip


def _ended(rows: Iterable[FunnelRow], codes: Sequence[str]) -> int:
    return sum(row.count for row in rows if row.stage == "worker" and row.code in codes)


def _thrown(rows: Iterable[FunnelRow], check: str) -> int:
    return sum(row.count for row in rows if row.stage == check and row.code)


def _seconds(rows: Iterable[FunnelRow], check: str) -> float:
    return sum(row.seconds for row in rows if row.stage in (check, f"audit:{check}"))
