"""Which of some new functions is tried: the one with the best odds, by what was learnt.

Nine candidates of ten die at the workers' first checks, and how a layer behaves in a deep network
can be told without one. The rule:

- ``evolution.choose_of`` new functions are drawn for each candidate, and the one with the best odds
  is tried. The others are *passed over*: they are forgotten, and may be drawn again. So nothing is
  ever discarded.
- The odds are what a random forest expects of a function's `primitives.traits`. It is fitted to
  this very search's latest verdicts: the rank from 0 to 1 among those that were trained to the
  end, 0 for who fell at a check or a hurdle.
- With ``evolution.experience`` the search begins with what others learnt (`evosearch.experience`):
  the odds are a mean of both forests' answers, in which its own verdicts count more with each.
- In one draw of ten the first function is tried, whatever its odds, so that the forest goes on to
  hear of what it thinks little of.

The verdicts are recorded, so the same events give the same choices with the same versions of numpy
and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evosearch.experience import experienced
from evosearch.refits import fitted_at, forest, lessons_at, ranks
from evosearch.streams import stream
from primitives.graph import Graph
from primitives.traits import traits

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

    from evosearch.state import State

KEPT = 1000
"""Latest verdicts that a forest is fitted to."""
AFTER = 30
"""Verdicts before anything is chosen; one of them at least must be no rejection."""
BY_LOT = 0.1
"""Share of the draws in which the first function is tried."""
TRUSTED = 300
"""Verdicts of its own by which a search goes as much as by the experience that it began with."""
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
        self._forest: RandomForestRegressor | None = None

    def choose(self, state: State, birth: int, drawn: Sequence[Graph]) -> int:
        """Position of the function that is tried; the first one where nothing is known."""
        if len(drawn) == 1 or stream(state.config.seed, "choice", birth).random() < BY_LOT:
            return 0
        found = self.of(state, drawn)
        return 0 if found is None else int(np.argmax(found))

    def of(self, state: State, drawn: Sequence[Graph]) -> list[float] | None:
        """The rank expected of each function, from 0 to 1; None as long as nothing is known."""
        last = fitted_at(state.decided, AFTER)
        if last is not None and last != self._fitted:
            known = lessons_at(state.trials, state.decided, last, KEPT)
            self._fitted, self._forest = last, _fit(known)
        forests = [(TRUSTED, experienced())] if state.config.evolution.experience else []
        if self._forest is not None and self._fitted is not None:
            forests.append((min(self._fitted, KEPT), self._forest))
        if not forests:
            return None
        rows = _rows(drawn)
        answers = [one.predict(rows) for _, one in forests]
        weights = [weight for weight, _ in forests]
        told: list[float] = np.average(answers, axis=0, weights=weights).tolist()
        return told


def _fit(known: Sequence[Trial]) -> RandomForestRegressor | None:
    worth = ranks([one.mean for one in known])
    if not any(worth):
        return None
    return forest(_rows([one.graph for one in known]), worth, trees=TREES, leaf=2, share=0.5)


def _rows(graphs: Sequence[Graph]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([_traits(graph) for graph in graphs])
