"""A controller process with simulated workers, for tests and benchmarks: ``DB OWNER SECONDS``.

One of its jobs ends every so many real seconds; a fourth word is the number of workers.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from api.alerts import Alerts
from api.controller_main import catch, end_with_parent
from api.controlling import Controlling
from api.shared_pool import SharedPool
from db.controllers import Controllers
from db.sql_store import SqlStore
from evosearch.records import Message
from tests.simulated_worker import answer
from tests.support.service import OFFERS
from workers.simulated import SimulatedPool


class PacedPool(SimulatedPool):
    """Simulated workers of which one ends every so many real seconds."""

    def __init__(self, workers: int, seconds: float) -> None:
        # Ids carry the search in front; the answer must not depend on it.
        super().__init__(answer, workers)
        self._seconds, self._next = seconds, 0.0

    def poll(self, timeout: float) -> list[Message]:
        """The messages of one job, once it is time for it."""
        wait = self._next - time.monotonic()
        if wait > 0.0:
            time.sleep(min(wait, timeout))
        if time.monotonic() < self._next:
            return []
        # Late by less than a job: the pace is kept; by more: it begins anew.
        self._next = max(self._next, time.monotonic() - self._seconds) + self._seconds
        return super().poll(0.0)


def main() -> None:
    """Run until SIGTERM."""
    url, owner, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    workers = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    ending = threading.Event()
    catch(ending)
    end_with_parent()
    store = SqlStore(url)
    alerts = Alerts(None, None, 3600.0)
    rows = Controllers(store)
    # What a test has offered before counts on.
    rows.register(owner, "here", os.getpid(), "inline", rows.offers() or OFFERS)
    pool = SharedPool(PacedPool(workers, seconds))
    controlling = Controlling(store, pool, owner, alerts=alerts)
    while not ending.is_set():
        controlling.step()
    controlling.close()
    alerts.close()
    store.close()


if __name__ == "__main__":
    main()
