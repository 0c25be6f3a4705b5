"""Which of some new functions is tried: one with good odds, by what was learnt.

Nine candidates of ten die at the workers' first checks, and how a layer behaves in a deep network
can be told without one. The rule:

- For each candidate up to ``evolution.choose_of`` new functions are looked at, and the one with the
  best odds is tried. The first of them are drawn as any proposal is, from nothing or from parents;
  then they breed: the others are edits of those looked at, where the better of some is the parent,
  by its odds alone. Of functions with the same traits one may be a parent.
- The *runners-up*, those with the best odds of the functions that were not tried, come first at the
  next candidates: new verdicts may have changed their odds, and they breed on.
- The more jobs the pool held at the last candidate, the fewer functions are looked at, so that no
  worker waits for it.
- Where the latter half of them held nothing better than the first, half as many are looked at for
  the next candidate; where it did, twice as many.
- Looking ends at the first function whose odds are one half.
- Who is not tried is *passed over*, and may be drawn again. So nothing is ever discarded.
- The odds are what a forest of extremely randomised trees expects of a function's
  `primitives.traits`. It is fitted to this very search's latest verdicts: the cube of the rank from
  0 to 1 among those that were trained to the end, 0 for who fell at a check or a hurdle. It is the
  cube because the best of many is wanted: one that may be first is worth more than two that are
  surely in the middle.
- With ``evolution.experience`` it is fitted to what other searches learnt, too
  (`evosearch.experience`), so that there are odds from the first candidate on. A verdict of its own
  counts as much as `OWN` of theirs.
- For one candidate in ten the first function is tried, whatever its odds, so that the forest goes
  on to hear of what it thinks little of.

The verdicts are recorded, so the same events give the same choices with the same versions of numpy
and scikit-learn.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from evosearch.experience import Experience, shipped
from evosearch.refits import LARGEST_STEP, agreement, fitted_at, lessons_at, ranks
from evosearch.streams import pick, stream
from primitives.graph import Graph
from primitives.traits import traits

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

    from evosearch.events import Skipped
    from evosearch.state import State

BRED = "bred"
"""Operator of who comes of functions that were looked at, and not of candidates at once."""
KEPT = 1000
"""Latest verdicts that a forest is fitted to."""
AFTER, SOON = 30, 5
"""Verdicts before anything is chosen; one of them at least must be no rejection. With experience
there are odds before any verdict, and so many change them for the first time."""
BY_LOT = 0.1
"""Share of the candidates for which the first function is tried."""
ENOUGH = 0.5
"""Odds at which no other function is looked at."""
AT_ONCE = 4
"""Jobs in the pool from which on fewer are looked at."""
OWN = 10.0
"""Weight of a search's own verdict beside one of the experience."""
DRAWN, DRAWN_SHARE = 50, 0.2
"""Functions that are drawn before they breed, and their share where fewer are looked at; a `BATCH`
at least, for only then are there odds."""
TOURNAMENT, WINDOW = 10, 300
"""Functions of which the best becomes a parent, drawn from so many of the latest."""
BATCH = 20
"""Functions whose odds are asked at a time."""
FEWEST = 50
"""Functions that are looked at for a candidate at least, if ``choose_of`` lets so many and the pool
holds no more than `AT_ONCE` jobs."""
RUNNERS_UP, RESERVE = 10, 50
"""Best functions of which the new ones are remembered, and how many are at most."""
PATIENCE, PATIENCE_BRED = 300, 50
"""Proposals in a row without a new function, after which it is decided with fewer: such as are
drawn (one of twenty is new in a large space), and such as are bred (one of two)."""
TREES = 50
POWER = 3
"""Of the rank that is expected; chosen by how many of the best tenth are found among a thousand, in
searches that the forest was not told of (``tests/benchmarks/study_experience.py``)."""

_traits = lru_cache(maxsize=1 << 14)(traits)


class Trial(NamedTuple):
    """A candidate with the workers' verdict.

    ``mean``: its mean score over the anchors; None where a check or a hurdle rejected it.
    ``odds``: what it was given when it was queued, if there were any; ``by_lot``: it was tried
    whatever they were.
    """

    graph: Graph
    mean: float | None
    odds: float | None = None
    by_lot: bool = False


class RunnerUp(NamedTuple):
    """A function with good odds that was not tried, the candidates that it comes of, and how."""

    graph: Graph
    parents: tuple[int, ...]
    operator: str = BRED


class Choice:
    """What a search keeps in mind for its choices, as its events tell it.

    ``trials``: the latest candidates that workers decided; ``decided``: those of all times.
    ``looks``: functions that are looked at for the next candidate, but for the pool's size;
    ``jobs``: what the pool held at a time when the last candidate was chosen.
    """

    def __init__(self, choose_of: int) -> None:
        kept = KEPT + LARGEST_STEP if choose_of > 1 else 0
        self.trials: deque[Trial] = deque(maxlen=kept)
        self.decided = 0
        self.runners_up: deque[RunnerUp] = deque(maxlen=RESERVE)
        self.looks, self.jobs = choose_of, 1

    def decide(self, trial: Trial) -> None:
        """Workers have decided a candidate."""
        self.trials.append(trial)
        self.decided += 1

    def tell(self, queued: Graph, skipped: Skipped) -> None:
        """A candidate was chosen; it is no runner-up any more."""
        for one in [one for one in self.runners_up if one.graph == queued]:
            self.runners_up.remove(one)
        made_by = skipped.made_by or (BRED,) * len(skipped.runners_up)
        self.runners_up.extend(
            RunnerUp(*one, name) for one, name in zip(skipped.runners_up, made_by, strict=True)
        )
        self.looks = skipped.looks or self.looks
        self.jobs = skipped.jobs or self.jobs

    def dump(self) -> dict[str, Any]:
        """As data for JSON."""
        trials = [[graph.to_json(), *more] for graph, *more in self.trials]
        runners_up = [[graph.to_json(), *more] for graph, *more in self.runners_up]
        numbers = {"decided": self.decided, "looks": self.looks, "jobs": self.jobs}
        return {"trials": trials, "runners_up": runners_up, **numbers}

    def load(self, told: dict[str, Any]) -> None:
        """Become what `dump` told of."""
        self.trials.extend(Trial(Graph.from_json(graph), *more) for graph, *more in told["trials"])
        self.runners_up.extend(
            RunnerUp(Graph.from_json(graph), tuple(parents), operator)
            for graph, parents, operator in told["runners_up"]
        )
        self.decided, self.looks, self.jobs = (told[name] for name in ("decided", "looks", "jobs"))


class Odds:
    """The forest of one search."""

    def __init__(self) -> None:
        self._fitted: int | None = None
        self._forest: ExtraTreesRegressor | None = None

    def wanted(self, state: State, birth: int) -> int:
        """Functions that are looked at for a candidate: one where nothing is known, or by lot."""
        count = state.choice.looks * AT_ONCE // max(AT_ONCE, state.choice.jobs)
        if count <= 1 or by_lot(state, birth):
            return 1
        return count if self._known(state) else 1

    def of(self, state: State, drawn: Sequence[Graph]) -> list[float] | None:
        """The odds of each function, from 0 to 1; None as long as nothing is known."""
        trees = self._known(state)
        if trees is None:
            return None
        return _expected(trees, _rows(drawn))

    def _known(self, state: State) -> ExtraTreesRegressor | None:
        begun = shipped() if state.config.evolution.experience else None
        last = fitted_to(state)
        if last != self._fitted:
            known = (
                lessons_at(state.choice.trials, state.choice.decided, last, KEPT) if last else ()
            )
            self._fitted, self._forest = last, _fit(known, begun)
        return self._forest


def by_lot(state: State, birth: int) -> bool:
    """Whether the candidate that is sought from that proposal on is tried whatever its odds."""
    return stream(state.config.seed, "choice", birth).random() < BY_LOT


class Told(NamedTuple):
    """Candidates that were given odds before workers decided them, and those that came through."""

    decided: int
    through: int


def calibration(state: State) -> dict[str, Any]:
    """How far the odds can be trusted, by what became of the latest candidates.

    ``chosen``: those with the best odds, as in `Told`; ``by_lot``: those that were tried whatever
    their odds, which no choice has selected. ``correlation``: Spearman's, of odds and rank of all
    of them; None below three, or where all are equal.
    """
    told = [one for one in state.choice.trials if one.odds is not None]
    kinds = {
        name: [one for one in told if one.by_lot is lot]
        for name, lot in (("chosen", False), ("by_lot", True))
    }
    odds = [one.odds for one in told if one.odds is not None]
    return {
        **{name: Told(len(some), sum(one.mean is not None for one in some))._asdict()
           for name, some in kinds.items()},
        "correlation": agreement(odds, [one.mean for one in told]),
    }  # fmt: skip


def fitted_to(state: State) -> int:
    """Verdicts of its own that the search's odds are fitted to now."""
    return (
        fitted_at(state.choice.decided, SOON if state.config.evolution.experience else AFTER) or 0
    )


def looks_after(state: State, gain: int) -> int:
    """Functions that are looked at for the next candidate: twice as many, or half as many."""
    looks = state.choice.looks
    changed = 2 * looks if gain > 0 else looks // 2 if gain < 0 else looks
    return min(state.config.evolution.choose_of, max(FEWEST, changed))


class Brood:
    """The functions that are looked at for one candidate, in their order; they stay as they are.

    Without odds (``of`` answers None) the first one is the best.
    """

    def __init__(self, of: Callable[[Sequence[Graph]], list[float] | None], wanted: int) -> None:
        self._of, self.wanted = of, wanted
        self._graphs: list[Graph] = []
        self._odds: list[float] = []
        self._best = 0
        self._again = 0
        self._parents: list[int] = []
        self._met: set[tuple[float, ...]] = set()

    @property
    def patience(self) -> int:
        """Proposals in a row without a new function, after which there seem to be no others."""
        return PATIENCE_BRED if self.breeds else PATIENCE

    def add(self, graph: Graph, again: bool = False) -> None:
        """One more function; ``again``: it is a runner-up of an earlier candidate."""
        self._graphs.append(graph)
        self._again += again
        if self.wanted > 1 and len(self._graphs) - len(self._odds) >= BATCH:
            self._ask()

    @property
    def enough(self) -> bool:
        """Whether no other one need be looked at."""
        return self._good or self._new >= self.wanted

    @property
    def breeds(self) -> bool:
        """Whether the next one is to come of these, and not to be drawn."""
        return bool(self._parents) and self._new >= min(DRAWN, DRAWN_SHARE * self.wanted)

    @property
    def _good(self) -> bool:
        return bool(self._odds) and self._odds[self._best] >= ENOUGH

    @property
    def _new(self) -> int:
        return len(self._graphs) - self._again

    @property
    def gain(self) -> int:
        """1: more should be looked at for the next candidate; -1: fewer; 0: as many."""
        if self.wanted == 1 or self._good:
            return 0
        return 1 if self._best >= self._again + self._new // 2 else -1

    def parent(self, rng: random.Random) -> int:
        """Position of a function to be edited."""
        latest = self._parents[-WINDOW:]
        return max((pick(rng, latest) for _ in range(TOURNAMENT)), key=self._odds.__getitem__)

    def best(self) -> int:
        """Position of the function that is tried."""
        if self.wanted > 1 and len(self._graphs) > 1:
            self._ask()
        return self._best

    def runners_up(self) -> list[int]:
        """Positions of those with the best odds but one, the best first; no two are alike."""
        others = (place for place in self._parents if place != self._best)
        ranked = sorted(others, key=lambda place: (-self._odds[place], place))
        return [place for place in ranked[:RUNNERS_UP] if place >= self._again]

    def _ask(self) -> None:
        new = self._graphs[len(self._odds) :]
        told = self._of(new) if new else None
        for place, odds in enumerate(told or (), len(self._odds)):
            self._odds.append(odds)
            if odds > self._odds[self._best]:
                self._best = place
            looks = tuple(round(value, 1) for value in _traits(self._graphs[place]))
            if looks not in self._met:
                self._met.add(looks)
                self._parents.append(place)


def _fit(known: Sequence[Trial], begun: Experience | None) -> ExtraTreesRegressor | None:
    worth = ranks([one.mean for one in known])
    if begun is None:
        return extra_trees(_rows([one.graph for one in known]), worth) if any(worth) else None
    if not known:
        return _of_experience()
    return extra_trees(
        np.concatenate([begun.traits, _rows([one.graph for one in known])]),
        [*begun.worth.tolist(), *worth],
        [1.0] * len(begun.worth) + [OWN] * len(worth),
    )


@cache
def _of_experience() -> ExtraTreesRegressor:
    return extra_trees(*shipped())


def extra_trees(
    rows: ArrayLike, worth: ArrayLike, weights: ArrayLike | None = None, power: float = POWER
) -> ExtraTreesRegressor:
    """The forest that odds are asked of, fitted to traits (n, k), worth (n,) and weights (n,)."""
    # Not above: it takes a second to import, and not every search chooses.
    from sklearn.ensemble import ExtraTreesRegressor

    made = ExtraTreesRegressor(
        TREES, min_samples_leaf=2, max_features=0.5, random_state=0, n_jobs=1
    )
    return made.fit(np.asarray(rows), np.asarray(worth) ** power, sample_weight=weights)


def _expected(forest: ExtraTreesRegressor, rows: ArrayLike) -> list[float]:
    """As the forest itself says, tree by tree: of few rows nearly all of its time is overhead."""
    asked = np.asarray(rows, np.float32)
    total = np.zeros(len(asked))
    for tree in forest.estimators_:
        total += tree.tree_.predict(asked)[:, 0]
    told: list[float] = (total / TREES).tolist()
    return told


def _rows(graphs: Sequence[Graph]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([_traits(graph) for graph in graphs])
