"""Small realistic logs of searches, for the tests of stores."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from evosearch.config import Anchor, SearchConfig, Task
from evosearch.events import (
    CandidateDuplicate,
    CandidateEvaluated,
    CandidateFailed,
    CandidateQueued,
    CandidateRejected,
    CandidateWaiting,
    Created,
    EvaluationRecorded,
    Event,
    JobFinished,
    JobQueued,
    Skipped,
    Standing,
)
from evosearch.records import (
    CheckRun,
    Evaluation,
    Failure,
    Purpose,
    Rejection,
    Run,
    Split,
    Subject,
)
from primitives.graph import Graph, Node

ANCHORS = ("resnet", "mobilenet", "efficientnet")

CONFIG = SearchConfig(task=Task(anchors=tuple(Anchor(name=name) for name in ANCHORS)), seed=7)

CREATED = Created(config=CONFIG, versions={"evosearch": "0.1.0"})

Scores = Sequence[float]


def graph(birth: int) -> Graph:
    """A graph of that birth's own: its digits choose the primitives."""
    words = ("tanh", "abs", "neg", "square")
    digits = [(birth // 4**k) % 4 for k in range(6)]
    last = [Node(words[digit], (k + 3 if k else 0,)) for k, digit in enumerate(digits)]
    return Graph((*last, Node("add", (0, 9))))


def queued(birth: int, parents: tuple[int, ...] = (), **more: object) -> CandidateQueued:
    """A new function; digest and fingerprint follow from the birth."""
    fields: dict[str, object] = {
        "birth": birth, "graph": graph(birth), "digest": f"d{birth}", "fingerprint": f"f{birth}",
        "origin": "mutation" if parents else "random", "parents": parents,
    }  # fmt: skip
    return CandidateQueued.model_validate(fields | more)


def duplicate(birth: int, of: int) -> CandidateDuplicate:
    """A new graph with the function of an earlier candidate."""
    return CandidateDuplicate(
        birth=birth, of=of, graph=graph(birth), digest=f"d{birth}", fingerprint=f"f{of}",
        origin="random",
    )  # fmt: skip


def evaluation(
    birth: int,
    anchor: str,
    score: float,
    *,
    seed: int = 1,
    job: str | None = None,
    purpose: Purpose = "search",
    split: Split = "select",
    curve: tuple[tuple[int, float], ...] = (),
) -> EvaluationRecorded:
    """One finished training of a candidate."""
    return EvaluationRecorded(
        job_id=job or f"c{birth}", purpose=purpose, subject=Subject(birth=birth),
        evaluation=Evaluation(
            anchor=anchor, seed=seed, learning_rate=0.2, split=split, score=score, steps=100,
            seconds=0.7, groups={anchor: 4}, curve=curve,
        ),
    )  # fmt: skip


def standing(
    scores: Scores,
    front_in: Sequence[int] = (),
    front_out: Sequence[int] = (),
    hypervolume: float = 0.0,
    seeds: int = 1,
) -> Standing:
    """Scores by anchor, and how the front changed."""
    return Standing(
        scores=dict(zip(ANCHORS, scores, strict=True)), seeds=seeds, front_in=tuple(front_in),
        front_out=tuple(front_out), hypervolume=hypervolume,
    )  # fmt: skip


def checks(birth: int) -> tuple[CheckRun, ...]:
    """What signal and quality found of a candidate that they let pass."""
    return (
        CheckRun(check="signal", anchor="resnet", seconds=0.01, findings={"loss": 2.3 + birth}),
        CheckRun(check="quality", anchor="resnet", seconds=0.3, steps=40),
    )


def evaluated(birth: int, place: Standing) -> CandidateEvaluated:
    """Every anchor is trained."""
    return CandidateEvaluated(
        birth=birth, standing=place, checks=checks(birth), seconds=2.5, worker="w1"
    )


def waits(birth: int, promise: float | None = 0.25) -> CandidateWaiting:
    """The candidate has passed signal, and waits for its training."""
    return CandidateWaiting(birth=birth, checks=checks(birth)[:1], promise=promise, seconds=0.01)


def rejected(birth: int, code: str = "signal.loss") -> CandidateRejected:
    """Signal threw the candidate out."""
    verdict = Rejection(code=code, detail="the loss is 1e9")
    run = CheckRun(
        check="signal", anchor="resnet", seconds=0.01, rejection=verdict,
        findings={"loss": float("inf")},
    )  # fmt: skip
    return CandidateRejected(birth=birth, rejection=verdict, checks=(run,), seconds=0.01)


def failed(birth: int, quarantined: bool = False) -> CandidateFailed:
    """The candidate got no verdict."""
    failure = Failure(cause="died", detail="killed by signal 9")
    return CandidateFailed(birth=birth, failure=failure, quarantined=quarantined)


def job_queued(job: str, birth: int | None, purpose: Purpose, seed: int = 2) -> JobQueued:
    """A re-measurement or a baseline's training on every anchor."""
    subject = Subject(birth=birth) if birth is not None else Subject(baseline="bn-relu")
    runs = tuple(Run(anchor=anchor, seed=seed, learning_rate=0.2) for anchor in ANCHORS)
    return JobQueued(id=job, purpose=purpose, subject=subject, runs=runs)


def job_finished(
    job: str, birth: int | None, purpose: Purpose, place: Standing | None = None
) -> JobFinished:
    """The job has ended well."""
    subject = Subject(birth=birth) if birth is not None else Subject(baseline="bn-relu")
    return JobFinished(id=job, subject=subject, purpose=purpose, standing=place, seconds=2.0)


def dominates(one: Scores, other: Scores) -> bool:
    """Whether the one is at least as good everywhere and better somewhere."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def pareto_front(scores: dict[int, Scores]) -> set[int]:
    """Births that nothing dominates.

    What dominates a row comes before it in this order, and the first such is on the front itself.
    """
    front: dict[int, Scores] = {}
    for birth, mine in sorted(scores.items(), key=lambda one: tuple(one[1]), reverse=True):
        if not any(dominates(other, mine) for other in front.values()):
            front[birth] = mine
    return set(front)


class RandomSearch:
    """An endless, valid log: outcomes of all kinds, re-measurements, and a true front."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.birth = 0
        self.jobs = 0
        self.scores: dict[int, Scores] = {}
        self.front: set[int] = set()
        self.queued: list[int] = []

    def batches(self) -> Iterator[list[Event]]:
        """Batches as a controller writes them."""
        while True:
            if len(self.queued) < 3:
                yield [self._queue() for _ in range(3)]
            if self.scores and self.rng.random() < 0.2:
                yield from self._remeasure(self.rng.choice(sorted(self.scores)))
            yield from self._outcome(self.queued.pop(0))

    def _queue(self) -> Event:
        self.birth += self.rng.randint(1, 30)
        birth = self.birth
        if self.scores and self.rng.random() < 0.1:
            return duplicate(birth, self.rng.choice(sorted(self.scores)))
        parents = (self.rng.choice(sorted(self.scores)),) if self.scores else ()
        self.queued.append(birth)
        repeats = {parent: self.rng.randint(1, 4) for parent in parents}
        skipped = Skipped(
            counts={"constant": 9, "no_space": 3}, seconds={"constant": 0.001},
            repeats=repeats, examples=((birth - 1, "constant", graph(birth)),),
        )  # fmt: skip
        return queued(birth, parents, skipped=skipped)

    def _draw(self) -> list[float]:
        return [round(self.rng.random(), 2) for _ in ANCHORS]

    def _place(self, birth: int, scores: Scores) -> Standing:
        """The standing after this outcome, by recomputing the front."""
        self.scores[birth] = scores
        front = pareto_front(self.scores)
        place = standing(
            scores, sorted(front - self.front), sorted(self.front - front),
            sum(max(self.scores[one]) for one in front),
        )  # fmt: skip
        self.front = front
        return place

    def _runs(self, birth: int, scores: Scores, **more: object) -> list[Event]:
        curve = ((1, 2.3), (50, 1.1), (100, 0.4))
        return [
            evaluation(birth, anchor, score, curve=curve, **more)  # type: ignore[arg-type]
            for anchor, score in zip(ANCHORS, scores, strict=True)
        ]

    def _outcome(self, birth: int) -> Iterator[list[Event]]:
        kind = self.rng.random()
        if kind < 0.3:
            yield [rejected(birth)]
        elif kind < 0.4:
            yield [failed(birth, quarantined=kind < 0.33)]
        else:
            scores = self._draw()
            yield from ([event] for event in self._runs(birth, scores))
            yield [evaluated(birth, self._place(birth, scores))]

    def _remeasure(self, birth: int) -> Iterator[list[Event]]:
        self.jobs += 1
        job, scores = f"j{self.jobs}", self._draw()
        yield [job_queued(job, birth, "remeasure", seed=self.jobs)]
        runs = self._runs(birth, scores, job=job, purpose="remeasure", seed=self.jobs)
        place = self._place(birth, scores)
        yield [*runs, job_finished(job, birth, "remeasure", place)]
