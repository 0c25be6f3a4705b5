"""Rows as plain data, and how values are written into them.

It must not decide anything: which row changes when is for `db.projection`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from evosearch.records import Failure
from primitives.errors import FormulaError
from primitives.graph import Graph
from primitives.printer import format_formula
from primitives.properties import stored_properties
from primitives.structure import analyse

Row = dict[str, Any]

_COMPACT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class KnownCandidate(NamedTuple):
    """What the rules must know of a stored candidate."""

    state: str
    on_front: bool = False
    attempts: int = 1


class KnownJob(NamedTuple):
    """What the rules must know of a stored job."""

    state: str
    purpose: str
    subject: str
    attempt: int = 1


OUTCOME_FIELDS = (
    "state", "rejection_code", "rejection_detail", "failure_cause", "failure_detail",
    "audit_passed", "scores", "mean_score", "seeds", "outcome_seq", "finished_at", "worker",
    "seconds",
)  # fmt: skip
"""Columns of a candidate that its outcome sets."""

JOB_FIELDS = (
    "state", "attempt", "finished_at", "failure_cause", "failure_detail", "worker", "seconds",
)  # fmt: skip
"""Columns of a job that change after it was queued."""

EVALUATION_FIELDS = (
    "anchor", "seed", "learning_rate", "split", "score", "diverged", "steps", "seconds",
)  # fmt: skip


def open_job(attempt: int = 1) -> Row:
    """The changing columns of a job that waits."""
    return dict.fromkeys(JOB_FIELDS) | {
        "state": "queued", "attempt": attempt, "failure_detail": "", "worker": "", "seconds": 0.0,
    }  # fmt: skip


def new_candidate(
    birth: int, state: str, graph: Graph, at: datetime, *, formula: bool = True
) -> Row:
    """A candidate's row before anything else is known of it."""
    return {
        "birth": birth, "state": state, "graph": graph.to_json_text(),
        **graph_columns(graph, formula=formula),
        "digest": None, "fingerprint": None, "note": "",
        "duplicate_of": None, "audit": False, "on_front": False, "queued_at": at,
        **dict.fromkeys(OUTCOME_FIELDS[1:]), "seeds": 0, "worker": "", "seconds": 0.0,
        "attempts": 1,
    }  # fmt: skip


def graph_columns(graph: Graph, *, formula: bool = True) -> Row:
    """The columns that follow from the graph alone; older schemas did not have all of them."""
    structure = analyse(graph)
    return {
        "formula": _formula(graph) if formula else None, "live_nodes": structure.live_nodes,
        "batch_independent": structure.batch_independent, "causal_safe": structure.causal_safe,
        "pointwise": structure.pointwise, "properties": dumps(stored_properties(graph)),
    }  # fmt: skip


def _formula(graph: Graph) -> str | None:
    try:
        return format_formula(graph)
    except FormulaError:
        return None  # too long to print; the graph says it all


def clean(text: str) -> str:
    """The text without NUL, which PostgreSQL refuses; the event keeps it."""
    return text.replace("\x00", "\ufffd")


def dumps(value: Any) -> str:
    """Compact JSON text."""
    return _COMPACT.encode(value)


def plain(findings: Mapping[str, float]) -> dict[str, float | str]:
    """Findings as JSON can say them: a number that is not finite becomes its name."""
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return {
        key: value if math.isfinite(value) else names.get(value, "NaN")
        for key, value in findings.items()
    }


def failure_row(failure: Failure) -> Row:
    return {"failure_cause": failure.cause, "failure_detail": clean(failure.detail)}
