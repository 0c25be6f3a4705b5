"""A search over its course: who led, the hypervolume, what was done to it, and how fast it went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import EVALUATED, FAILED, MARKS_KEPT, REJECTED, Lead, Ledger, Place
from api.charts.pace import silences
from api.rest.chart_schemas import (
    MarkView,
    ProgressPoint,
    ProgressView,
    ThroughputView,
    VolumePoint,
)
from evosearch.gain import better_baseline

T = TypeVar("T")


def progress(
    ledger: Ledger,
    created: datetime,
    updated: datetime,
    points: int,
    gpus: float,
    within: NDArray[np.bool_] | None = None,
) -> ProgressView:
    """Leader, hypervolume and marks against every axis. ``gpus``: of a worker.

    ``within``: which evaluated candidates a brush holds; their highest so far is told as well.
    """
    baseline = better_baseline(ledger.samples, ledger.config.confirmation.rivals)
    better = np.full(len(ledger.anchors), math.nan) if baseline is None else baseline.means
    now = ledger.place(ledger.last, updated)
    marks = sorted([*ledger.marks, *silences(ledger)], key=lambda one: one.place.at)

    def axes(place: Place) -> dict[str, float]:
        hours = (place.at - created).total_seconds() / 3600
        return {
            "evaluated": place.evaluated, "hours": hours, "steps": place.steps,
            "gpu_hours": place.seconds / 3600 * gpus,
        }  # fmt: skip

    def led(leads: Sequence[Lead]) -> list[ProgressPoint]:
        return [
            ProgressPoint.model_validate(axes(one.place) | {
                "at": one.place.at, "seq": one.place.seq, "birth": one.birth, "seeds": one.seeds,
                "confirmed": one.seeds > 1, "gains": list(np.array(one.scores) - better),
                "gain": float(np.mean(np.array(one.scores) - better)),
            })
            for one in thinned(leads if baseline is not None else [], points)
        ]  # fmt: skip

    return ProgressView(
        anchors=list(ledger.anchors), leader=led(ledger.sure_leads), provisional=led(ledger.leads),
        inside=[] if within is None else led(leads_within(ledger, within)),
        hypervolume=[
            VolumePoint.model_validate(axes(one.place) | {"value": one.hypervolume})
            for one in thinned(ledger.front_steps, points)
        ],
        marks=[
            MarkView.model_validate(axes(one.place) | {
                "at": one.place.at, "seq": one.place.seq, "kind": one.kind, "text": one.text,
            })
            for one in marks[-MARKS_KEPT:]
        ],
        now=VolumePoint.model_validate(axes(now) | {"value": ledger.hypervolume}),
    )  # fmt: skip


def leads_within(ledger: Ledger, within: NDArray[np.bool_]) -> list[Lead]:
    """The highest so far of those candidates, by today's scores, in the order of outcomes."""
    rows = ledger.members()[within]
    rows = rows[np.argsort(ledger.column("outcome")[rows], kind="stable")]
    if not len(rows):
        return []
    scores, seeds = ledger.score_matrix()[rows], ledger.seed_counts()[rows]
    means = scores.mean(axis=1)
    first = np.concatenate(([True], means[1:] > np.maximum.accumulate(means)[:-1]))
    kinds = np.array(ledger.work.kind)
    pieces = np.searchsorted(np.array(ledger.work.seq), ledger.column("outcome")[rows])
    evaluated, spent = np.cumsum(kinds == EVALUATED), np.cumsum(np.array(ledger.work.seconds))
    found = []
    for place in np.flatnonzero(first):
        piece = int(pieces[place])
        when = Place(
            ledger.work.seq[piece], datetime.fromtimestamp(ledger.work.ended[piece], UTC),
            int(evaluated[piece]), ledger.work.steps[piece], float(spent[piece]),
        )  # fmt: skip
        shown = tuple(float(one) for one in scores[place])
        found.append(Lead(when, ledger.birth[int(rows[place])], shown, int(seeds[place])))
    return found


def thinned(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    places = np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))
    return [items[int(place)] for place in places]


def throughput(
    ledger: Ledger,
    bins: int,
    since: datetime | None = None,
    within: NDArray[np.bool_] | None = None,
    pool: int | None = None,
) -> ThroughputView:
    """Outcomes and busy workers in equal bins of time, from the first piece of work to the last.

    ``within``: which evaluated candidates a brush holds; they are counted by themselves too.
    ``pool``: workers that there are now; None where nobody knows.
    """
    ended, seconds = np.array(ledger.work.ended), np.array(ledger.work.seconds)
    kind = np.array(ledger.work.kind)
    if not len(ended):
        return ThroughputView(
            starts=[], bin_seconds=0.0, evaluated=[], rejected=[], failed=[],
            evaluations_per_hour=[], busy=[], workers=pool, busy_share=[], inside=None,
        )  # fmt: skip
    first = float((ended - seconds).min())
    if since is not None:
        first = max(first, since.timestamp())
    last = max(float(ended.max()), first + bins)
    edges = np.linspace(first, last, bins + 1)
    width = float(edges[1] - edges[0])
    counts = {k: np.histogram(ended[kind == k], edges)[0] for k in (EVALUATED, REJECTED, FAILED)}
    busy = np.diff(_busy_until(edges, ended - seconds, ended)) / width
    # Pieces of work are timed by workers and end by the store's clock, hence the slack.
    known = [pool is not None and one <= pool + 0.05 for one in busy]
    return ThroughputView(
        starts=[datetime.fromtimestamp(one, UTC) for one in edges[:-1]], bin_seconds=width,
        evaluated=counts[EVALUATED].tolist(), rejected=counts[REJECTED].tolist(),
        failed=counts[FAILED].tolist(),
        evaluations_per_hour=(counts[EVALUATED] * 3600 / width).tolist(),
        busy=[float(f"{one:.4g}") for one in busy], workers=pool,
        busy_share=[
            float(f"{min(1.0, one / pool):.4g}") if there and pool else None
            for one, there in zip(busy, known, strict=True)
        ],
        inside=None if within is None else _counted(ledger, within, edges),
    )  # fmt: skip


def _counted(ledger: Ledger, within: NDArray[np.bool_], edges: NDArray[np.float64]) -> list[int]:
    """Evaluations of those candidates in each bin."""
    outcomes = ledger.column("outcome")[ledger.members()[within]]
    mine = np.isin(np.array(ledger.work.seq), outcomes)
    found: list[int] = np.histogram(np.array(ledger.work.ended)[mine], edges)[0].tolist()
    return found


def _busy_until(
    edges: NDArray[np.float64], starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Seconds of work that were done before each edge, pieces that cross it counted in part."""

    def done(moments: NDArray[np.float64]) -> NDArray[np.float64]:
        moments = np.sort(moments)
        sums = np.concatenate(([0.0], np.cumsum(moments)))
        before = np.searchsorted(moments, edges, side="right")
        return np.asarray(edges * before - sums[before])

    return done(starts) - done(ends)
