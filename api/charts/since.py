"""What happened after an event, for someone who comes back to a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from api.charts.ledger import Lead, Ledger
from api.charts.progress import progress
from api.rest.chart_schemas import NewOnFront, SinceView
from evosearch.gain import better_baseline
from evosearch.ports import SearchInfo

SHOWN = 50


def since_view(
    ledger: Ledger,
    info: SearchInfo,
    event: int,
    at: datetime | None,
    counts: Mapping[str, int],
    fresh: Sequence[tuple[int, int]],
    formulas: Mapping[int, str | None],
    before: Lead | None,
) -> SinceView:
    """The summary. ``fresh``: (event, birth) of what came onto the front, in order."""
    now = ledger.leader()
    marks = progress(ledger, info.created_at, info.updated_at, 2, 0.0).marks
    return SinceView(
        event=event, last_event=ledger.last, at=at,
        evaluated=counts["evaluated"], rejected=counts["rejected"], failed=counts["failed"],
        front=[
            NewOnFront(birth=birth, formula=formulas.get(birth), seq=seq)
            for seq, birth in fresh[-SHOWN:][::-1]
        ],
        new_on_front=len(fresh), workers_lost=counts["workers_lost"],
        leader_before=None if before is None else before.birth,
        leader_now=None if now is None else now.birth,
        gain_before=_gain(ledger, before), gain_now=_gain(ledger, now),
        marks=[one for one in marks if one.seq > event][-SHOWN:],
    )  # fmt: skip


def _gain(ledger: Ledger, lead: Lead | None) -> float | None:
    baseline = better_baseline(ledger.samples, ledger.config.confirmation.rivals)
    if lead is None or baseline is None:
        return None
    return float(np.mean(np.array(lead.scores) - baseline.means))
