"""What is known of a search at a moment, and what can be read off it.

It changes by events alone, and those are folded by `evosearch.state`.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from evosearch import events as ev
from evosearch.config import Bounds, Budget, Limits, SearchConfig
from evosearch.jobs import Pending
from evosearch.members import Audit, Member, Tally, Yield
from evosearch.odds import Choice
from evosearch.pareto import Front, Points
from evosearch.records import Evaluation, Purpose
from evosearch.refits import LARGEST_STEP
from evosearch.signal import Learnt
from evosearch.surrogate import KEPT, Discards, Lesson, Waiting
from primitives.graph import Graph

KEPT_TRIED = 4
"""Trained candidates that are kept in mind, whatever became of them, in populations."""


class Known:
    """Everything that a controller knows of its search.

    ``pending``: job id -> job with the runs that are still to be done.
    ``funnel``: in-controller code -> tally; ``rejected``: worker-side code (and ``failed``,
    ``quarantined``) -> candidates; ``checks``: worker-side check -> runs and their cost.
    ``learnt``, ``bounds``: what outcomes told of the signal check, and the bounds in force, empty
    for those of the config. ``results``: subject key -> (purpose, evaluation) of everything but the
    search's own scores.
    """

    def __init__(self, created: ev.Created) -> None:
        config = created.config
        self.config: SearchConfig = config
        off = {
            name: getattr(config.checks, name).model_copy(update={"enabled": False})
            for name in ("signal", "quality", "stability")
        }
        self._hurdles_alone = (
            config.checks.model_copy(update=off) if config.checks.hurdles.steps else None
        )
        self._without_signal = config.checks.model_copy(update={"signal": off["signal"]})
        self.status: ev.SearchStatus = "running"
        self.phase: ev.Phase = "search"
        self.target = config.budget.evaluations
        self.limits: Limits = {}
        """Limits of the budget beside its evaluations that were changed."""
        self.next_birth = 0
        self.digests: dict[str, int] = {}
        self.fingerprints: dict[str, int] = {}
        self.starts: Counter[str] = Counter()
        self.full_starts: set[str] = set()
        """Starts that ``evolution.same_start`` candidates have."""
        evolution = config.evolution
        kept = KEPT_TRIED * evolution.population_size if evolution.alike < 1.0 else 0
        self.tried: deque[tuple[int, Graph]] = deque(maxlen=kept)
        self.operators: dict[str, Yield] = defaultdict(Yield)
        self.members: dict[int, Member] = {}
        self.population: deque[int] = deque(maxlen=config.evolution.population_size)
        self.popular: set[int] = set()
        """Evaluated candidates that were proposed ``remeasure_every`` times a measurement."""
        self._leading: list[int] | None = None
        self.coordinates = tuple(config.coordinates)
        self.begun_at = 0
        """Candidates that were evaluated when evolution last began anew."""
        self.gained_at = 0
        """Candidates that were evaluated when one last raised the hypervolume, or evolution
        began."""
        self.primitives: dict[str, list[int]] = {}
        """Typed name -> candidates with it that workers decided, and those that came through."""
        self.choice = Choice(evolution.choose_of)
        self.front = Front([-reference for _, reference in config.coordinates.values()])
        self.hypervolume = 0.0
        self.pending = Pending()
        self.job_ids: set[str] = set()
        self.results: dict[str, list[tuple[Purpose, Evaluation]]] = defaultdict(list)
        self.funnel: dict[str, Tally] = defaultdict(Tally)
        self.rejected: Counter[str] = Counter()
        self.checks: dict[str, Tally] = defaultdict(Tally)
        self.examples: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.audit = Audit()
        self.evaluated = 0
        self.remeasured = 0
        self.confirmed: float | None = None
        """The highest mean score over anchors on fresh seeds that a candidate has had."""
        self.confirmed_at = 0
        """Candidates that were evaluated when it last rose."""
        self.duplicates = 0
        self.train_steps: Counter[str] = Counter()
        self.begun: dict[int, dict[str, int]] = {}
        """Birth -> anchor -> steps of quality, of candidates with anchors that are not trained to
        the end yet."""
        self.milestones: dict[str, dict[int, deque[float]]] = {}
        self.early: dict[int, dict[int, dict[str, float]]] = {}
        """Birth -> step of a hurdle -> anchor -> score, of the latest; for hurdles that spare."""
        self.learnt = Learnt()
        self.bounds: dict[str, dict[str, Bounds]] = {}
        self.waiting: dict[int, Waiting] = {}
        """Birth -> what is known of a candidate that waits for its turn, or is trained after it."""
        self.waits = 0
        self.lessons: deque[Lesson] = deque(maxlen=KEPT + LARGEST_STEP)
        self.taught = 0
        """Lessons in all, those that are no longer kept included."""
        self.discards = Discards()
        self.chosen: tuple[int, ...] = ()
        self.notes: list[str] = []
        self.report: dict[str, Any] | None = None
        self.seq = 1

    def objectives(self, scores: dict[str, float]) -> Points:
        """Minimised objectives (k,): negated scores in the order of the config's coordinates."""
        return np.array([-scores[name] for name in self.coordinates])

    @property
    def budget(self) -> Budget:
        """The limits that hold now beside the evaluations, which are `target`."""
        return self.config.budget.model_copy(update=self.limits)

    @property
    def search_steps(self) -> int:
        """Training steps that the search phase took, with rejected and audited candidates."""
        return sum(self.train_steps[p] for p in ("search", "remeasure", "quality", "audit"))

    def mean_score(self, birth: int) -> float:
        """Mean over anchors of an evaluated candidate's mean score."""
        return -float(self.front.points[birth][: len(self.config.task.anchors)].mean())

    def leading(self) -> list[int]:
        """The ``challenge_top`` of the population with the highest mean scores, best first."""
        if self._leading is None:
            points, anchors = self.front.points, len(self.config.task.anchors)
            self._leading = heapq.nsmallest(
                self.config.evolution.challenge_top,
                self.population,
                key=lambda birth: (float(points[birth][:anchors].sum()), birth),
            )
        return self._leading

    def told(
        self, event: ev.EvaluationRecorded | ev.CandidateRejected
    ) -> ev.EvaluationRecorded | ev.CandidateRejected:
        """The event with the checks that were made before its candidate had to wait."""
        birth = event.birth if isinstance(event, ev.CandidateRejected) else event.subject.birth
        before = None if birth is None else self.waiting.get(birth)
        if before is None:
            return event
        return event.model_copy(update={"checks": (*before.checks, *event.checks)})

    @property
    def parents(self) -> Sequence[int]:
        """The members of the population that may become parents: all, until evolution restarts."""
        young = self.evaluated - self.begun_at
        return self.population if self.begun_at == 0 else list(self.population)[-young:][:young]

    def primitive_weights(self) -> dict[str, float]:
        """Typed name -> weight from ``evolution.primitive_floor`` to 1; empty: all alike.

        A primitive that nothing was learnt of is not in it, and counts as the most promising.
        """
        floor = self.config.evolution.primitive_floor
        shares = {name: (came + 1) / (of + 2) for name, (of, came) in self.primitives.items()}
        most = max(shares.values(), default=1.0)
        return {name: max(floor, share / most) for name, share in shares.items()}

    def fresh_mean(self, birth: int) -> float | None:
        """Mean over anchors of a candidate's mean on fresh seeds; None before each has one."""
        scores: dict[str, list[float]] = {}
        for purpose, one in self.results.get(f"c{birth}", ()):
            if purpose in ("remeasure", "confirm"):
                scores.setdefault(one.anchor, []).append(one.score)
        names = self.config.anchor_names
        if not names or any(one not in scores for one in names):
            return None
        return float(np.mean([np.mean(scores[one]) for one in names]))
