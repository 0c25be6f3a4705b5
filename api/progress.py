"""What a running search looks like in numbers: a plain snapshot, made by the thread that runs it.

The view draws snapshots in a thread of its own, so a snapshot shares nothing with the state. This
file must not know how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from evosearch.confirm import affordable_seeds, leader, ranked
from evosearch.objectives import SEPARATOR, Objective
from evosearch.report import formula_of
from evosearch.screen import SCREEN_CODES
from evosearch.state import State

CHECKS = ("signal", "quality", "stability", "training")
"""Worker-side checks in their order; ``training`` is what was left to train after quality."""


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """How often a check ran and threw something out, and what it cost in seconds.

    ``seen`` is None for checks in the controller: only their rejections are counted.
    """

    stage: str
    rejected: int
    seconds: float | None = None
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Scores of one layer: anchor -> accuracies on ``select``, one a seed."""

    label: str
    formula: str
    scores: dict[str, tuple[float, ...]]
    is_leader: bool = False

    @property
    def seeds(self) -> int:
        """Seeds that every anchor has; one makes a provisional score."""
        return min((len(values) for values in self.scores.values()), default=0)

    def mean(self, anchor: str) -> float | None:
        """Mean score on that anchor, if there is one."""
        values = self.scores.get(anchor)
        return float(np.mean(values)) if values else None


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a search. Rates are of this session; None before anything is known."""

    search_id: str
    preset: str
    status: str
    phase: str
    anchors: tuple[str, ...]
    evaluated: int
    target: int
    proposals: int
    proposals_per_second: float | None
    evaluations_per_hour: float | None
    elapsed: float
    seconds_left: float | None
    pending: int
    hypervolume: float
    funnel: tuple[FunnelRow, ...]
    front: tuple[ScoreRow, ...]
    baselines: tuple[ScoreRow, ...]
    failures: dict[str, int]
    notes: tuple[str, ...]
    goals: dict[str, Objective] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """How much of the budget is used, 0 to 1."""
        return min(1.0, self.evaluated / self.target) if self.target else 1.0


class Meter:
    """Takes snapshots of a search and knows its rates since the session began."""

    def __init__(self, search_id: str, state: State, clock: Callable[[], float]) -> None:
        self._id, self._clock, self._start = search_id, clock, clock()
        self._proposals, self._evaluated = state.next_birth, state.evaluated
        self._steps = sum(state.train_steps.values())

    def read(self, state: State) -> Progress:
        """The state of the search now."""
        elapsed = max(self._clock() - self._start, 1e-9)
        proposed = state.next_birth - self._proposals
        evaluated = state.evaluated - self._evaluated
        return Progress(
            search_id=self._id,
            preset=state.config.preset,
            status=state.status,
            phase=state.phase,
            anchors=state.config.anchor_names,
            evaluated=state.evaluated,
            target=wanted(state),
            proposals=state.next_birth,
            proposals_per_second=proposed / elapsed if proposed else None,
            evaluations_per_hour=3600 * evaluated / elapsed if evaluated else None,
            elapsed=elapsed,
            seconds_left=self._seconds_left(state, elapsed),
            pending=len(state.pending),
            hypervolume=state.hypervolume,
            funnel=funnel(state),
            front=front_rows(state),
            baselines=baseline_rows(state),
            failures=dict(state.failures),
            notes=tuple(state.notes),
            goals={name: goal for name, (goal, _) in state.config.coordinates.items()},
        )

    def _seconds_left(self, state: State, elapsed: float) -> float | None:
        """Training steps that are left over the steps a second of this session.

        The search takes no more than what is left of the budget's hours, if it has any.
        """
        steps = sum(state.train_steps.values()) - self._steps
        search = search_steps_left(state)
        if search is None or steps <= 0:
            return None
        seconds = elapsed / steps
        hours = state.budget.hours
        if hours is not None:
            search = min(search, max(0.0, 3600 * hours - elapsed) / seconds)
        return seconds * (search + confirmation_steps_left(state, search))


def wanted(state: State) -> int:
    """Candidates to evaluate; those under way when the budget ended are among them."""
    return max(state.target, state.evaluated)


def search_steps_left(state: State) -> float | None:
    """Training steps until the confirmation; None before the first evaluation."""
    if state.phase != "search":
        return 0.0
    if not state.evaluated:
        return None
    return max(0, state.target - state.evaluated) * state.search_steps / state.evaluated


def confirmation_steps_left(state: State, search: float) -> float:
    """Training steps of the confirmation, after ``search`` further steps of the search."""
    settings, task = state.config.confirmation, state.config.task
    a_seed = len(task.anchors) * task.steps
    final, tune = settings.final_runs * a_seed, settings.tune_runs * a_seed
    waiting = sum(len(job.runs) for job in state.pending.values()) * task.steps
    if not settings.enabled:
        final = tune = 0
    match state.phase:
        case "search":
            confirm = state.config.confirm_runs * a_seed if settings.enabled else 0
            seeds = affordable_seeds(state.config, state.search_steps + search)
            return confirm + tune + final * seeds / settings.final_seeds
        case "confirm":
            return waiting + tune + final
        case "tune":
            return waiting + final
        case _:
            return waiting


def funnel(state: State) -> tuple[FunnelRow, ...]:
    """Every check in its order: first those in the controller, then the workers' ones."""
    rows = [
        FunnelRow(code, tally.count, tally.seconds)
        for code in SCREEN_CODES
        if (tally := state.funnel.get(code)) is not None
    ]
    other = dict(state.rejected)
    for check in CHECKS:
        ran = state.checks.get(check)
        if ran is None and check not in other:
            continue
        rows.append(
            FunnelRow(
                check,
                other.pop(check, 0),
                ran.seconds if ran else None,
                ran.count if ran else 0,
            )
        )
    left = (FunnelRow(f"{code}, worker", count) for code, count in other.items() if count)
    return (*rows, *left)


def front_rows(state: State) -> tuple[ScoreRow, ...]:
    """The front's candidates, the highest mean first."""
    best = leader(state)
    return tuple(
        score_row(state, birth, is_leader=birth == best)
        for birth in ranked(state)
        if birth in state.front.members
    )


def score_row(state: State, birth: int, *, is_leader: bool = False) -> ScoreRow:
    """An evaluated candidate's formula and scores on ``select``."""
    member = state.members[birth]
    scores = {anchor: tuple(values) for anchor, values in member.scores.items()}
    return ScoreRow(str(birth), formula_of(member.graph), scores, is_leader)


def baseline_rows(state: State) -> tuple[ScoreRow, ...]:
    """The baselines of the same run in the config's order, all seeds at the search's rate."""
    rows = []
    for name in state.config.baselines:
        scores: dict[str, list[float]] = {}
        for purpose, evaluation in state.results.get(name, ()):
            if purpose in ("baseline", "confirm"):
                scores.setdefault(evaluation.anchor, []).append(evaluation.score)
                for further, one in evaluation.more.items():
                    key = f"{evaluation.anchor}{SEPARATOR}{further}"
                    scores.setdefault(key, []).append(one)
        if scores:
            rows.append(ScoreRow(name, "", {a: tuple(v) for a, v in scores.items()}))
    return tuple(rows)
