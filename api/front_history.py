"""How the front and the hypervolume came to be: folded from the few events that move them.

Kept in memory as it grows, for the log only grows; a search that is gone is forgotten with the
oldest of them.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from db.queries_rest import RestQueries

CHUNK = 2000
KEPT = 64
"""Searches whose history is kept."""


@dataclass(frozen=True, slots=True)
class Step:
    """A change: after ``evaluated`` candidates, births in and out, and the hypervolume."""

    seq: int
    at: datetime
    evaluated: int
    hypervolume: float
    front_in: tuple[int, ...]
    front_out: tuple[int, ...]


@dataclass(slots=True)
class _History:
    last: int = 0
    evaluated: int = 0
    hypervolume: float = 0.0
    steps: list[Step] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class FrontHistory:
    """The histories of a store's searches."""

    def __init__(self, queries: RestQueries) -> None:
        self._queries = queries
        self._known: OrderedDict[str, _History] = OrderedDict()
        self._lock = threading.Lock()

    def steps(self, search_id: str) -> list[Step]:
        """Every change of front or hypervolume, in order."""
        with self._lock:
            history = self._known.setdefault(search_id, _History())
            self._known.move_to_end(search_id)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        with history.lock:
            while True:
                rows = self._queries.standings(search_id, history.last, CHUNK)
                for seq, at, payload in rows:
                    _add(history, seq, at, payload)
                if len(rows) < CHUNK:
                    return list(history.steps)

    def forget(self, search_id: str) -> None:
        """The search is gone."""
        with self._lock:
            self._known.pop(search_id, None)


def _add(history: _History, seq: int, at: datetime, payload: str) -> None:
    event = json.loads(payload)
    history.last = seq
    history.evaluated += event["kind"] == "candidate_evaluated"
    standing = event.get("standing")
    if standing is None:
        return
    moved = standing["front_in"] or standing["front_out"]
    if moved or standing["hypervolume"] != history.hypervolume:
        history.hypervolume = standing["hypervolume"]
        history.steps.append(
            Step(seq, at, history.evaluated, history.hypervolume,
                 tuple(standing["front_in"]), tuple(standing["front_out"]))
        )  # fmt: skip
