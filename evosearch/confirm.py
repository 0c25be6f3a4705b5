"""The end of a search: its confirmation, as a small state machine.

confirm: the top candidates get fresh seeds on ``select`` and are ranked without the first seed,
which flatters whom it brought up; so are the baselines, at the search's rate, as a control that
decides nothing. What ranks them is selected all the same, a little: re-measurements of the search
count among a candidate's fresh seeds, and they had a part in who the top candidates are; and the
best of several on the same seeds stands too high on these. tune: the best of them and the rivals at
several learning rates on ``select``; the one that is best at its own best rate leads. final: leader
and rivals, each at its own best rate, read ``final`` once, with seeds and rows that chose nothing:
these numbers alone flatter nobody.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from evosearch import events as ev
from evosearch.config import SearchConfig
from evosearch.records import Purpose, Run, Subject
from evosearch.report import final_report
from evosearch.state import State
from evosearch.streams import evaluation_seed

MIN_FINAL_SEEDS = 3
FRESH: frozenset[Purpose] = frozenset({"baseline", "remeasure", "confirm", "tune"})
"""Purposes whose scores on ``select`` are not of the seed that brought a candidate up.

Selection is in them all the same: re-measurements count for who is confirmed at all, and the best
of several is chosen by each."""


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


def confirmed(state: State) -> list[int]:
    """Of the candidates that the phase ``confirm`` is about, those that have a fresh score on every
    anchor; one whose jobs all died on an anchor has not."""
    anchors = set(state.config.anchor_names)
    fresh = {
        birth: {run.anchor for why, run in state.results.get(f"c{birth}", ()) if why == "confirm"}
        for birth in state.chosen
    }
    return [birth for birth in state.chosen if anchors <= fresh[birth]]


def best_on_fresh_seeds(state: State) -> list[int]:
    """The `confirmed` candidates, the highest mean score on all fresh seeds first, the older before
    equals."""
    means = {b: mean for b in confirmed(state) if (mean := state.fresh_mean(b)) is not None}
    return sorted(means, key=lambda birth: (-means[birth], birth))


def best_at_own_rate(state: State) -> int:
    """Of the candidates that the phase ``tune`` is about, the one with the highest mean score at
    its own best rate; of equals the one that was better on fresh seeds."""

    def mean(birth: int) -> float:
        key = f"c{birth}"
        return _means_by_rate(state, key).get(tuned_rate(state, key), -np.inf)

    return max(state.chosen, key=mean)


def leader(state: State) -> int | None:
    """The candidate that the search would recommend now.

    After the phase ``confirm`` the best on fresh seeds; before it the highest mean score.
    """
    best = best_on_fresh_seeds(state) if state.phase in ("tune", "final", "done") else []
    return next(iter(best or ranked(state)), None)


def ranked(state: State) -> list[int]:
    """Births of the evaluated candidates, the highest mean score first, the older before equals.

    The mean is that of the anchors' scores; further objectives count for the front alone.
    """
    anchors = len(state.config.task.anchors)
    means = {b: float(-np.mean(point[:anchors])) for b, point in state.front.points.items()}
    return sorted(means, key=lambda b: (-means[b], b))


def tuned_rate(state: State, key: str) -> float:
    """The learning rate at which that subject scored best on ``select``, by the mean of anchors.

    One rate for all anchors, and every fresh seed at a rate counts, those of earlier phases too:
    two seeds on one anchor tell rates apart no better than a coin.
    """
    runs = state.results.get(key, ())
    tuned = {run.learning_rate for purpose, run in runs if purpose == "tune"}
    means = {rate: mean for rate, mean in _means_by_rate(state, key).items() if rate in tuned}
    usual = state.config.task.learning_rate
    return max(means, key=lambda rate: (means[rate], -rate), default=usual)


def _means_by_rate(state: State, key: str) -> dict[float, float]:
    """Learning rate -> mean score on fresh seeds over anchors, where each anchor has one.

    A baseline's seeds of the confirmation are a control and choose no rate.
    """
    counted = FRESH - {"confirm"} if key in state.config.baselines else FRESH
    by_rate: dict[float, dict[str, list[float]]] = {}
    for purpose, run in state.results.get(key, ()):
        if purpose in counted:
            by_rate.setdefault(run.learning_rate, {}).setdefault(run.anchor, []).append(run.score)
    anchors = set(state.config.anchor_names)
    return {
        rate: float(np.mean([np.mean(scores) for scores in by_anchor.values()]))
        for rate, by_anchor in by_rate.items()
        if by_anchor.keys() >= anchors
    }


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
    yield from _controls(state)


def _controls(state: State) -> Iterable[ev.Event]:
    """The baselines with the candidates' fresh seeds at the search's rate.

    So tables compare like with like; neither the leader nor a rival's rate depends on them.
    """
    for name, seeds in state.config.control_seeds.items():
        for index in range(seeds):
            seed = evaluation_seed(state.config.seed, "confirm", index)
            yield _job(state, f"confirm/{name}/{index}", "confirm", Subject(baseline=name), seed)


def _tune(state: State) -> Iterable[ev.Event]:
    settings = state.config.confirmation
    best = tuple(best_on_fresh_seeds(state)[: settings.tune_top])
    if not best:
        yield ev.PhaseEntered(phase="final", note="no candidate could be confirmed")
        return
    yield ev.PhaseEntered(phase="tune", chosen=best)
    for subject in _contenders(state, best):
        for rate in settings.learning_rates:
            for index in range(settings.tune_seeds):
                seed = evaluation_seed(state.config.seed, "tune", index)
                name = f"tune/{subject.key}/{rate:g}/{index}"
                yield _job(state, name, "tune", subject, seed, rate)


def _final(state: State) -> Iterable[ev.Event]:
    seeds, note = final_seeds(state)
    best = (best_at_own_rate(state),)
    yield ev.PhaseEntered(phase="final", chosen=best, note=note)
    for subject in _contenders(state, best):
        rate = tuned_rate(state, subject.key)
        for index in range(seeds):
            seed = evaluation_seed(state.config.seed, "final", index)
            runs = tuple(
                Run(anchor=anchor, seed=seed, learning_rate=rate, split="final")
                for anchor in state.config.anchor_names
            )
            yield ev.JobQueued(
                id=f"final/{subject.key}/{index}", purpose="final", subject=subject, runs=runs
            )


def final_seeds(state: State) -> tuple[int, str]:
    """Seeds on ``final``, fewer where these would outweigh the search, and a note.

    Counted in training steps, not seconds, so that the same events give the same decision.
    """
    settings = state.config.confirmation
    room = affordable_seeds(state.config, state.search_steps)
    if room == settings.final_seeds:
        return room, ""
    note = (
        f"{room} instead of {settings.final_seeds} seeds on final, for these would take more "
        "training steps than the search; fewer seeds say less, and with few of them the "
        "bootstrap's intervals are too narrow"
    )
    return room, note


def affordable_seeds(config: SearchConfig, search_steps: float) -> int:
    """Seeds on ``final`` after a search of so many training steps."""
    settings, task = config.confirmation, config.task
    a_seed = (1 + len(settings.rivals)) * len(task.anchors) * task.steps
    return min(settings.final_seeds, max(MIN_FINAL_SEEDS, int(search_steps // a_seed)))


def _finish(state: State) -> Iterable[ev.Event]:
    yield ev.Reported(report=final_report(state))
    yield ev.PhaseEntered(phase="done")
    yield ev.StatusChanged(status="finished", reason="the budget is used up")


def _contenders(state: State, best: Iterable[int]) -> list[Subject]:
    rivals = [Subject(baseline=name) for name in state.config.confirmation.rivals]
    return [*(Subject(birth=birth) for birth in best), *rivals]


def _job(
    state: State, name: str, purpose: Purpose, subject: Subject, seed: int, rate: float = 0.0
) -> ev.JobQueued:
    rate = rate or state.config.task.learning_rate
    runs = (Run(anchor=a, seed=seed, learning_rate=rate) for a in state.config.anchor_names)
    return ev.JobQueued(id=name, purpose=purpose, subject=subject, runs=tuple(runs))
