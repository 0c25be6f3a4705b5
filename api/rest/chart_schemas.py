"""The shapes of answers that charts are drawn from; none grows with the number of candidates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from api.rest.view import View

Number = float | None


class ObjectiveView(View):
    """What a score means. Of scores higher is better; ``value = ±scale * score``, - for min."""

    name: str
    unit: str
    direction: str = Field(description="max or min: which values are better")
    scale: float
    label: str = Field(description="name, unit and direction in words")


class GainView(View):
    """A difference in score with its 95 % interval, null while no spread over seeds is known."""

    value: float
    low: Number
    high: Number


class AnchorGain(View):
    """Gain on one anchor over the better baseline there."""

    anchor: str
    baseline: str
    score: float
    baseline_score: float
    gain: GainView


class LeaderView(View):
    """The candidate that the search would recommend now, against the better baseline."""

    birth: int
    formula: str | None
    seeds: int
    confirmed: bool = Field(description="two seeds or more, or fresh seeds of the confirmation")
    gain: GainView = Field(description="mean over the anchors")
    anchors: list[AnchorGain]
    live_nodes: int
    step_time: Number = Field(description="seconds of a training step relative to BN-ReLU")
    since: datetime
    since_event: int


class FinalView(View):
    """The single read of the split final: its own figure, never mixed with those on select."""

    gain: GainView
    anchors: list[AnchorGain]
    seeds: int
    images: int
    layers_judged: int
    verdict: str


class SearchVerdict(View):
    """What to make of a search now.

    ``outcome``: ``nothing_yet``, ``no_baseline``, ``ahead_surely`` (confirmed, the interval above
    0), ``ahead`` (above 0, not surely) or ``behind``. ``text``: the verdict in a line.
    """

    outcome: str
    text: str
    baseline: str | None = Field(description="name of the better baseline; several joined by /")
    leader: LeaderView | None
    ahead_provisional: int = Field(description="candidates of one seed above the leader")
    ahead_confirmed: int = Field(description="confirmed candidates above the baseline")
    final: FinalView | None
    report_verdict: str | None


class BaselinePoint(View):
    """A baseline on a chart; null where it has no such quantity."""

    name: str
    x: Number
    y: Number


class Histogram(View):
    """Counts of what is not drawn point by point; ``counts[i][j]``: bin i of x and j of y."""

    x_edges: list[float]
    y_edges: list[float]
    counts: list[list[int]]
    total: int


class ScatterView(View):
    """Evaluated candidates against two quantities, column by column.

    Points are all of the front, all confirmed ones and the highest; the rest is a histogram.
    ``margin``: half of the 95 % interval of y where y is a gain.
    """

    x_name: str
    y_name: str
    x_log: bool
    births: list[int]
    x: list[float]
    y: list[float]
    margin: list[Number]
    seeds: list[int]
    confirmed: list[bool]
    on_front: list[bool]
    baselines: list[BaselinePoint]
    rest: Histogram | None
    stairs: list[int] = Field(description="births on the front of x and y, along x")
    low_x: bool = Field(description="less is better of x")
    low_y: bool
    leader: int | None
    shown: int
    total: int


class ProgressPoint(View):
    """Who leads from here on. ``gains``: by anchor, in the order of ``anchors``."""

    evaluated: int
    hours: float
    steps: int
    gpu_hours: float
    at: datetime
    seq: int
    birth: int
    seeds: int
    confirmed: bool
    gain: float
    gains: list[float]


class VolumePoint(View):
    """The hypervolume from here on."""

    evaluated: int
    hours: float
    steps: int
    gpu_hours: float
    value: float


class MarkView(View):
    """Something done to the search: pause, resume, stop, finish, fail, enqueue, budget, phase.

    ``silence``: work goes on after more than a minute without any, pauses left out, as when its
    controller was away.
    """

    evaluated: int
    hours: float
    steps: int
    gpu_hours: float
    at: datetime
    seq: int
    kind: str
    text: str


class ProgressView(View):
    """The leader's gain and the hypervolume over a search, thinned; ``now`` is its present end.

    ``leader``: who led of the confirmed; ``provisional``: who was highest of all, whatever its
    seeds; ``inside``: the highest so far in the ranges that were asked for.
    """

    anchors: list[str]
    leader: list[ProgressPoint]
    provisional: list[ProgressPoint]
    inside: list[ProgressPoint]
    hypervolume: list[VolumePoint]
    marks: list[MarkView]
    now: VolumePoint


class FunnelBar(View):
    """What came as far as a stage. ``share``: of the stage before.

    ``filter``: the query of /candidates that lists just these; null where they are only counted.
    """

    stage: str
    meaning: str
    count: int
    share: Number
    worker_seconds: float
    saved_hours: Number = Field(description="training that this stage's rejections made needless")
    false_rejection_rate: GainView | None
    filter: str | None
    inside: int | None = Field(description="of them in the ranges; null for the earlier stages")


class FunnelPath(View):
    """The way from proposals to the front, stage by stage."""

    bars: list[FunnelBar]
    audited: int


class ThroughputView(View):
    """Outcomes in bins of time; the last bin may be partial.

    ``busy``: workers busy on average. The log does not tell how many there were at the time, so
    shares are of the pool as it is now.
    """

    starts: list[datetime]
    bin_seconds: float
    evaluated: list[int]
    rejected: list[int]
    failed: list[int]
    evaluations_per_hour: list[float]
    busy: list[float]
    workers: int | None = Field(
        description="of the pools that run the search now, dead ones left out; null where none does"
    )
    busy_share: list[Number] = Field(
        description="of those; null where they are unknown, or fewer than were busy"
    )
    inside: list[int] | None = Field(description="evaluated ones in the ranges, by bin")


class CauseView(View):
    """Failures of one cause. ``jobs``: lost ones that were tried again, and later trainings."""

    cause: str
    candidates: int
    jobs: int
    last: datetime
    births: list[int] = Field(description="the last 12 candidates that ended so")


class WorkerFailures(View):
    """Cause -> how often, at one worker."""

    worker: str
    causes: dict[str, int]


class FailuresView(View):
    """All failures of a search by cause; the workers with the most of them first."""

    total: int
    causes: list[CauseView]
    workers: list[WorkerFailures]


class SimpleRow(View):
    """The best candidate of so many live nodes. ``buys``: gain over the best smaller one."""

    live_nodes: int
    candidates: int
    birth: int
    formula: str | None
    seeds: int
    confirmed: bool
    gain: GainView
    buys: Number


class SimplestView(View):
    """One row a live-node count, the fewest first; confirmed ones go before provisional ones."""

    baseline: str | None
    rows: list[SimpleRow]


class ShareRow(View):
    """Share of the layers that use a primitive, bin by bin; null where a bin has no layer."""

    primitive: str
    proposals: list[Number]
    survivors: list[Number]
    front: list[Number]


class PrimitiveShares(View):
    """Primitives over time: bins of candidates in the order of their births."""

    births: list[int] = Field(description="first birth of each bin")
    evaluated: list[int] = Field(description="evaluated candidates at the end of each bin")
    rows: list[ShareRow]


class AgePoint(View):
    """A member of the population; ``age``: outcomes since its own."""

    birth: int
    age: int
    score: float
    gain: Number
    live_nodes: int
    on_front: bool


class AgesView(View):
    """Age against score, thinned evenly where the population is large."""

    size: int = Field(description="members of the population, drawn or not")
    inside: int | None = Field(description="of them in the ranges; null without any")
    members: list[AgePoint]


class NewOnFront(View):
    """A candidate that came onto the front, and is there still."""

    birth: int
    formula: str | None
    seq: int


class SinceView(View):
    """What happened after an event."""

    event: int
    last_event: int
    at: datetime | None = Field(description="when that event happened")
    evaluated: int
    rejected: int
    failed: int
    front: list[NewOnFront] = Field(description="the newest 50")
    new_on_front: int
    workers_lost: int
    leader_before: int | None
    leaders_before: list[int] = Field(
        description="who led then, and the highest of what was evaluated by then; 5 at most"
    )
    leader_now: int | None
    gain_before: Number
    gain_now: Number
    marks: list[MarkView]


class Difference(View):
    """A setting that is not the preset's; ``preset`` null where the preset has none."""

    key: str
    preset: Any
    here: Any


class ConfigDifference(View):
    """How a search's config differs from its preset, and all of it as TOML."""

    preset: str
    known: bool = Field(description="whether a preset of that name comes with evosearch")
    differences: list[Difference]
    toml: str


class SearchLine(View):
    """A search in a line: verdict, sparkline, and what it can be compared by."""

    id: str
    title: str
    status: str
    phase: str
    evaluated: int
    budget: int
    dataset: str
    anchors: list[str]
    objectives: dict[str, ObjectiveView] = Field(description="of each anchor, and ANCHOR#NAME")
    comparable: bool = Field(description="same data, anchors and recipe as the first of the list")
    reference: dict[str, float]
    verdict: SearchVerdict
    sparkline: list[float] = Field(description="hypervolume over evaluated candidates, 40 at most")
    worker_hours: float
    last_outcome: datetime | None = Field(description="of any kind, rejections among them")
    median_gap: Number = Field(description="seconds between the last outcomes, their median")
    last_evaluation: datetime | None
    evaluation_gap: Number = Field(description="seconds between the last evaluations, their median")
    failures_last_hour: int = Field(description="until now: candidates, lost jobs, later trainings")
    evaluations_per_hour: Number = Field(description="of late, pauses left out")
    random: bool = Field(description="whether it only draws graphs at random: a yardstick")
    worked_hours: float = Field(description="pauses and times without a controller left out")


class Comparison(View):
    """Searches side by side, in the order that was asked for."""

    searches: list[SearchLine]
