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
LEADERS = 5
"""Of a visit: who led then, and the highest beside it."""


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
        leaders_before=leaders_before(ledger, event, before),
        leader_now=None if now is None else now.birth,
        gain_before=_gain(ledger, before), gain_now=_gain(ledger, now),
        marks=[one for one in marks if one.seq > event][-SHOWN:],
    )  # fmt: skip


def leaders_before(ledger: Ledger, event: int, before: Lead | None) -> list[int]:
    """Births of who led at that event, then of the highest that were evaluated by then.

    The log keeps one leader at a time; the others are the highest by what is known of them now.
    """
    rows = ledger.members()
    rows = rows[ledger.column("outcome")[rows] <= event]
    if before is None or not len(rows):
        return []
    means = ledger.score_matrix()[rows].mean(axis=1)
    highest = ledger.column("birth")[rows[np.argsort(-means, kind="stable")]][:LEADERS]
    return list(dict.fromkeys([before.birth, *highest.tolist()]))[:LEADERS]


def _gain(ledger: Ledger, lead: Lead | None) -> float | None:
    baseline = better_baseline(ledger.samples, ledger.config.confirmation.rivals)
    if lead is None or baseline is None:
        return None
    return float(np.mean(np.array(lead.scores) - baseline.means))
