"""What workers are asked of a candidate first; pure functions of the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evosearch import events as ev
from evosearch.records import Job, Run, Subject
from evosearch.streams import evaluation_seed

if TYPE_CHECKING:
    from evosearch.state import State


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
