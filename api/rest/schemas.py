"""The shapes of answers; every field that a client may rely on is named and typed here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.rest.chart_schemas import GainView, ObjectiveView
from api.rest.view import View

Status = Literal["running", "paused", "stopped", "finished", "failed"]


class SearchView(View):
    """A search, as lists show it."""

    id: str
    title: str
    preset: str
    seed: int
    status: Status
    phase: str
    budget: int = Field(description="candidates to be evaluated on every anchor")
    evaluated: int
    hypervolume: float
    created_at: datetime
    updated_at: datetime
    last_event: int
    controller: str | None = Field(description="who runs it now, if anyone")
    states: dict[str, int] = Field(description="candidates by state")
    tags: list[str]
    notes: str
    priority: int
    starred: bool
    archived: bool
    pinned: bool


class SearchList(View):
    """Searches, the newest first. ``next``: the cursor of the next page."""

    searches: list[SearchView]
    next: str | None = None


class LimitsView(View):
    """Limits of the budget beside its evaluations, as they hold now; null: there is none."""

    train_steps: int | None
    hours: float | None
    gpu_hours: float | None
    no_gain: int | None
    target: float | None


class SearchDetail(SearchView):
    """A search with what it was told and what it said."""

    config: dict[str, Any] = Field(description="what it was begun with")
    limits: LimitsView
    anchors: list[str]
    objectives: dict[str, ObjectiveView] = Field(
        description="what scores mean: of each anchor, and ANCHOR#NAME for further ones"
    )
    report: dict[str, Any] | None = Field(description="the final report, once there is one")
    baselines: dict[str, dict[str, float]] = Field(
        description="baseline -> anchor -> mean score on select"
    )


class StageView(View):
    """What a restriction of the search space lets through of random graphs."""

    name: str
    came: int
    passed: int
    below: float | None = Field(
        description="where none passed: 3 / came, the upper end of the share's interval of 95 %"
    )


class Estimate(View):
    """What a search would take. Hours are unknown (null) until something like it ran here."""

    config: dict[str, Any]
    evaluations: int
    train_steps: int
    seconds_per_evaluation: float | None
    worker_hours: float | None
    hours: float | None
    gpu_hours: float | None
    disk_bytes: int
    price: float | None
    based_on: str = Field(description="where the figures come from")
    space: list[StageView] = Field(
        description="random graphs that come to each restriction of the space, and pass it; before "
        "one of several conditions each of these by itself"
    )
    notes: list[str] = Field(
        description="settings that do not count beside others, layers that will be refused, and "
        "checks that no share of the space counts"
    )


class CommandSent(View):
    """A command waits for the controller; it acts within seconds while one runs."""

    command_id: int
    search: str
    command: str


class CandidateView(View):
    """A candidate, as lists show it."""

    birth: int
    state: str
    origin: str
    formula: str | None
    live_nodes: int
    mean_score: float | None
    gain: GainView | None = Field(
        description="mean over anchors over the better baseline; null before either is trained"
    )
    gain_seeds: int = Field(description="behind the gain; fresh ones alone once there are any")
    scores: dict[str, float] | None
    seeds: int
    provisional: bool = Field(description="whether its scores rest on a single seed")
    on_front: bool
    starred: bool = Field(description="whether a reader gave it a star")
    batch_independent: bool | None
    causal_safe: bool | None
    pointwise: bool | None
    audit: bool
    audit_passed: bool | None
    duplicate_of: int | None
    rejection_code: str | None
    rejection_detail: str | None
    failure_cause: str | None
    failure_detail: str | None
    note: str
    digest: str | None
    fingerprint: str | None
    worker: str
    seconds: float
    attempts: int = Field(description="one more than the workers that were lost with it")
    step_time: float | None = Field(
        description="of a training step beside the first baseline's, 1.3 for 30 % more"
    )
    queued_at: datetime
    finished_at: datetime | None
    properties: dict[str, bool | float | str] | None = Field(
        description="what it does on a probe, by name; unknown where an older version stored it"
    )


class CandidatePage(View):
    """Some candidates; ``next`` asks for those after them, null on the last page.

    A page of a filter that few candidates pass may be short, or empty, before the last one.
    """

    candidates: list[CandidateView]
    next: str | None


class EvaluationView(View):
    """One training. ``curve``: (step, training loss) points."""

    seq: int
    job_id: str
    purpose: str
    anchor: str
    seed: int
    learning_rate: float
    split: str
    score: float
    diverged: bool
    steps: int
    seconds: float
    groups: dict[str, int]
    curve: list[tuple[float, float | None]] = []


class CheckView(View):
    """One check as it ran; a finding that is no finite number is its name."""

    check_name: str
    anchor: str
    code: str | None
    detail: str
    seconds: float
    steps: int
    findings: dict[str, float | str]
    audited: bool


class Verdict(View):
    """Why a candidate was kept or thrown out, in a word and a sentence."""

    outcome: str
    reason: str


class CandidateDetail(CandidateView):
    """Everything about one candidate."""

    graph: dict[str, Any]
    properties: dict[str, Any]
    latex: str | None
    known_as: str | None = Field(description="the catalog layer that it equals in function")
    verdict: Verdict
    parents: list[int]
    children: list[int]
    repeats: int
    checks: list[CheckView]
    evaluations: list[EvaluationView]


class Relative(View):
    """A candidate in a lineage."""

    birth: int
    state: str
    origin: str
    formula: str | None
    mean_score: float | None
    live_nodes: int
    on_front: bool
    operator: str | None = Field(None, description="of a mutation: what made it, joined by +")


class Link(View):
    """Parent and child; ``distance``: generations from the candidate asked about."""

    parent: int
    child: int
    distance: int


class Lineage(View):
    """Ancestors and descendants, the nearest first; ``truncated``: there are more."""

    birth: int
    ancestors: list[Link]
    descendants: list[Link]
    candidates: list[Relative]
    truncated: bool


class FrontView(View):
    """The candidates that none dominates."""

    hypervolume: float
    reference: dict[str, float] = Field(description="the hypervolume's reference point")
    candidates: list[CandidateView]


class FrontStep(View):
    """A change of the front."""

    seq: int
    at: datetime
    evaluated: int
    hypervolume: float
    front_in: list[int]
    front_out: list[int]


class FrontHistoryView(View):
    """Changes of the front in order; ``truncated``: the oldest are left out."""

    steps: list[FrontStep]
    truncated: bool


class HypervolumeView(View):
    """Hypervolume after so many evaluated candidates."""

    hypervolume: float
    evaluated: list[int]
    values: list[float]


class FunnelStage(View):
    """A check: how often it ran (null: not counted), threw out, and what that cost."""

    stage: str
    code: str
    meaning: str
    count: int
    seconds: float
    steps: int


class Rate(View):
    """A rate with its 95 % interval."""

    value: float
    low: float
    high: float


class FunnelView(View):
    """Where proposals and candidates ended."""

    states: dict[str, int]
    controller: list[FunnelStage]
    enqueued: list[FunnelStage]
    worker: list[FunnelStage]
    checks: list[FunnelStage] = Field(description="runs of each check; code '' passed")
    audited: int
    wrongly_rejected: int
    false_rejection_rate: Rate | None


class Member(View):
    """A member of the population. ``outcome``: number of its outcome's event, its age."""

    birth: int
    outcome: int
    mean_score: float


class PopulationView(View):
    """The population in figures, and its youngest members."""

    size: int
    lowest: float | None
    mean: float | None
    highest: float | None
    front_size: int
    members: list[Member]


class PurposeCost(View):
    """Trainings of one purpose."""

    purpose: str
    trainings: int
    seconds: float
    steps: int


class CostView(View):
    """What the search has cost, and what the rejections saved (an estimate).

    ``check_seconds`` and ``training`` overlap: the first steps of a training are quality's own.
    """

    worker_seconds: float
    gpu_hours: float
    training: list[PurposeCost]
    check_seconds: dict[str, float]
    rejected: int
    seconds_per_evaluation: float | None
    saved_seconds: float | None
    price: float | None
    price_per_hour: float | None


class EventView(View):
    """An event of the log."""

    seq: int
    at: datetime
    kind: str
    event: dict[str, Any]


class EventPage(View):
    """Events in order; ``last``: ask with ``after`` = this for those that follow.

    ``more``: the page had no room for all that was asked for.
    """

    events: list[EventView]
    last: int
    more: bool


class WorkerView(View):
    """A worker and what it is at, as its pool saw it; of the dead those of the last hour."""

    name: str
    state: str = Field(description="starting, idle, busy or dead")
    search: str | None = None
    job: str | None = None
    seconds: float | None = Field(None, description="how long it has been so; null if unknown")
    failures: dict[str, int] = Field({}, description="cause -> how often, at this worker")


class ControllerView(View):
    """A controller and its workers."""

    owner: str
    host: str
    pid: int
    pool: str
    alive: bool
    seen_seconds_ago: float
    started_at: datetime
    capacity: int
    searches: list[str]
    workers: list[WorkerView]


class WorkersView(View):
    """All controllers that were seen within a day."""

    controllers: list[ControllerView]
    workers: int = Field(description="of live controllers, the dead ones left out")
    busy: int


class CatalogEntry(View):
    """A known layer."""

    name: str
    title: str
    formula: str
    citation: str
    year: int
    slot: str
    torch_equivalent: str | None
    live_nodes: int
    batch_independent: bool


class PrimitiveView(View):
    """A row of the op table, with its index set where it has one."""

    name: str
    over: str | None
    arity: int
    kind: str


class PresetView(View):
    """A named starting point."""

    name: str
    config: dict[str, Any]


class PresetList(View):
    """All presets, and the JSON schema of their configs."""

    presets: list[PresetView]
    json_schema: dict[str, Any]


class SessionView(View):
    """Whether the page's reader is signed in, and what the token may do."""

    signed_in: bool
    needed: bool
    scope: str | None
