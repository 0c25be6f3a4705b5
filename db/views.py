"""What `db.queries` returns: frozen rows without any database behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from primitives.graph import Graph


@dataclass(frozen=True, slots=True)
class SearchRow:
    """A line in the list of searches. ``states``: candidates by state."""

    id: str
    title: str
    preset: str
    seed: int
    status: str
    phase: str
    budget: int
    evaluated: int
    hypervolume: float
    created_at: datetime
    updated_at: datetime
    last_seq: int
    lease_owner: str | None
    states: dict[str, int]


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A line in a list of candidates. ``formula`` is None where it was never stored."""

    birth: int
    state: str
    origin: str
    graph: Graph
    formula: str | None
    live_nodes: int
    digest: str | None
    fingerprint: str | None
    note: str
    duplicate_of: int | None
    audit: bool
    on_front: bool
    queued_at: datetime
    rejection_code: str | None
    rejection_detail: str | None
    failure_cause: str | None
    failure_detail: str | None
    audit_passed: bool | None
    scores: dict[str, float] | None
    mean_score: float | None
    seeds: int
    finished_at: datetime | None
    worker: str
    seconds: float
    attempts: int
    properties: dict[str, bool | float | str] | None


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """How many ended with a code at a stage, and what that cost."""

    stage: str
    code: str
    count: int
    seconds: float
    steps: int


@dataclass(frozen=True, slots=True)
class Population:
    """Mean scores of the population's members; None where it is empty."""

    size: int
    lowest: float | None
    mean: float | None
    highest: float | None
    front_size: int


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One worker-side check as it ran; a finding that is no finite number is its name."""

    check_name: str
    anchor: str
    code: str | None
    detail: str
    seconds: float
    steps: int
    findings: dict[str, float | str]
    audited: bool


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One training. ``seq``: of the event that recorded it, by which its trace is found."""

    seq: int
    job_id: str
    purpose: str
    birth: int | None
    baseline: str | None
    anchor: str
    seed: int
    learning_rate: float
    split: str
    score: float
    diverged: bool
    steps: int
    seconds: float
    groups: dict[str, int]


@dataclass(frozen=True, slots=True)
class CandidateDetail:
    """Everything about one candidate. At most 500 children are listed."""

    candidate: CandidateRow
    parents: tuple[int, ...]
    children: tuple[int, ...]
    repeats: int
    checks: list[CheckRow]
    evaluations: list[EvaluationRow]


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as stored; ``payload`` is its JSON data."""

    seq: int
    at: datetime
    kind: str
    payload: dict[str, Any]
