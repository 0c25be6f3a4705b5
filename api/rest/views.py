"""From rows to answers; nothing is computed here that a row does not say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from api.rest.schemas import CandidateView, SearchView, Verdict
from db.queries_rest import Notes
from db.views import CandidateRow, EvaluationRow, SearchRow
from evosearch.screen import SCREEN_CODES


def search_view(row: SearchRow, about: Notes) -> SearchView:
    """A search as lists show it."""
    return SearchView(
        id=row.id, title=row.title, preset=row.preset, seed=row.seed,
        status=row.status, phase=row.phase, budget=row.budget,  # type: ignore[arg-type]
        evaluated=row.evaluated, hypervolume=row.hypervolume, created_at=row.created_at,
        updated_at=row.updated_at, last_event=row.last_seq, controller=row.lease_owner,
        states=row.states, tags=list(about.tags), notes=about.text, priority=about.priority,
        starred=about.starred, archived=about.archived, pinned=about.pinned,
    )  # fmt: skip


def candidate_view(row: dict[str, Any]) -> CandidateView:
    """A candidate as lists show it."""
    return CandidateView(**row, provisional=row["seeds"] == 1)


def row_of(row: CandidateRow, properties: dict[str, Any]) -> dict[str, Any]:
    """A candidate's fields for `candidate_view`, from the row of a detail."""
    names = CandidateView.model_fields.keys() - {"provisional", *properties}
    return {name: getattr(row, name) for name in names} | properties


def properties(graph: Any) -> dict[str, Any]:
    """What the structure of a graph says of it."""
    from primitives.structure import analyse

    found = analyse(graph)
    return {
        "batch_independent": found.batch_independent,
        "causal_safe": found.causal_safe,
        "pointwise": found.pointwise,
    }


def verdict(row: CandidateRow, seeds: int = 0) -> Verdict:
    """Why a candidate was kept or thrown out.

    ``seeds``: those behind its gain; 0 where no gain is known, and all that it was trained with
    count.
    """
    seeds = seeds or row.seeds
    match row.state:
        case "rejected":
            code = row.rejection_code or ""
            why = row.rejection_detail or SCREEN_CODES.get(code, "no detail is known")
            return Verdict(outcome="rejected", reason=f"{code}: {why}")
        case "duplicate":
            return Verdict(
                outcome="duplicate",
                reason=f"it computes the same as candidate {row.duplicate_of}; it was not trained",
            )
        case "failed" | "quarantined":
            why = f"{row.failure_cause}: {row.failure_detail or 'no detail is known'}"
            return Verdict(outcome=row.state, reason=why)
        case "evaluated":
            place = "on the front: none dominates it" if row.on_front else "dominated by others"
            certain = "one seed, provisional" if seeds == 1 else f"{seeds} seeds"
            return Verdict(
                outcome="evaluated", reason=f"trained on every anchor, {place}; {certain}"
            )
        case "lost":
            why = f"its worker was lost; it waits for attempt {row.attempts}"
            return Verdict(outcome="lost", reason=why)
        case "running":
            return Verdict(outcome="running", reason="some of its trainings are finished")
        case _:
            return Verdict(outcome=row.state, reason="it waits for its outcome")


def baseline_means(rows: Iterable[EvaluationRow]) -> dict[str, dict[str, float]]:
    """Baseline -> anchor -> mean score of its first measurement on select."""
    scores: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.purpose == "baseline" and row.split == "select" and row.baseline:
            scores.setdefault(row.baseline, {}).setdefault(row.anchor, []).append(row.score)
    return {
        name: {anchor: sum(values) / len(values) for anchor, values in by_anchor.items()}
        for name, by_anchor in scores.items()
    }
