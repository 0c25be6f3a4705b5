"""The verdict of a search: leader, gain over the better baseline, and the single final figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.charts.ledger import Lead, Ledger
from api.charts.measure import common_objective
from api.charts.standing import (
    Standing,
    baseline_label,
    standing_of,
    step_times,
    title_of,
    verdict_line,
)
from api.rest.chart_schemas import (
    AnchorGain,
    FinalView,
    GainView,
    LeaderView,
    SearchVerdict,
)
from evosearch.gain import Gain


def search_verdict(
    ledger: Ledger, formulas: Mapping[int, str | None], report: dict[str, Any] | None
) -> SearchVerdict:
    """What to make of the search now. ``formulas``: birth -> formula, of the leader at least."""
    standing, lead = standing_of(ledger), ledger.leader()
    place = None
    provisional = sure = 0
    if standing is not None and lead is not None:
        place = standing.place_of(ledger.rows[lead.birth])
        confirmed = standing.confirmed()
        sure = int(((standing.mean > 0) & confirmed).sum())
        provisional = int(((standing.mean > standing.mean[place]) & ~confirmed).sum())
    label = None if standing is None else baseline_label(standing.baseline)
    names = {"label": label, "ahead": provisional, "evaluated": ledger.evaluated,
             "goal": common_objective(ledger.config)}  # fmt: skip
    outcome, text = verdict_line(standing, place, names)
    return SearchVerdict(
        outcome=outcome, text=text, baseline=label,
        leader=None if standing is None or lead is None or place is None
        else leader_view(ledger, standing, lead, place, formulas.get(lead.birth)),
        ahead_provisional=provisional, ahead_confirmed=sure, final=final_view(report),
        report_verdict=None if report is None else report.get("verdict"),
    )  # fmt: skip


def leader_view(
    ledger: Ledger, standing: Standing, lead: Lead, place: int, formula: str | None
) -> LeaderView:
    """The leader with its gain, one anchor at a time."""
    row = ledger.rows[lead.birth]
    time = float(step_times(ledger)[row])
    first = next(one for one in reversed(_runs(ledger)) if one.birth == lead.birth)
    return LeaderView(
        birth=lead.birth, formula=formula, seeds=int(standing.seeds[place]),
        confirmed=bool(standing.seeds[place] > 1), gain=gain_view(standing.gain(place)),
        anchors=anchor_gains(ledger, standing, place), live_nodes=ledger.nodes[row],
        step_time=time if time == time else None,
        since=first.place.at, since_event=first.place.seq,
    )  # fmt: skip


def anchor_gains(ledger: Ledger, standing: Standing, place: int) -> list[AnchorGain]:
    """One row an anchor."""
    return [
        AnchorGain(
            anchor=anchor, baseline=standing.baseline.names[k],
            score=float(standing.scores[place, k]),
            baseline_score=float(standing.baseline.means[k]),
            gain=gain_view(standing.gain_on(place, k)),
        )
        for k, anchor in enumerate(ledger.anchors)
    ]  # fmt: skip


def gain_view(gain: Gain) -> GainView:
    """A gain as answers show it."""
    return GainView(**gain._asdict())


def final_view(report: dict[str, Any] | None) -> FinalView | None:
    """The read of final; None before there was one."""
    final = None if report is None else report.get("final")
    if report is None or final is None:
        return None
    return FinalView(
        gain=GainView(**final["mean_difference"]),
        anchors=[
            AnchorGain(
                anchor=row["anchor"], baseline=row["better_rival"], score=row["leader"],
                baseline_score=row[row["better_rival"]], gain=GainView(**row["difference"]),
            )
            for row in final["anchors"]
        ],
        seeds=final["seeds"], images=final["images"], layers_judged=final["layers_judged"],
        verdict=report["verdict"],
    )  # fmt: skip


def _runs(ledger: Ledger) -> list[Lead]:
    """The leads without repeats of one leader, so that ``since`` is when it took over."""
    runs: list[Lead] = []
    for lead in ledger.sure_leads or ledger.leads:
        if not runs or runs[-1].birth != lead.birth:
            runs.append(lead)
    return runs


__all__ = ["anchor_gains", "final_view", "gain_view", "leader_view", "search_verdict", "title_of"]
