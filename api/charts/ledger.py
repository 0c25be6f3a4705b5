"""A search's log in columns: what charts need of every candidate, and who led when.

Folded event by event and never re-read; the log is the only source. It must not query anything,
and what it keeps of a candidate is a few numbers: 100,000 candidates take about 20 MB.
"""

from __future__ import annotations

import heapq
import json
import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from api.charts.failures import Failures
from api.charts.genes import genes_of
from evosearch.config import SearchConfig
from evosearch.gain import Samples

STATES = ("queued", "duplicate", "rejected", "failed", "evaluated")
QUEUED, DUPLICATE, REJECTED, FAILED, EVALUATED = range(5)
ORIGINS = ("random", "mutation", "enqueued", "catalog")
MARKS_KEPT = 200
_DONE = {
    "running": "resume", "paused": "pause", "stopped": "stop", "finished": "finish",
    "failed": "fail",
}  # fmt: skip
FOLDED = (
    "candidate_queued", "candidate_duplicate", "enqueued_refused", "evaluation_recorded",
    "candidate_rejected", "candidate_failed", "candidate_evaluated", "job_lost", "job_finished",
    "phase_entered", "status_changed", "budget_changed",
)  # fmt: skip
"""Kinds of events that a ledger reads; of the others it takes the time alone."""
Floats = NDArray[np.float64]


class Place(NamedTuple):
    """A moment of a search on every axis that a chart may have. ``seconds``: of workers."""

    seq: int
    at: datetime
    evaluated: int
    steps: int
    seconds: float


class Step(NamedTuple):
    """A change of the front or of the hypervolume."""

    place: Place
    hypervolume: float
    front_in: tuple[int, ...]
    front_out: tuple[int, ...]


class Lead(NamedTuple):
    """Who leads from here on, with its scores by anchor and the seeds behind them."""

    place: Place
    birth: int
    scores: tuple[float, ...]
    seeds: int


class Mark(NamedTuple):
    """Something that a person or the controller did to the search."""

    place: Place
    kind: str
    text: str


@dataclass(slots=True)
class Work:
    """Ended pieces of work: when, how long, by whom; ``kind`` is an index of `STATES` or -1.

    ``steps``: training steps of the whole search until then.
    """

    seq: array[int] = field(default_factory=lambda: array("q"))
    ended: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    kind: array[int] = field(default_factory=lambda: array("b"))
    worker: array[int] = field(default_factory=lambda: array("l"))
    steps: array[int] = field(default_factory=lambda: array("q"))
    names: dict[str, int] = field(default_factory=dict)

    def add(self, seq: int, at: datetime, event: dict[str, Any], kind: int, steps: int) -> None:
        """One piece has ended."""
        worker = event.get("worker") or ""
        self.seq.append(seq)
        self.ended.append(at.timestamp())
        self.seconds.append(event.get("seconds") or 0.0)
        self.kind.append(kind)
        self.steps.append(steps)
        self.worker.append(self.names.setdefault(worker, len(self.names)) if worker else -1)


class Ledger:
    """The columns of one search; a candidate's row is its place in the log among all."""

    def __init__(self, config: SearchConfig) -> None:
        self.config, self.anchors = config, config.anchor_names
        self.last, self.budget = 0, config.budget.evaluations
        self.status, self.phase = "running", "search"
        self.chosen: tuple[int, ...] = ()
        self.evaluated, self.steps, self.seconds, self.hypervolume = 0, 0, 0.0, 0.0
        self.rows: dict[int, int] = {}
        self.birth, self.outcome = array("q"), array("q")
        self.state, self.origin = array("b"), array("b")
        self.nodes, self.seeds, self.bytes = array("h"), array("h"), array("f")
        self.genes = array("Q")
        self.operator, self.operators = array("h"), {"": 0}
        self.scores = [array("d") for _ in self.anchors]
        others = [one for one in config.coordinates if one not in self.anchors]
        self.further = {name: array("d") for name in others}
        # Seconds a step, summed over trainings, and how many trainings; of all purposes.
        self.step_time = [array("f") for _ in self.anchors]
        self.trainings = [array("h") for _ in self.anchors]
        self.entered: dict[int, int] = {}
        self.front_steps: list[Step] = []
        self.leads: list[Lead] = []
        self.sure_leads: list[Lead] = []
        self.marks: list[Mark] = []
        self.lost: list[tuple[int, str]] = []
        self.failures = Failures()
        self.pauses: list[tuple[datetime, datetime]] = []
        self.work = Work()
        self.gaps = array("f")
        """Seconds from the event before to each, 0 where the search did not run between them."""
        self.longest_training, self._before = 0.0, 0.0
        self.samples = Samples(self.anchors, config.task.learning_rate)
        self._best = (-math.inf, 0)
        self._sure: dict[int, tuple[float, tuple[float, ...], int]] = {}
        self._surest: list[tuple[float, int]] = []
        """A heap of (-mean, birth), the highest first; with means that hold no longer."""
        self._still: datetime | None = None
        self._handlers = {kind: getattr(self, f"_on_{kind}") for kind in FOLDED}

    # -- reading -----------------------------------------------------------------------------

    def column(self, name: str) -> NDArray[Any]:
        """A copy of a column, one value a candidate."""
        return np.array(getattr(self, name))

    def score_matrix(self) -> Floats:
        """Standing scores (candidates, anchors), NaN before there are any.

        Where fresh seeds were trained to confirm a candidate, their means stand alone: the seed
        that chose a candidate flatters it.
        """
        made = np.stack([np.array(one) for one in self.scores], axis=1)
        for birth, means in self.samples.confirmed().items():
            if birth in self.rows:
                made[self.rows[birth]] = means
        return made

    def seed_counts(self) -> NDArray[np.int64]:
        """Seeds behind each row of `score_matrix`."""
        made = np.array(self.seeds, dtype=np.int64)
        for birth in self.samples.confirmed():
            if birth in self.rows:
                made[self.rows[birth]] = self.samples.fresh_seeds(birth)
        return made

    def members(self) -> NDArray[np.int64]:
        """Rows of the evaluated candidates."""
        return np.flatnonzero(np.array(self.state) == EVALUATED)

    def operators_of(self, births: Sequence[int]) -> dict[int, str]:
        """Birth -> the operators that made it, joined by ``+``; those alone that have some."""
        names = list(self.operators)
        found = {one: names[self.operator[self.rows[one]]] for one in births if one in self.rows}
        return {birth: name for birth, name in found.items() if name}

    def leader(self) -> Lead | None:
        """Who leads now: of the confirmed ones the highest; before there are any, of all."""
        leads = self.sure_leads or self.leads
        return leads[-1] if leads else None

    def lead_at(self, seq: int) -> Lead | None:
        """Who led when that event happened."""
        for leads in (self.sure_leads, self.leads):
            place = bisect_right([one.place.seq for one in leads], seq)
            if place:
                return leads[place - 1]
        return None

    def place(self, seq: int, at: datetime) -> Place:
        """The moment of an event, as it is folded."""
        return Place(seq, at, self.evaluated, self.steps, self.seconds)

    # -- folding -----------------------------------------------------------------------------

    def fold(self, seq: int, at: datetime, kind: str, payload: str) -> None:
        """Take in the next event of the log; none is left out."""
        moment = at.timestamp()
        # Before its second event a search waits for a controller.
        runs = self.last > 1 and self.status == "running"
        self.gaps.append(moment - self._before if runs else 0.0)
        self._before = moment
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(seq, at, json.loads(payload))
        self.last = seq

    def _on_candidate_queued(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self._row(event, QUEUED)
        if event["origin"] == "enqueued":
            self._mark(seq, at, "enqueue", event.get("note") or f"candidate {event['birth']}")

    def _on_candidate_duplicate(self, _seq: int, _at: datetime, event: dict[str, Any]) -> None:
        self._row(event, DUPLICATE)

    def _on_enqueued_refused(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self._mark(seq, at, "enqueue", f"refused: {event['rejection']['code']}")

    def _on_evaluation_recorded(self, _seq: int, _at: datetime, event: dict[str, Any]) -> None:
        done, subject, purpose = event["evaluation"], event["subject"], event["purpose"]
        self.steps += done["steps"]
        self.longest_training = max(self.longest_training, done["seconds"])
        if done["anchor"] not in self.anchors:
            return
        place = self.anchors.index(done["anchor"])
        row = self.rows.get(subject["birth"]) if subject["birth"] is not None else None
        if row is not None and done["steps"] > 0:
            self.step_time[place][row] += done["seconds"] / done["steps"]
            self.trainings[place][row] += 1
        key = subject["birth"] if subject["birth"] is not None else subject["baseline"]
        self.samples.add(key, purpose, place, done)

    def _on_candidate_rejected(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self._ended(seq, at, event, REJECTED)

    def _on_candidate_failed(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self._ended(seq, at, event, FAILED)
        cause = event["failure"]["cause"]
        self.failures.add(at, cause, event.get("worker") or "", event["birth"])
        if cause == "died":
            self.lost.append((seq, "died"))

    def _on_candidate_evaluated(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self.evaluated += 1
        self._ended(seq, at, event, EVALUATED)
        self._stand(seq, at, event["birth"], event["standing"])

    def _on_job_lost(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self.lost.append((seq, event["failure"]["cause"]))
        self.failures.add(at, event["failure"]["cause"], event.get("worker") or "", None)

    def _on_job_finished(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self.seconds += event["seconds"]
        self.work.add(seq, at, event, -1, self.steps)
        if event.get("failure") is not None:
            self.failures.add(at, event["failure"]["cause"], event.get("worker") or "", None)
        birth = event["subject"]["birth"]
        if event["standing"] is not None and birth is not None:
            self._stand(seq, at, birth, event["standing"])
        elif birth is not None and event["purpose"] == "confirm":
            self._surely(seq, at, birth)

    def _on_phase_entered(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self.phase = event["phase"]
        self.chosen = tuple(event["chosen"]) or self.chosen
        self._mark(seq, at, "phase", event["phase"])
        self._lead_surely(seq, at)

    def _on_status_changed(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        self.status = event["status"]
        if self.status != "running":
            self._still = self._still or at
        elif self._still is not None:
            self.pauses.append((self._still, at))
            self._still = None
        self._mark(seq, at, _DONE[self.status], event["reason"])

    def _on_budget_changed(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        told, evaluations = [], event["evaluations"]
        if evaluations is not None:
            self.budget = evaluations
            told.append(f"{evaluations} evaluations")
        for name, limit in event.get("limits", {}).items():
            words = name.replace("_", " ")
            told.append(f"no limit of {words}" if limit is None else f"{words} {limit:g}")
        self._mark(seq, at, "budget", ", ".join(told))

    # -- parts -------------------------------------------------------------------------------

    def _row(self, event: dict[str, Any], state: int) -> None:
        mask, nodes, moved = genes_of(event["graph"]["nodes"])
        self.rows[event["birth"]] = len(self.birth)
        self.birth.append(event["birth"])
        self.outcome.append(-1)
        self.state.append(state)
        self.origin.append(ORIGINS.index(event["origin"]))
        self.nodes.append(nodes)
        self.seeds.append(0)
        self.bytes.append(moved)
        self.genes.append(mask)
        name = event.get("operator") or ""
        self.operator.append(self.operators.setdefault(name, len(self.operators)))
        for column in (*self.scores, *self.further.values()):
            column.append(math.nan)
        for times, count in zip(self.step_time, self.trainings, strict=True):
            times.append(0.0)
            count.append(0)

    def _ended(self, seq: int, at: datetime, event: dict[str, Any], state: int) -> None:
        self.seconds += event.get("seconds") or 0.0
        row = self.rows[event["birth"]]
        self.state[row], self.outcome[row] = state, seq
        self.work.add(seq, at, event, state, self.steps)

    def _stand(self, seq: int, at: datetime, birth: int, standing: dict[str, Any]) -> None:
        row, scores = self.rows[birth], standing["scores"]
        for column, anchor in zip(self.scores, self.anchors, strict=True):
            column[row] = scores[anchor]
        for name, column in self.further.items():
            column[row] = scores.get(name, math.nan)
        self.seeds[row] = standing["seeds"]
        self._surely(seq, at, birth)
        self._front(seq, at, standing)
        mean = sum(scores[anchor] for anchor in self.anchors) / len(self.anchors)
        held, leads = self._best
        if birth == leads and mean < held:
            self._best = self._first()
        elif (mean, -birth) > (held, -leads) or birth == leads:
            self._best = (mean, birth)
        if self._best != (held, leads):
            first = self.rows[self._best[1]]
            shown = tuple(column[first] for column in self.scores)
            place = self.place(seq, at)
            self.leads.append(Lead(place, self._best[1], shown, self.seeds[first]))

    def _surely(self, seq: int, at: datetime, birth: int) -> None:
        """Takes in what several seeds say of a candidate; fresh ones stand alone."""
        row = self.rows[birth]
        fresh = self.samples.means_of(birth)
        seeds = self.seeds[row] if fresh is None else self.samples.fresh_seeds(birth)
        scores = fresh or tuple(column[row] for column in self.scores)
        if seeds < 2:
            return
        mean = sum(scores) / len(scores)
        self._sure[birth] = (mean, scores, seeds)
        heapq.heappush(self._surest, (-mean, birth))
        self._lead_surely(seq, at)

    def _lead_surely(self, seq: int, at: datetime) -> None:
        """Who leads of the confirmed ones: whom the confirmation chose, else the highest."""
        settled = self.phase in ("tune", "final", "done") and self.chosen[:1]
        if settled and self.chosen[0] in self._sure:
            birth = self.chosen[0]
        elif self._sure:
            birth = self._highest()
        else:
            return
        _, scores, seeds = self._sure[birth]
        before = self.sure_leads[-1] if self.sure_leads else None
        if before is None or (before.birth, before.scores, before.seeds) != (birth, scores, seeds):
            self.sure_leads.append(Lead(self.place(seq, at), birth, scores, seeds))

    def _highest(self) -> int:
        """Of the confirmed ones that with the highest mean, the older before equals."""
        mean, birth = self._surest[0]
        while -mean != self._sure[birth][0]:  # a further seed has changed it
            heapq.heappop(self._surest)
            mean, birth = self._surest[0]
        return birth

    def _front(self, seq: int, at: datetime, standing: dict[str, Any]) -> None:
        into, out = tuple(standing["front_in"]), tuple(standing["front_out"])
        for birth in out:
            self.entered.pop(birth, None)
        for birth in into:
            self.entered[birth] = seq
        if into or out or standing["hypervolume"] != self.hypervolume:
            self.hypervolume = standing["hypervolume"]
            self.front_steps.append(Step(self.place(seq, at), self.hypervolume, into, out))

    def _first(self) -> tuple[float, int]:
        """The highest mean score and its birth, the older before equals."""
        rows = self.members()
        means = np.stack([np.array(one)[rows] for one in self.scores]).mean(axis=0)
        births = np.array(self.birth)[rows]
        best = np.lexsort((births, -means))[0]
        return float(means[best]), int(births[best])

    def _mark(self, seq: int, at: datetime, kind: str, text: str) -> None:
        self.marks.append(Mark(self.place(seq, at), kind, text[:200]))
        if len(self.marks) > 2 * MARKS_KEPT:
            del self.marks[:-MARKS_KEPT]
