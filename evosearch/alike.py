"""How many of the layers that were trained begin as a proposal does, nearly.

Two layers whose outputs hardly differ before training are one function to a search whose scores
are noisy: without a limit, constants that do next to nothing take most of its trainings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from primitives.fingerprint import initial_response
from primitives.graph import Graph

Tried = Sequence[tuple[int, Graph]]
"""Births and graphs of the latest candidates that were trained at all."""


class Alike:
    """Counts layers whose outputs correlate by ``least`` or more at the initial v0 and v1.

    It remembers the responses of what was tried, which are pure functions of the graphs.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._rows: dict[int, NDArray[np.float64] | None] = {}
        self._table = np.zeros((0, 0))

    def count(self, graph: Graph, tried: Tried) -> int:
        """Of those that were tried; 0 for a layer that is constant in each channel."""
        mine = initial_response(graph)
        if mine is None or not tried:
            return 0
        self._learn(tried)
        return int((np.abs(self._table @ mine) >= self._least).sum()) if len(self._table) else 0

    def _learn(self, tried: Tried) -> None:
        """Bring the table to what was tried until now."""
        births = [birth for birth, _ in tried]
        if births == [*self._rows]:
            return
        known = self._rows
        self._rows = {
            birth: known[birth] if birth in known else initial_response(graph)
            for birth, graph in tried
        }
        self._table = np.array([row for row in self._rows.values() if row is not None])
