"""Notices searches that nobody runs any more: a controller that died raises no alert itself.

Every web process looks, and whoever controls a search does too; the store decides who tells it.
Nothing here may change a search.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from api.alerts import Alerts
from db.queries_rest import RestQueries
from db.sql_store import SqlStore
from evosearch.errors import EvosearchError

log = logging.getLogger("evosearch.alerts")
LOOK_SECONDS = 15.0


class StallWatch:
    """A thread that looks for silent searches without a lease, as long as it is open."""

    def __init__(self, store: SqlStore, alerts: Alerts, stalled_seconds: float) -> None:
        self._rest, self._alerts, self._stalled = RestQueries(store), alerts, stalled_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End; alerts that wait are sent."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(10)
        self._alerts.close()

    def look(self) -> None:
        """Tell of each search that is silent for too long and held by nobody.

        Raises:
            StoreError: the store cannot be read.
        """
        now = datetime.now(UTC)
        for search_id, seq, at in self._rest.silent(now, self._stalled):
            silent = (now - at).total_seconds()
            text = f"no event for {silent / 60:.0f} minutes, and no controller runs it"
            self._alerts.stalled(search_id, seq, text)

    def _run(self) -> None:
        while not self._closing.wait(min(LOOK_SECONDS, self._stalled / 4)):
            try:
                self.look()
            except EvosearchError as err:
                log.warning("stalled searches cannot be looked for: %s", err)
