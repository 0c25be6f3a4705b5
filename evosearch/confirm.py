"""The end of a search: a confirmation that cannot flatter, as a small state machine.

confirm: the top candidates get fresh seeds on ``select``; the leader is the best of those seeds
alone, for the seed that selected a candidate flatters it. tune: leader and rivals at several
learning rates on ``select``. final: leader and rivals, each at its own best rate per anchor, read
``final`` once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from evosearch import events as ev
from evosearch.records import Purpose, Run, Subject
from evosearch.report import final_report
from evosearch.state import State
from evosearch.streams import evaluation_seed

MIN_FINAL_SEEDS = 3


def advance(state: State, exhausted: bool = False) -> tuple[ev.Event, ...]:
    """The events that move the search on, if it is time: baselines first, then phase by phase.

    ``exhausted``: the proposer found nothing new. Nothing moves while jobs are pending.
    """
    if state.phase == "search":
        baselines = tuple(_baseline_jobs(state))
        if baselines:
            return baselines
    if state.status != "running" or state.pending:
        return ()
    if state.phase == "search":
        if state.evaluated < state.target and not exhausted:
            return ()
        note = "the search space is exhausted" if state.evaluated < state.target else ""
        return tuple(_begin(state, note))
    if state.phase == "confirm":
        return tuple(_tune(state))
    if state.phase == "tune":
        return tuple(_final(state))
    return tuple(_finish(state)) if state.phase == "final" else ()


def fresh_mean(state: State, birth: int) -> float:
    """Mean over anchors of the mean score on the fresh seeds of the phase ``confirm``.

    Only of a candidate that was `confirmed`: a mean over some anchors compares with no other's.
    """
    return float(np.mean([np.mean(v) for v in _scores(state, f"c{birth}", "confirm").values()]))


def confirmed(state: State) -> list[int]:
    """Of the candidates that the phase ``confirm`` is about, those that have a fresh score on every
    anchor; one whose jobs all died on an anchor has not."""
    anchors = set(state.config.anchor_names)
    return [b for b in state.chosen if anchors <= _scores(state, f"c{b}", "confirm").keys()]


def leader(state: State) -> int | None:
    """The candidate that the search would recommend now.

    After the phase ``confirm`` the best on fresh seeds; before it the highest mean score.
    """
    measured = confirmed(state)
    if state.phase in ("tune", "final", "done") and measured:
        return max(measured, key=lambda b: (fresh_mean(state, b), -b))
    return next(iter(ranked(state)), None)


def ranked(state: State) -> list[int]:
    """Births of the evaluated candidates, the highest mean score first, the older before equals.

    The mean is that of the anchors' scores; further objectives count for the front alone.
    """
    anchors = len(state.config.task.anchors)
    means = {b: float(-np.mean(point[:anchors])) for b, point in state.front.points.items()}
    return sorted(means, key=lambda b: (-means[b], b))


def tuned_rate(state: State, key: str, anchor: str) -> float:
    """The learning rate at which that subject scored best on that anchor of ``select``."""
    by_rate: dict[float, list[float]] = {}
    for purpose, evaluation in state.results[key]:
        if purpose == "tune" and evaluation.anchor == anchor:
            by_rate.setdefault(evaluation.learning_rate, []).append(evaluation.score)
    if not by_rate:
        return state.config.task.learning_rate
    return max(by_rate, key=lambda rate: (np.mean(by_rate[rate]), -rate))


def _baseline_jobs(state: State) -> Iterable[ev.Event]:
    seed = evaluation_seed(state.config.seed, "search", 0)
    for name in state.config.baselines:
        if f"baseline/{name}" not in state.job_ids:
            yield _job(state, f"baseline/{name}", "baseline", Subject(baseline=name), seed)


def _begin(state: State, note: str) -> Iterable[ev.Event]:
    settings = state.config.confirmation
    top = tuple(ranked(state)[: settings.top])
    if not settings.enabled or not top:
        yield ev.PhaseEntered(phase="final", chosen=top, note=note)
        return
    yield ev.PhaseEntered(phase="confirm", chosen=top, note=note)
    for birth in top:
        for index in range(settings.seeds):
            seed = evaluation_seed(state.config.seed, "confirm", index)
            name = f"confirm/c{birth}/{index}"
            yield _job(state, name, "confirm", Subject(birth=birth), seed)


def _tune(state: State) -> Iterable[ev.Event]:
    settings = state.config.confirmation
    best = max(confirmed(state), key=lambda b: (fresh_mean(state, b), -b), default=None)
    if best is None:
        yield ev.PhaseEntered(phase="final", note="no candidate could be confirmed")
        return
    yield ev.PhaseEntered(phase="tune", chosen=(best,))
    for subject in _contenders(state, best):
        for rate in settings.learning_rates:
            for index in range(settings.tune_seeds):
                seed = evaluation_seed(state.config.seed, "tune", index)
                name = f"tune/{subject.key}/{rate:g}/{index}"
                yield _job(state, name, "tune", subject, seed, rate)


def _final(state: State) -> Iterable[ev.Event]:
    seeds, note = final_seeds(state)
    best = state.chosen[0]
    yield ev.PhaseEntered(phase="final", chosen=(best,), note=note)
    for subject in _contenders(state, best):
        rates = {a: tuned_rate(state, subject.key, a) for a in state.config.anchor_names}
        for index in range(seeds):
            seed = evaluation_seed(state.config.seed, "final", index)
            runs = tuple(
                Run(anchor=anchor, seed=seed, learning_rate=rate, split="final")
                for anchor, rate in rates.items()
            )
            yield ev.JobQueued(
                id=f"final/{subject.key}/{index}", purpose="final", subject=subject, runs=runs
            )


def final_seeds(state: State) -> tuple[int, str]:
    """Seeds on ``final``, fewer where the confirmation would outweigh the search, and a note.

    Counted in training steps, not seconds, so that the same events give the same decision.
    """
    settings, task = state.config.confirmation, state.config.task
    before = state.train_steps["confirm"] + state.train_steps["tune"]
    a_seed = (1 + len(settings.rivals)) * len(task.anchors) * task.steps
    room = max(MIN_FINAL_SEEDS, (state.search_steps - before) // a_seed)
    if room >= settings.final_seeds:
        return settings.final_seeds, ""
    note = (
        f"{room} instead of {settings.final_seeds} seeds on final, for the confirmation would "
        "take longer than the search; the intervals are wider for it"
    )
    return room, note


def _finish(state: State) -> Iterable[ev.Event]:
    yield ev.Reported(report=final_report(state))
    yield ev.PhaseEntered(phase="done")
    yield ev.StatusChanged(status="finished", reason="the budget is used up")


def _contenders(state: State, best: int) -> list[Subject]:
    rivals = [Subject(baseline=name) for name in state.config.confirmation.rivals]
    return [Subject(birth=best), *rivals]


def _scores(state: State, key: str, purpose: Purpose) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {}
    for made_for, evaluation in state.results.get(key, ()):
        if made_for == purpose:
            scores.setdefault(evaluation.anchor, []).append(evaluation.score)
    return scores


def _job(
    state: State, name: str, purpose: Purpose, subject: Subject, seed: int, rate: float = 0.0
) -> ev.JobQueued:
    rate = rate or state.config.task.learning_rate
    runs = (Run(anchor=a, seed=seed, learning_rate=rate) for a in state.config.anchor_names)
    return ev.JobQueued(id=name, purpose=purpose, subject=subject, runs=tuple(runs))
