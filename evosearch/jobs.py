"""What workers are asked of a candidate first; pure functions of the state."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from evosearch import events as ev
from evosearch.records import Job, Purpose, Run, Subject
from evosearch.streams import evaluation_seed

if TYPE_CHECKING:
    from evosearch.state import State


class Pending(dict[str, Job]):
    """Job id -> job. ``purposes``: how many there are of each, which thousands of workers make dear
    to count."""

    def __init__(self, jobs: Mapping[str, Job] | None = None) -> None:
        super().__init__()
        self.purposes: Counter[Purpose] = Counter()
        for key, job in (jobs or {}).items():
            self[key] = job

    def __setitem__(self, key: str, job: Job) -> None:
        if key in self:
            self.purposes[self[key].purpose] -= 1
        super().__setitem__(key, job)  # one that changes keeps its place
        self.purposes[job.purpose] += 1

    def __delitem__(self, key: str) -> None:
        self.purposes[self[key].purpose] -= 1
        super().__delitem__(key)


def first_job(state: State, event: ev.CandidateQueued) -> Job:
    """The job of a candidate that was just queued: the checks, then one seed per anchor.

    With a surrogate it ends with the signal check; what a person asked for does not wait.
    """
    config = state.config
    seed = evaluation_seed(config.seed, "search", 0)
    rate = config.task.learning_rate
    runs = (Run(anchor=a, seed=seed, learning_rate=rate) for a in config.anchor_names)
    return Job(
        id=f"c{event.birth}",
        purpose="search",
        subject=Subject(birth=event.birth),
        graph=event.graph,
        runs=tuple(runs),
        task=config.task,
        checks=config.checks,
        hurdles=hurdles(state),
        fronts=fronts(state),
        bounds=state.bounds,
        audit=event.audit,
        signal_only=config.surrogate.enabled and event.origin in ("random", "mutation"),
    )


def hurdles(state: State) -> dict[str, dict[int, float]]:
    """Anchor -> step -> least score, from what the candidates that came so far had there."""
    settings = state.config.checks.hurdles
    return {
        anchor: {
            step: float(np.quantile(scores, settings.quantile))
            for step, scores in by_step.items()
            if len(scores) >= settings.after
        }
        for anchor, by_step in state.milestones.items()
    }


def fronts(state: State) -> dict[str, dict[int, tuple[tuple[float, ...], ...]]]:
    """Anchor -> step -> the front of the latest candidates' scores there, on the anchors up to it.

    Empty where no hurdle spares the front.
    """
    anchors = state.config.anchor_names
    rows: dict[str, dict[int, list[tuple[float, ...]]]] = {name: {} for name in anchors}
    for by_step in state.early.values():
        for step, scores in by_step.items():
            row: tuple[float, ...] = ()
            for name in anchors:
                if name not in scores:
                    break
                row = (*row, scores[name])
                rows[name].setdefault(step, []).append(row)
    return {
        name: {step: _front(found) for step, found in sorted(of.items())}
        for name, of in rows.items() if of
    }  # fmt: skip


def _front(rows: list[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    kept: list[tuple[float, ...]] = []
    # The largest first: whoever beats a row comes before it. Of so few rows arrays would be slower.
    for row in sorted(set(rows), reverse=True):
        if not any(all(a >= b for a, b in zip(one, row, strict=True)) for one in kept):
            kept.append(row)
    return tuple(reversed(kept))


def least_score(
    job: Job, anchor: str, step: int, reached: Mapping[str, Mapping[int, float]]
) -> float | None:
    """The score at a hurdle below which a candidate is given up; None where there is no hurdle.

    It is the hurdle, or less where a lower score still puts the candidate on the front: beaten by
    nobody who did at least as well on every anchor before. ``reached``: what it had there.
    """
    hurdle = job.hurdles.get(anchor, {}).get(step)
    rows = job.fronts.get(anchor, {}).get(step, ())
    before = [one.name for one in job.task.anchors]
    before = before[: before.index(anchor)]
    if hurdle is None or not rows or any(step not in reached.get(name, {}) for name in before):
        return hurdle
    mine = [reached[name][step] for name in before]
    better = [row[-1] for row in rows if all(a >= b for a, b in zip(row, mine, strict=False))]
    return min(hurdle, max(better, default=-math.inf))
