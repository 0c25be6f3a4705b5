"""A search in a line, and whether it can be compared with another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import EVALUATED, Ledger
from api.charts.measure import objectives_of
from api.charts.pace import pace
from api.charts.progress import thinned
from api.rest.chart_schemas import SearchLine, SearchVerdict
from evosearch.config import SearchConfig
from evosearch.ports import SearchInfo

SPARKS = 40
RECENT = 50
"""Outcomes whose gaps tell how long the next one may take."""


def search_line(
    ledger: Ledger,
    info: SearchInfo,
    verdict: SearchVerdict,
    *,
    comparable: bool,
    now: datetime | None = None,
) -> SearchLine:
    """The search's line; ``now`` is the moment that the last hour ends at."""
    hour = (now or datetime.now(UTC)) - timedelta(hours=1)
    outcome, outcome_gap = _last(np.array(ledger.work.ended[-RECENT:]))
    done = np.array(ledger.work.kind) == EVALUATED
    evaluation, evaluation_gap = _last(np.array(ledger.work.ended)[done][-RECENT:])
    rate, worked = pace(ledger)
    return SearchLine(
        id=info.id, title=info.title, status=info.status, phase=ledger.phase,
        evaluated=info.evaluated, budget=ledger.budget,
        dataset=info.config.task.dataset, anchors=list(ledger.anchors), comparable=comparable,
        objectives=objectives_of(info.config),
        reference={one.name: one.reference for one in info.config.task.anchors},
        verdict=verdict, sparkline=sparkline(ledger), worker_hours=ledger.seconds / 3600,
        last_outcome=outcome, median_gap=outcome_gap, last_evaluation=evaluation,
        evaluation_gap=evaluation_gap, failures_last_hour=ledger.failures.since(hour),
        evaluations_per_hour=rate, worked_hours=worked,
        random=info.config.evolution.random_share >= 1.0,
    )  # fmt: skip


def _last(ended: NDArray[np.float64]) -> tuple[datetime | None, float | None]:
    """(when the last one ended, the median gap between them)."""
    if not len(ended):
        return None, None
    gap = float(np.median(np.diff(ended))) if len(ended) > 1 else None
    return datetime.fromtimestamp(float(ended[-1]), UTC), gap


def sparkline(ledger: Ledger) -> list[float]:
    """The hypervolume at evenly spaced numbers of evaluated candidates, from 0 to now."""
    if not ledger.front_steps:
        return []
    at = np.array([one.place.evaluated for one in ledger.front_steps])
    values = np.array([one.hypervolume for one in ledger.front_steps])
    wanted = np.linspace(at[0], max(at[-1], ledger.evaluated), SPARKS)
    places = np.searchsorted(at, wanted, side="right") - 1
    return [float(f"{one:.6g}") for one in thinned(values[places].tolist(), SPARKS)]


def comparable_to(one: SearchConfig, other: SearchConfig) -> bool:
    """Whether scores of the two mean the same: data, anchors, recipe and rivals agree."""
    return one.task == other.task and one.confirmation.rivals == other.confirmation.rivals
