"""A made-up search with baselines, a leader, a confirmation and a report, and its raw scores."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.events import (
    Created,
    EvaluationRecorded,
    Event,
    PhaseEntered,
    Skipped,
    StatusChanged,
)
from evosearch.records import Evaluation, Purpose, Subject
from tests.support.events import (
    ANCHORS,
    CREATED,
    dominates,
    duplicate,
    evaluated,
    evaluation,
    failed,
    job_finished,
    job_queued,
    queued,
    rejected,
    standing,
)

BASELINES = {"bn-relu": (0.60, 0.55, 0.50), "bn-silu": (0.58, 0.57, 0.52)}
"""Scores on the first seed, by anchor."""
CONFIRM_SEEDS = (11, 12, 13)


@dataclass
class Truth:
    """What was written, kept apart from what the service makes of it."""

    scores: dict[int, list[float]] = field(default_factory=dict)
    confirmed: dict[int, list[list[float]]] = field(default_factory=dict)
    outcome: dict[int, int] = field(default_factory=dict)
    front: set[int] = field(default_factory=set)
    last: int = 0


def baseline_run(name: str, anchor: str, score: float, seed: int, purpose: Purpose) -> Event:
    """One training of a baseline; a step takes a hundredth of a second."""
    return EvaluationRecorded(
        job_id=f"{purpose}/{name}", purpose=purpose, subject=Subject(baseline=name),
        evaluation=Evaluation(
            anchor=anchor, seed=seed, learning_rate=0.2, split="select", score=score, steps=100,
            seconds=1.0,
        ),
    )  # fmt: skip


class Story:
    """Writes a search event by event and keeps the truth."""

    def __init__(
        self,
        store: SqlStore,
        name: str,
        seed: int = 3,
        *,
        created: Created = CREATED,
        shift: float = 0.0,
        further: dict[str, float] | None = None,
    ) -> None:
        """``shift`` is added to every score; ``further``: scores of ``anchor#name``."""
        ServiceWrites(store).create(name, "made up", created, Notes())
        self.shift, self.further = shift, further or {}
        self.store, self.name, self.truth = store, name, Truth(last=1)
        self.rng = random.Random(seed)
        self.lease = store.acquire(name, "story", 3600)
        self.birth = 0
        self._waiting: list[Event] = []

    def write(self, *events: Event) -> int:
        """Events to be appended; returns the number of the last."""
        self._waiting += events
        self.truth.last += len(events)
        return self.truth.last

    def flush(self) -> None:
        """Appends what was written, in one transaction."""
        self.store.append(self.lease, self._waiting)
        self._waiting = []

    def baselines(self) -> None:
        """Both rivals on their first seed, and a second one for the spread over seeds."""
        for name, scores in BASELINES.items():
            for purpose, shift in (("baseline", 0.0), ("tune", 0.02)):
                runs = [
                    baseline_run(
                        name, anchor, score + shift + self.shift, 1 + int(shift > 0), purpose
                    )  # type: ignore[arg-type]
                    for anchor, score in zip(ANCHORS, scores, strict=True)
                ]
                job = job_queued(f"{purpose}/{name}", None, purpose)  # type: ignore[arg-type]
                done = job_finished(f"{purpose}/{name}", None, purpose)  # type: ignore[arg-type]
                subject = Subject(baseline=name)
                self.write(
                    job.model_copy(update={"subject": subject}), *runs,
                    done.model_copy(update={"subject": subject}),
                )  # fmt: skip

    def candidate(self, scores: list[float], parents: tuple[int, ...] = ()) -> int:
        """One candidate from queue to population, with a step of 0.7 hundredths of a second."""
        self.birth += 1
        birth = self.birth
        scores = [one + self.shift for one in scores]
        self.truth.scores[birth] = scores
        rivals = {one: self.truth.scores[one] for one in self.truth.front}
        front = set(rivals)  # none of which dominates another
        if not any(dominates(rival, scores) for rival in rivals.values()):
            front = {one for one, rival in rivals.items() if not dominates(scores, rival)} | {birth}
        place = standing(
            scores, sorted(front - self.truth.front), sorted(self.truth.front - front), birth / 1e6
        )
        place = place.model_copy(update={"scores": place.scores | self.further})
        self.truth.front = front
        runs = [evaluation(birth, a, s) for a, s in zip(ANCHORS, scores, strict=True)]
        skipped = Skipped(counts={"constant": 9}, seconds={"constant": 0.1})
        self.truth.outcome[birth] = self.write(
            queued(birth, parents, skipped=skipped), *runs, evaluated(birth, place)
        )
        return birth

    def others(self, count: int) -> None:
        """So many rejected ones, and one that failed."""
        for _ in range(count):
            self.birth += 1
            self.write(queued(self.birth), rejected(self.birth))
        self.birth += 1
        self.write(queued(self.birth), failed(self.birth))

    def many(self, count: int, low: float = 0.2, high: float = 0.55) -> None:
        """So many candidates at random, none of them above the baselines."""
        for _ in range(count):
            self.candidate([round(self.rng.uniform(low, high), 3) for _ in ANCHORS])

    def repeated(self, of: int) -> None:
        """A duplicate of an evaluated candidate."""
        self.birth += 1
        self.write(duplicate(self.birth, of))

    def confirm(self, birth: int, by_anchor: list[list[float]]) -> None:
        """Fresh seeds for a candidate; then it is chosen, and the search pauses."""
        self.truth.confirmed[birth] = by_anchor
        self.write(PhaseEntered(phase="confirm", chosen=(birth,)))
        for place, seed in enumerate(CONFIRM_SEEDS):
            job = f"confirm/{birth}/{seed}"
            runs = [
                evaluation(birth, anchor, scores[place] + self.shift, job=job, purpose="confirm",
                           seed=seed)
                for anchor, scores in zip(ANCHORS, by_anchor, strict=True)
            ]  # fmt: skip
            self.write(job_queued(job, birth, "confirm", seed), *runs,
                       job_finished(job, birth, "confirm"))  # fmt: skip
        self.write(PhaseEntered(phase="tune", chosen=(birth,)), StatusChanged(status="paused"))
