"""A surrogate that says which candidates are worth training first: pure functions of the state.

The rule:

- A candidate that has passed the signal check waits; ``surrogate.waiting`` candidates wait at a
  time, and the one with the highest *promise* is trained next.
- Its promise is the rank from 0 to 1 that a random forest expects of it among the candidates that
  the search has trained. The forest is fitted to this very search's outcomes: what the signal check
  measured (two steps of the very training, which are all of its curve that is there when the queue
  is ordered: who has a longer one is in training already, and hurdles judge it), what the graph is
  made of, and what its parents were worth.
- Nobody waits for ever: who has been passed over often enough is trained next, whatever its
  promise. So, by itself, the surrogate delays and discards nothing.
- It earns the right to discard by what it said of candidates that were trained all the same. The
  cut is the highest promise below which at least ``surrogate.least`` of the latest were trained,
  and at most the share ``surrogate.allowed`` of them came out better than half of the population.
  What passes the signal check below the cut is rejected as ``unpromising``; a share of these, drawn
  by lot, is trained all the same, and the report says how many of them were wrongly below it.

What is learnt depends on recorded outcomes alone, so the events replay to the same promises with
the same version of scikit-learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evosearch import events as ev
from evosearch.config import SearchConfig, Surrogate
from evosearch.records import CheckRun, Rejection
from evosearch.refits import agreement, fitted_at, lessons_at, ranks
from evosearch.stats import Interval, false_rejection_rate
from evosearch.streams import stream
from primitives.graph import Graph
from primitives.ops import OP_SETS, typed_name
from primitives.rewrite import live_form
from primitives.structure import analyse

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

    from evosearch.state import State

KEPT = 800
"""Latest lessons that a forest is fitted to."""
TREES = 100
HUGE = 1e30
"""Features are cut off here; a forest computes with 32 bits."""
UNKNOWN = -HUGE
"""Stands for what is not known of a candidate."""
DELAYED = frozenset({"unpromising", "outranked", "outside_table"})
"""Codes of rejections that are no verdict on the layer."""
NAMES = tuple(dict.fromkeys(typed_name(*one) for names in OP_SETS.values() for one in names))
"""Primitives that are counted; those of plug-ins are not."""


class Lesson(NamedTuple):
    """A candidate that was trained, or rejected while it was, and what was said of it before.

    ``mean``: its mean score over the anchors; None if a check rejected it. ``useful``: whether that
    was at least the median of the population. ``promise``: None before the first fit.
    """

    features: tuple[float, ...]
    mean: float | None
    useful: bool
    promise: float | None


@dataclass(slots=True)
class Waiting:
    """A candidate that has passed the signal check and has no verdict yet.

    ``number``: how many had passed it before. ``below``: it was below the cut, and is trained
    all the same. ``begun``: one of its trainings has ended.
    """

    number: int
    checks: tuple[CheckRun, ...]
    features: tuple[float, ...]
    promise: float | None
    below: bool
    seconds: float
    begun: bool = False


def features(
    config: SearchConfig,
    graph: Graph,
    checks: Iterable[CheckRun],
    parents: Sequence[float],
) -> tuple[float, ...]:
    """What a forest is told of a candidate, `UNKNOWN` where nothing is known.

    In order: each anchor's signal statistics by their names' order, live nodes, whether it is free
    of batch statistics, whether it is pointwise, how often each primitive is live, and the lowest
    and highest mean score of its parents.
    """
    found = {run.anchor: run.findings for run in checks if run.check == "signal"}
    names = sorted(set().union(*found.values())) if found else []
    signal = [
        min(max(found.get(anchor, {}).get(name, UNKNOWN), -HUGE), HUGE)
        for anchor in config.anchor_names
        for name in names
    ]
    structure = analyse(graph)
    live = Counter(typed_name(node.op, node.over) for node in live_form(graph).nodes)
    worth = (min(parents), max(parents)) if parents else (UNKNOWN, UNKNOWN)
    return (
        *signal,
        float(structure.live_nodes),
        float(structure.batch_independent),
        float(structure.pointwise),
        *(float(live[name]) for name in NAMES),
        *worth,
    )


def promise(
    lessons: Sequence[Lesson], taught: int, settings: Surrogate, asked: tuple[float, ...]
) -> float | None:
    """The rank from 0 to 1 that is expected of a candidate; None before the first fit.

    ``lessons``: the latest of ``taught`` lessons in all, in their order.
    """
    last = fitted_at(taught, settings.after)
    if last is None:
        return None
    known = lessons_at(lessons, taught, last, KEPT)
    if len({len(one.features) for one in known} | {len(asked)}) > 1:
        return None  # a plug-in's anchor has told of other statistics meanwhile
    return round(float(_forest(known).predict(np.array([asked], dtype=np.float64))[0]), 4)


@lru_cache(maxsize=4)
def _forest(lessons: tuple[Lesson, ...]) -> RandomForestRegressor:
    # Not above: it takes a second to import, and few searches use it.
    from sklearn.ensemble import RandomForestRegressor

    rows, worth = [one.features for one in lessons], ranks([one.mean for one in lessons])
    made = RandomForestRegressor(
        TREES, min_samples_leaf=3, max_features=1 / 3, random_state=0, n_jobs=1
    )
    return made.fit(np.array(rows), worth)


def cut(lessons: Iterable[Lesson], settings: Surrogate) -> float | None:
    """The promise below which candidates may be discarded; None as long as that is not earned."""
    told = sorted((one.promise, one.useful) for one in lessons if one.promise is not None)
    earned, useful = None, 0
    for index, (value, was_useful) in enumerate(told):
        few = index >= settings.least and useful <= settings.allowed * index
        if few and value > told[index - 1][0]:
            earned = value
        useful += was_useful
    return earned


class Foretold(NamedTuple):
    """What is said of a candidate that has passed the signal check."""

    promise: float | None
    cut: float | None

    @property
    def below(self) -> bool:
        """Whether it may be discarded."""
        return self.promise is not None and self.cut is not None and self.promise < self.cut


def foretell(state: State, birth: int, checks: Iterable[CheckRun]) -> Foretold:
    """The candidate's promise, and the cut that is earned now."""
    settings = state.config.surrogate
    asked = features_of(state, birth, checks)
    found = promise(state.lessons, state.taught, settings, asked)
    return Foretold(found, cut(state.lessons, settings) if found is not None else None)


def features_of(state: State, birth: int, checks: Iterable[CheckRun]) -> tuple[float, ...]:
    """`features` of a candidate of the search."""
    member = state.members[birth]
    parents = [state.members[parent] for parent in member.parents if parent in state.members]
    worth = [state.mean_score(one.birth) for one in parents if one.evaluated]
    return features(state.config, member.graph, checks, worth)


def lesson_of(state: State, one: Waiting, standing: ev.Standing | None) -> Lesson:
    """What the end of a candidate teaches; without a ``standing`` a check rejected it."""
    if standing is None:
        return Lesson(one.features, None, False, one.promise)
    mean = float(np.mean([standing.scores[name] for name in state.config.anchor_names]))
    others = [state.mean_score(other) for other in state.population]
    useful = not others or mean >= float(np.median(others))
    return Lesson(one.features, mean, useful, one.promise)


def spared(config: SearchConfig, birth: int) -> bool:
    """Whether a candidate below the cut is trained all the same, by lot."""
    share = config.surrogate.audit_share
    return stream(config.seed, "surrogate", birth).random() < share


def in_line(state: State, submitted: Iterable[str] = ()) -> list[int]:
    """Births of the candidates that wait for their training, the oldest first."""
    given = set(submitted)
    return [b for b, one in state.waiting.items() if not one.begun and f"c{b}" not in given]


def turn(state: State, births: Sequence[int]) -> int:
    """Which of the waiting candidates is trained next.

    The oldest, if it has been passed over four times the length of the queue, or if nothing was
    foretold of one of them; else the one with the highest promise, the oldest of equal ones.
    """
    found = state.waiting
    oldest = births[0]
    patience = 4 * state.config.surrogate.waiting
    if state.waits - found[oldest].number > patience:
        return oldest
    told = {birth: found[birth].promise for birth in births}
    if any(value is None for value in told.values()):
        return oldest
    return max(births, key=lambda birth: (told[birth], -birth))


def outranked(state: State, submitted: Iterable[str]) -> tuple[ev.CandidateRejected, ...]:
    """The ends of the candidates that still wait once the search has evaluated enough."""
    if state.phase != "search" or state.evaluated < state.target:
        return ()
    detail = f"not among the first {state.evaluated}"
    return tuple(
        ev.CandidateRejected(
            birth=birth,
            rejection=Rejection(code="outranked", detail=detail),
            seconds=state.waiting[birth].seconds,
        )
        for birth in in_line(state, submitted)
    )


@dataclass(slots=True)
class Discards:
    """What became of candidates below the cut.

    ``discarded``: rejected as unpromising. ``audited``: trained all the same, by lot; ``useful``:
    how many of these were wrongly below it; ``passed``: those above it that were as good.
    """

    discarded: int = 0
    audited: int = 0
    useful: int = 0
    passed: int = 0


def discard_rate(state: State) -> Interval | None:
    """Share of the useful candidates that it discards, by those audited, with its 95 % interval.

    Useful is who was better than half of the population; None where nothing tells.
    """
    found = state.discards
    return false_rejection_rate(
        audited=found.audited, wrong=found.useful, passed=found.passed,
        share=state.config.surrogate.audit_share,
    )  # fmt: skip


def calibration(state: State) -> dict[str, Any]:
    """How far the surrogate may be trusted, by candidates that were trained all the same.

    ``foretold``: of the latest, those with a promise; ``correlation``: Spearman's, of their promise
    and rank; None below three of them. The others as in `Discards`, with `discard_rate` as value,
    low and high.
    """
    told = [(one.promise, one.mean) for one in state.lessons if one.promise is not None]
    found, rate = state.discards, discard_rate(state)
    return {
        "foretold": len(told),
        "correlation": agreement([promise for promise, _ in told], [mean for _, mean in told]),
        "discarded": found.discarded,
        "audited": found.audited,
        "useful": found.useful,
        "discard_rate": None if rate is None else rate._asdict(),
    }
