"""Which of some new functions is tried: the one with the best odds, by what was learnt.

Nine candidates of ten die at the workers' first checks, and how a layer behaves in a deep network
can be told without one. The rule:

- ``evolution.choose_of`` new functions are drawn for each candidate, and the one with the best odds
  is tried. The others are *passed over*: they are forgotten, and may be drawn again. So nothing is
  ever discarded.
- The odds are what a forest of extremely randomised trees expects of a function's
  `primitives.traits`. It is fitted to this very search's latest verdicts: the rank from 0 to 1
  among those that were trained to the end, 0 for who fell at a check or a hurdle.
- With ``evolution.experience`` it is fitted to what other searches learnt, too
  (`evosearch.experience`), so that there are odds from the first candidate on. A verdict of its own
  counts as much as `OWN` of theirs.
- In one draw of ten the first function is tried, whatever its odds, so that the forest goes on to
  hear of what it thinks little of.

The verdicts are recorded, so the same events give the same choices with the same versions of numpy
and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from evosearch.experience import Experience, shipped
from evosearch.refits import fitted_at, lessons_at, ranks
from evosearch.streams import stream
from primitives.graph import Graph
from primitives.traits import traits

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

    from evosearch.state import State

KEPT = 1000
"""Latest verdicts that a forest is fitted to."""
AFTER = 30
"""Verdicts before anything is chosen; one of them at least must be no rejection."""
BY_LOT = 0.1
"""Share of the draws in which the first function is tried."""
OWN = 10.0
"""Weight of a search's own verdict beside one of the experience."""
PATIENCE = 30
"""Proposals for each function wanted, after which it is decided with fewer."""
TREES = 50

_traits = lru_cache(maxsize=1 << 14)(traits)


class Trial(NamedTuple):
    """A candidate with the workers' verdict.

    ``mean``: its mean score over the anchors; None where a check or a hurdle rejected it.
    """

    graph: Graph
    mean: float | None


class Odds:
    """The forests of one search."""

    def __init__(self) -> None:
        self._fitted: int | None = None
        self._forest: ExtraTreesRegressor | None = None

    def choose(self, state: State, birth: int, drawn: Sequence[Graph]) -> int:
        """Position of the function that is tried; the first one where nothing is known."""
        if len(drawn) == 1 or stream(state.config.seed, "choice", birth).random() < BY_LOT:
            return 0
        found = self.of(state, drawn)
        return 0 if found is None else int(np.argmax(found))

    def of(self, state: State, drawn: Sequence[Graph]) -> list[float] | None:
        """The rank expected of each function, from 0 to 1; None as long as nothing is known."""
        begun = shipped() if state.config.evolution.experience else None
        last = fitted_at(state.decided, AFTER) or 0
        if last != self._fitted:
            known = lessons_at(state.trials, state.decided, last, KEPT) if last else ()
            self._fitted, self._forest = last, _fit(known, begun)
        if self._forest is None:
            return None
        told: list[float] = self._forest.predict(_rows(drawn)).tolist()
        return told


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
    rows: ArrayLike, worth: ArrayLike, weights: ArrayLike | None = None
) -> ExtraTreesRegressor:
    """The forest that odds are asked of, fitted to traits (n, k), worth (n,) and weights (n,)."""
    # Not above: it takes a second to import, and not every search chooses.
    from sklearn.ensemble import ExtraTreesRegressor

    made = ExtraTreesRegressor(
        TREES, min_samples_leaf=2, max_features=0.5, random_state=0, n_jobs=1
    )
    return made.fit(np.asarray(rows), np.asarray(worth), sample_weight=weights)


def _rows(graphs: Sequence[Graph]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([_traits(graph) for graph in graphs])
