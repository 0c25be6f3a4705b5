"""How many of the layers that were trained begin as a proposal does, nearly.

Two layers whose outputs hardly differ before training are one function to a search whose scores
are noisy: without a limit, constants that do next to nothing take most of its trainings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from primitives.fingerprint import initial_response
from primitives.graph import Graph

Tried = Sequence[tuple[int, Graph]]
"""Births and graphs of the latest candidates that were trained at all."""


class Alike:
    """Counts layers whose outputs correlate by ``least`` or more at the initial v0 and v1.

    It remembers the responses of what was tried, for they follow from the graphs alone: one may
    serve several searches, though it is quick only as long as each call goes on where the last
    one was.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._tried: deque[tuple[int, Graph]] = deque()
        self._rows = _Rows()

    def count(self, mine: NDArray[np.float64] | None, tried: Tried) -> int:
        """Of those that were tried.

        ``mine``: the `initial_response`; 0 for None, a layer that is constant in each channel.
        """
        if mine is None or not tried:
            return 0
        self._learn(tried)
        rows = self._rows.table()
        return int((np.abs(rows @ mine) >= self._least).sum()) if len(rows) else 0

    def _learn(self, tried: Tried) -> None:
        """Bring the rows to what was tried until now: the old ones fall off in front."""
        known = self._tried
        fresh: list[tuple[int, Graph]] = []
        for one in reversed(tried):
            if known and one is known[-1]:
                break
            fresh.append(one)
        while len(known) > len(tried) - len(fresh):
            known.popleft()
            self._rows.drop()
        if len(known) + len(fresh) != len(tried) or (known and known[0] is not tried[0]):
            # another search's
            known.clear()
            self._rows = _Rows()
            fresh = [*reversed(tried)]
        for one in reversed(fresh):
            known.append(one)
            self._rows.add(initial_response(one[1]))


class _Rows:
    """Vectors, or None, that come in at one end and go out at the other; read as one array."""

    def __init__(self) -> None:
        self._held: deque[bool] = deque()
        self._room = np.zeros((0, 0))
        self._begin = self._end = 0

    def table(self) -> NDArray[np.float64]:
        """Those that are not None, oldest first, shape (vectors, length)."""
        return self._room[self._begin : self._end]

    def drop(self) -> None:
        """Forget the oldest."""
        self._begin += self._held.popleft()

    def add(self, row: NDArray[np.float64] | None) -> None:
        self._held.append(row is not None)
        if row is None:
            return
        if self._end == len(self._room):
            kept = self.table()
            self._room = np.zeros((max(64, 2 * len(kept)), len(row)))
            self._room[: len(kept)] = kept.reshape(len(kept), len(row))
            self._begin, self._end = 0, len(kept)
        self._room[self._end] = row
        self._end += 1
