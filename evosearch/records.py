"""What passes between controller and workers: jobs out, messages back; plain frozen data.

This file must not know how anything is stored, queued or trained.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from evosearch.config import Bounds, Checks, Task
from primitives.graph import Graph


def _graph(value: Any) -> Graph:
    return value if isinstance(value, Graph) else Graph.from_json(value)


GraphData = Annotated[
    Graph, BeforeValidator(_graph), PlainSerializer(lambda graph: graph.to_json(), dict[str, Any])
]
"""A graph that travels as graph JSON."""

Split = Literal["select", "final"]
Cause = Literal["error", "died", "out_of_memory", "hung", "rubbish", "preempted"]
Purpose = Literal["search", "remeasure", "baseline", "confirm", "tune", "final"]


class Record(BaseModel):
    """Base of all records: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Subject(Record):
    """Whose score it is: a candidate of the search (``birth``) or a named baseline, never both."""

    birth: int | None = None
    baseline: str | None = None

    @property
    def key(self) -> str:
        """``c12`` for candidate 12, else the baseline's name."""
        return f"c{self.birth}" if self.birth is not None else str(self.baseline)


class Run(Record):
    """One training: an anchor, a seed, a learning rate, and the split that is scored."""

    anchor: str
    seed: int
    learning_rate: float
    split: Split = "select"


class Job(Record):
    """What a worker is asked: train one layer in these runs, after these checks.

    ``graph`` is the candidate's graph; a baseline has none and is built from its name.
    With ``checks`` the runs pass signal, quality and stability before any is trained to its end,
    and the first steps of each run are quality's own. ``audit``: a layer that signal rejects is
    put through quality all the same. ``hurdles``: anchor -> step -> least score. ``fronts``: anchor
    -> step -> scores there of other candidates, on the anchors up to that one, that spare who is
    not below them all. ``reached``: anchor -> step -> score, of runs that have ended. ``bounds``:
    of the signal check, where the search has learnt them. ``attempt`` counts from 1, and
    ``preempted`` how many attempts ended because a machine was taken away. ``signal_only``: the job
    ends with the signal check, and its runs are for later.
    """

    id: str
    purpose: Purpose
    subject: Subject
    graph: GraphData | None
    runs: tuple[Run, ...]
    task: Task
    checks: Checks | None = None
    hurdles: dict[str, dict[int, float]] = {}
    fronts: dict[str, dict[int, tuple[tuple[float, ...], ...]]] = {}
    reached: dict[str, dict[int, float]] = {}
    bounds: dict[str, dict[str, Bounds]] = {}
    audit: bool = False
    signal_only: bool = False
    attempt: int = 1
    preempted: int = 0

    def again(self, failure: Failure) -> Job:
        """The same for another worker, after one was lost by that failure."""
        taken = self.preempted + (failure.cause == "preempted")
        return self.model_copy(update={"attempt": self.attempt + 1, "preempted": taken})


class Rejection(Record):
    """Why a check threw a layer out: data, not an error."""

    code: str
    detail: str = ""


class CheckRun(Record):
    """One worker-side check as it ran: its cost in seconds, its findings, its verdict.

    ``anchor`` is empty for a check that is not tied to one. ``steps`` counts training steps.
    """

    check: Literal["signal", "quality", "stability", "training"]
    anchor: str = ""
    seconds: float
    steps: int = 0
    findings: dict[str, float] = {}
    rejection: Rejection | None = None
    audited: bool = False


class Evaluation(Record):
    """One layer x anchor x seed, trained to the end and scored.

    ``score``: accuracy on the split, 0 to 1 (of texts minus bits per character); chance level if
    the training diverged.
    ``more``: further objective of the anchor -> its score.
    ``milestones``: step -> score on ``select``, at the steps of hurdles.
    ``curve``: (step, training loss) at a few points; stored apart, and empty in events.
    ``correct``: on ``final`` only, one digit an image: how many of its draws were right.
    """

    anchor: str
    seed: int
    learning_rate: float
    split: Split
    score: float
    diverged: bool = False
    steps: int
    seconds: float
    more: dict[str, float] = {}
    milestones: dict[int, float] = {}
    groups: dict[str, int] = {}
    curve: tuple[tuple[int, float], ...] = ()
    correct: str = ""


class Failure(Record):
    """Why a worker returned no verdict.

    ``preempted``: its machine was taken away, or it was told to go; that is no fault of the layer.
    """

    cause: Cause
    detail: str = ""


class EvaluationDone(Record):
    """Stage result: one run of the job has ended. ``checks``: those since the last message."""

    kind: Literal["evaluation_done"] = "evaluation_done"
    job_id: str
    evaluation: Evaluation
    checks: tuple[CheckRun, ...] = ()


class JobDone(Record):
    """The last message of a job. At most one of ``rejection`` and ``failure`` is set.

    ``checks``: those that no `EvaluationDone` before it told.
    ``audit_passed``: of an audited signal rejection, whether quality passed on every anchor.
    """

    kind: Literal["job_done"] = "job_done"
    job_id: str
    checks: tuple[CheckRun, ...] = ()
    rejection: Rejection | None = None
    failure: Failure | None = None
    audit_passed: bool | None = None
    worker: str = ""
    seconds: float = 0.0


Message = EvaluationDone | JobDone
