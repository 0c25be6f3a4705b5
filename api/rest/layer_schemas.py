"""The shapes of answers about one layer: what it looks like, does and costs, and its family."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from api.rest.chart_schemas import AnchorGain, GainView, Number, ObjectiveView
from api.rest.schemas import Verdict
from api.rest.view import View


class Curve(View):
    """Output and gradient of one element against its value, in a batch of that distribution."""

    mean: float
    deviation: float
    output: list[Number]
    gradient: list[Number]


class ResponseView(View):
    """Response curves at v0 = 0 and v1 = 1, in training mode, without the affine."""

    x: list[float]
    curves: list[Curve]


class DrawnNode(View):
    """A node with its place. ``column``: in widths of a node around 0; level 0: the inputs."""

    id: int
    label: str
    kind: str = Field(description="input, operation or aggregation")
    live: bool
    output: bool
    level: int
    column: float
    shape: str


class DrawnEdge(View):
    """What reads what; ``side``: L or R where a node has two inputs."""

    source: int
    target: int
    live: bool
    side: str


class Drawing(View):
    """A graph laid out for drawing, dead nodes included."""

    nodes: list[DrawnNode]
    edges: list[DrawnEdge]
    levels: int
    width: float


class Behaviour(View):
    """What the layer does on a small probe (no proof), and what it costs by count."""

    live_nodes: int
    axes_mixed: list[str]
    batch_independent: bool
    causal_safe: bool
    pointwise: bool
    scale_invariant: bool
    shift_invariant: bool
    symmetry: str
    bounded: bool
    monotone: str
    parameters_per_channel: int
    flops: float = Field(description="an element, forward, with the affine")
    bytes_moved: float = Field(description="an element, forward, float32")


class LayerLook(View):
    """A layer as text, MathML, drawing and properties."""

    formula: str
    mathml: str | None = Field(description="null where it would be too long")
    drawing: Drawing
    behaviour: Behaviour
    known_as: str | None


class Usage(View):
    """How an export is used; ``file``: the name that the download has."""

    format: str
    title: str
    language: str
    file: str
    snippet: str


class SeedScores(View):
    """Scores on one split and anchor, one a seed, with the mean's 95 % interval over seeds."""

    purpose: str
    split: str
    anchor: str
    learning_rate: float
    scores: list[float]
    seeds: list[int]
    mean: GainView


class CandidateAbout(LayerLook):
    """A candidate as its page shows it; the log's details are in the candidate itself."""

    birth: int
    state: str
    origin: str
    verdict: Verdict
    gain: GainView | None = Field(description="over the better baseline, mean of the anchors")
    gain_seeds: int = Field(description="behind the gain; fresh ones alone once there are any")
    anchors: list[AnchorGain]
    objectives: dict[str, ObjectiveView] = Field(description="of the search: what scores mean")
    scores: list[SeedScores]
    step_time: Number = Field(description="of a training step while searching, BN-ReLU = 1")
    usage: list[Usage]
    rank: int | None = Field(description="1 is the highest gain of the search")
    evaluated: int


class TrainingCurve(View):
    """Loss of one training; ``label``: the candidate or a baseline."""

    label: str
    baseline: bool
    anchor: str
    purpose: str
    seed: int
    learning_rate: float
    split: str
    score: float
    diverged: bool
    steps: list[float]
    losses: list[Number]


class TrainingsView(View):
    """Training curves of a candidate beside the baselines'; ``left_out``: trainings not shown."""

    anchors: list[str]
    curves: list[TrainingCurve]
    left_out: int


class TextPart(View):
    """A piece of a formula; ``changed``: the other one lacks it."""

    text: str
    changed: bool


class NodeChange(View):
    """A node that differs; null where one graph has no such node."""

    node: int
    before: str | None
    after: str | None


class FamilyMember(View):
    """A parent or child, with the difference from parent to child in both formulas."""

    birth: int
    state: str
    origin: str
    formula: str | None
    mean_score: float | None
    gain: Number = Field(description="of the relative over the better baseline")
    live_nodes: int
    on_front: bool
    before: list[TextPart] = Field(description="the parent's formula")
    after: list[TextPart] = Field(description="the child's formula")
    changes: list[NodeChange]


class FamilyView(View):
    """Parents and the best children of a candidate; ``children_total`` counts up to 500."""

    birth: int
    parents: list[FamilyMember]
    children: list[FamilyMember]
    children_total: int


class CostMeasured(View):
    """Ratios to BatchNorm2d + ReLU, measured now on the service's machine: a look, no benchmark."""

    forward: float
    forward_backward: float
    saved_bytes: float
    saved_bytes_recompute: float
    shape: list[int]
    runs: int
    measured_at: datetime


class LayerReport(View):
    """What a layer is, and which check would reject it."""

    formula: str
    graph: dict[str, Any]
    digest: str
    properties: dict[str, Any]
    facts: dict[str, str]
    checks: list[dict[str, Any]]
    known_as: str | None
    latex: str | None
    drawing: str = Field(description="the graph as DOT text")
    mathml: str | None
    picture: Drawing
    behaviour: Behaviour
    curves: ResponseView | None
    usage: list[Usage]
