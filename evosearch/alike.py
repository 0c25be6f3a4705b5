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

    It remembers the responses of what was tried, with their graphs, for they follow from nothing
    else: one may serve several searches.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._tried: list[tuple[int, Graph]] = []
        self._rows: dict[int, tuple[Graph, NDArray[np.float64] | None]] = {}
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
        if self._tried == [*tried]:
            return
        self._tried, known = [*tried], self._rows
        self._rows = {}
        for birth, graph in tried:
            of, row = known.get(birth, (None, None))
            self._rows[birth] = graph, row if of == graph else initial_response(graph)
        self._table = np.array([row for _, row in self._rows.values() if row is not None])
