"""The append-only log of a search: every fact that its state is folded from.

Folding the events of a search in order gives its state; nothing else is remembered. Fields that
hold times are named in `TIME_FIELDS`; with them removed, the logs of two runs of one config with
the inline pool are equal byte for byte.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from evosearch.config import Bounds, Limits, SearchConfig
from evosearch.records import (
    CheckRun,
    Evaluation,
    Failure,
    GraphData,
    Purpose,
    Record,
    Rejection,
    Run,
    Subject,
)

TIME_FIELDS = frozenset({"at", "seconds", "worker"})
"""Fields whose values depend on the clock or the machine, wherever they stand in an event."""

SearchStatus = Literal["running", "paused", "stopped", "finished", "failed"]
ENDED: tuple[SearchStatus, ...] = ("stopped", "finished", "failed")
"""What a search never leaves again."""
Phase = Literal["search", "confirm", "tune", "final", "done"]


class Created(Record):
    """The first event: the config and the versions of what computes."""

    kind: Literal["created"] = "created"
    config: SearchConfig
    versions: dict[str, str] = {}


class Skipped(Record):
    """Proposals that ended in the controller since the last queued candidate.

    ``counts``: code -> number. ``seconds``: code -> time spent on them (None under a fake clock).
    ``repeats``: birth of the candidate whose digest came again -> number.
    ``origins``: operator (or ``random``) -> proposals drawn from it, the queued one included;
    ``again`` stands for runners-up that were looked at once more. ``new``: likewise -> those that
    held a function that no candidate had; None where the queued one is all there is.
    ``examples``: (birth, code, graph) of some of them. ``after``: how many of the proposals came
    after the queued one, where one of several was chosen. ``runners_up``: those that had the best
    odds after it, and the candidates that they come of; ``made_by``: the operators of each.
    ``looks``: how many functions are to be looked at for the next candidate, where that is decided.
    ``jobs``: how many the pool held at a time, where candidates are chosen. ``odds``: of the queued
    one, as far as there are any; ``by_lot``: it was tried whatever they are.
    """

    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    repeats: dict[int, int] = {}
    origins: dict[str, int] = {}
    new: dict[str, int] | None = None
    examples: tuple[tuple[int, str, GraphData], ...] = ()
    after: int = 0
    runners_up: tuple[tuple[GraphData, tuple[int, ...]], ...] = ()
    made_by: tuple[str, ...] = ()
    looks: int | None = None
    jobs: int | None = None
    odds: float | None = None
    by_lot: bool = False


Origin = Literal["random", "mutation", "enqueued", "catalog"]
"""Where a candidate comes from. Nothing writes ``catalog``: layers to start from are enqueued, with
a note that says so; it can still be read."""


class CandidateDuplicate(Record):
    """A new graph with the function of an earlier candidate; it is never scored."""

    kind: Literal["candidate_duplicate"] = "candidate_duplicate"
    birth: int
    of: int
    graph: GraphData
    digest: str
    fingerprint: str
    origin: Origin
    parents: tuple[int, ...] = ()


class CandidateQueued(Record):
    """A new function, on its way to the workers. ``birth`` is its sequence number at proposal."""

    kind: Literal["candidate_queued"] = "candidate_queued"
    birth: int
    graph: GraphData
    digest: str
    fingerprint: str
    start: str = ""
    """Identity of the function at the initial v0 and v1, where the search limits its candidates."""
    origin: Origin
    operator: str = ""
    """Of a mutation: the operators that made it, joined by ``+``; empty for the paper's."""
    parents: tuple[int, ...] = ()
    audit: bool = False
    skipped: Skipped = Skipped()
    note: str = ""


class EnqueuedRefused(Record):
    """A formula that a person enqueued and a cheap check refused."""

    kind: Literal["enqueued_refused"] = "enqueued_refused"
    birth: int
    graph: GraphData
    rejection: Rejection
    of: int | None = None


class JobQueued(Record):
    """A job that is no candidate's first: baselines, re-measurements and the confirmation.

    ``asked``: of a re-measurement, whether a person asked for it; None where an older version
    wrote it, and for all other jobs.
    """

    kind: Literal["job_queued"] = "job_queued"
    id: str
    purpose: Purpose
    subject: Subject
    runs: tuple[Run, ...]
    asked: bool | None = None


class JobLost(Record):
    """A worker returned no verdict for the job; it is queued again, or given up."""

    kind: Literal["job_lost"] = "job_lost"
    id: str
    failure: Failure
    attempt: int
    worker: str = ""


class EvaluationRecorded(Record):
    """One finished training of a job, with the checks since the job's last event.

    A search that is killed afterwards repeats neither the training nor those checks.
    """

    kind: Literal["evaluation_recorded"] = "evaluation_recorded"
    job_id: str
    purpose: Purpose
    subject: Subject
    evaluation: Evaluation
    checks: tuple[CheckRun, ...] = ()


class CandidateWaiting(Record):
    """The candidate has passed the signal check, and waits until its training is its turn.

    ``promise``: the rank from 0 to 1 that the surrogate expects of it; None before it knows enough.
    ``below``: whether that is below what it has earned the right to discard.
    """

    kind: Literal["candidate_waiting"] = "candidate_waiting"
    birth: int
    checks: tuple[CheckRun, ...] = ()
    promise: float | None = None
    below: bool = False
    seconds: float = 0.0
    worker: str = ""


class CandidateRejected(Record):
    """A worker-side check threw the candidate out."""

    kind: Literal["candidate_rejected"] = "candidate_rejected"
    birth: int
    rejection: Rejection
    checks: tuple[CheckRun, ...] = ()
    audit_passed: bool | None = None
    seconds: float = 0.0
    worker: str = ""


class CandidateFailed(Record):
    """The candidate got no verdict: an error of its own, or too many workers died with it."""

    kind: Literal["candidate_failed"] = "candidate_failed"
    birth: int
    failure: Failure
    quarantined: bool = False
    worker: str = ""


class Standing(Record):
    """How an outcome changed the front: births in and out, and the hypervolume after it."""

    scores: dict[str, float]
    seeds: int
    front_in: tuple[int, ...] = ()
    front_out: tuple[int, ...] = ()
    hypervolume: float


class CandidateEvaluated(Record):
    """Every anchor is trained: the candidate joins the population."""

    kind: Literal["candidate_evaluated"] = "candidate_evaluated"
    birth: int
    standing: Standing
    checks: tuple[CheckRun, ...] = ()
    seconds: float = 0.0
    worker: str = ""


class JobFinished(Record):
    """A job of `JobQueued` has ended. ``standing``: of a candidate measured anew on ``select``."""

    kind: Literal["job_finished"] = "job_finished"
    id: str
    subject: Subject
    purpose: Purpose
    standing: Standing | None = None
    failure: Failure | None = None
    seconds: float = 0.0
    worker: str = ""


class PhaseEntered(Record):
    """The search moved on. ``chosen``: births that this phase is about. ``note``: why, in words."""

    kind: Literal["phase_entered"] = "phase_entered"
    phase: Phase
    chosen: tuple[int, ...] = ()
    note: str = ""


class StatusChanged(Record):
    """A person or the controller changed what the search is doing."""

    kind: Literal["status_changed"] = "status_changed"
    status: SearchStatus
    reason: str = ""


class BudgetChanged(Record):
    """A person changed the budget, or a limit beside it was reached (``reason``).

    ``evaluations``: in all; None: they stay. ``limits``: those that change; the others stay.
    """

    kind: Literal["budget_changed"] = "budget_changed"
    evaluations: int | None = None
    limits: Limits = {}
    reason: str = ""


class CodeChanged(Record):
    """A person agreed that the search goes on with other code of its plug-ins.

    ``config``: from now on; it differs from that before in its plug-ins alone. ``reason``: which
    plug-ins and what it means, in words.
    """

    kind: Literal["code_changed"] = "code_changed"
    config: SearchConfig
    reason: str


class BoundsLearnt(Record):
    """The signal check has other bounds from now on, learnt from the outcomes before.

    ``bounds``: anchor -> statistic -> interval. ``factor``: by which the range of the ``passed``
    layers was widened.
    """

    kind: Literal["bounds_learnt"] = "bounds_learnt"
    bounds: dict[str, dict[str, Bounds]]
    factor: float
    passed: int


class Reported(Record):
    """The final report, computed once from the events before it."""

    kind: Literal["reported"] = "reported"
    report: dict[str, Any]


Event = (
    Created
    | CandidateDuplicate
    | CandidateQueued
    | EnqueuedRefused
    | JobQueued
    | JobLost
    | EvaluationRecorded
    | CandidateWaiting
    | CandidateRejected
    | CandidateFailed
    | CandidateEvaluated
    | JobFinished
    | PhaseEntered
    | StatusChanged
    | BudgetChanged
    | CodeChanged
    | BoundsLearnt
    | Reported
)

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


class StoredEvent(Record):
    """An event with its place in the log: ``seq`` is dense and starts at 1 for each search."""

    seq: int
    at: datetime
    event: Annotated[Event, Field(discriminator="kind")]


def dump_event(event: Event) -> str:
    """The event as JSON text; curves are left out, they are stored apart."""
    leave_out = {"evaluation": {"curve"}} if isinstance(event, EvaluationRecorded) else None
    return event.model_dump_json(exclude=leave_out, exclude_defaults=False)


def load_event(text: str | bytes) -> Event:
    """The event in the JSON text.

    Raises:
        pydantic.ValidationError: the text is no event of this version.
    """
    return _ADAPTER.validate_json(text)


def without_times(data: Any) -> Any:
    """A copy of JSON data with every field of `TIME_FIELDS` removed."""
    if isinstance(data, dict):
        return {k: without_times(v) for k, v in data.items() if k not in TIME_FIELDS}
    if isinstance(data, (list, tuple)):
        return [without_times(value) for value in data]
    return data
