"""Keeps the ledgers of a store's searches, each read up to the last event when it is asked for.

One statement brings a ledger up to date, however much is new; a search that nobody looked at for
long is forgotten with the oldest and read again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from api.charts.ledger import FOLDED, Ledger, Step
from db.queries_log import LogQueries
from evosearch.ports import SearchInfo

KEPT = 64
"""Searches whose ledger is kept: more than a page compares, so that it reads none of them twice."""
ROWS = 2_000_000
"""Candidates that the kept ledgers hold together, but for the one that is used: about 400 MB."""


class Ledgers:
    """The ledgers of a store's searches."""

    def __init__(self, queries: LogQueries) -> None:
        self._queries = queries
        self._known = OrderedDict[tuple[str, datetime], tuple[Ledger, threading.Lock]]()
        self._lock = threading.Lock()

    @contextmanager
    def of(self, info: SearchInfo) -> Iterator[Ledger]:
        """The search's ledger with every event that is in the store, for as long as it is used."""
        with self._lock:
            ledger, lock = self._known.setdefault(info.key, (Ledger(info.config), threading.Lock()))
            self._known.move_to_end(info.key)
            rows = sum(len(one.birth) for one, _ in self._known.values())
            while len(self._known) > 1 and (len(self._known) > KEPT or rows > ROWS):
                oldest, _ = self._known.popitem(last=False)[1]
                rows -= len(oldest.birth)
        with lock:
            if ledger.last < info.last_seq:
                for row in self._queries.after(info.id, ledger.last, FOLDED):
                    ledger.fold(*row)
            yield ledger

    def steps(self, info: SearchInfo) -> list[Step]:
        """Every change of front or hypervolume, in order."""
        with self.of(info) as ledger:
            return list(ledger.front_steps)

    def forget(self, search_id: str) -> None:
        """The search is gone."""
        with self._lock:
            for key in [one for one in self._known if one[0] == search_id]:
                del self._known[key]
