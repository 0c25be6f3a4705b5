"""How fast a search goes while it goes: pauses and times without a controller left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import EVALUATED, MARKS_KEPT, Ledger, Mark, Place
from db.worked import longest_silence

LEAST_QUIET = 60.0
"""Seconds without any work that are told as a silence."""
RECENT = 200
"""Evaluations that the pace of late is taken from."""


def worked_until(ledger: Ledger) -> NDArray[np.float64]:
    """Seconds of work until each event, as `db.worked` counts them."""
    gaps = np.array(ledger.gaps, dtype=np.float64)
    return np.cumsum(np.clip(gaps, 0.0, longest_silence(ledger.longest_training)))


def silences(ledger: Ledger) -> list[Mark]:
    """When work went on after nobody had worked, pauses left out: a controller was away, or busy
    with another search. The log knows no controllers; what is shorter than a minute is left out.
    """
    ended = np.array(ledger.work.ended)
    if len(ended) < 2:
        return []
    starts = ended - np.array(ledger.work.seconds)
    # What ends later may have begun earlier: work goes on with the first that begins.
    again = np.minimum.accumulate(starts[::-1])[::-1][1:]
    quiet = again - ended[:-1]
    for start, end in ledger.pauses:
        first, last = start.timestamp(), end.timestamp()
        quiet -= np.clip(np.minimum(again, last) - np.maximum(ended[:-1], first), 0.0, None)
    evaluated = np.cumsum(np.array(ledger.work.kind) == EVALUATED)
    spent = np.cumsum(np.array(ledger.work.seconds))
    return [
        Mark(
            Place(ledger.work.seq[place], datetime.fromtimestamp(again[place], UTC),
                  int(evaluated[place]), ledger.work.steps[place], float(spent[place])),
            "silence", f"no work for {timedelta(seconds=round(quiet[place]))}",
        )
        for place in np.flatnonzero(quiet > LEAST_QUIET)[-MARKS_KEPT:].tolist()
    ]  # fmt: skip


def pace(ledger: Ledger) -> tuple[float | None, float]:
    """(evaluations an hour of late, None before there are two; hours worked)."""
    worked = worked_until(ledger)
    if not len(worked):
        return None, 0.0
    seqs = np.array(ledger.work.seq)
    done = seqs[np.array(ledger.work.kind) == EVALUATED][-RECENT:]
    hours = float(worked[-1]) / 3600
    if len(done) < 2:
        return None, hours
    # To the last outcome, so that a drought of evaluations counts.
    spent = float(worked[seqs[-1] - 1] - worked[done[0] - 1])
    return (len(done) - 1) * 3600 / spent if spent > 0 else None, hours
