"""What the routes share: settings, the store and its read models, the feed, the helper.

One object a web process, made by `api.app`; it must import neither torch nor ray.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from fastapi import Request

from api.access import Access
from api.alerts import Alerts
from api.aside import Aside
from api.charts.charts import Charts
from api.feed import Feed
from api.helper import Helper
from api.metrics import Metrics
from api.settings import ServiceSettings
from api.stalls import StallWatch
from db.candidate_pages import CandidatePages
from db.controllers import Controllers
from db.queries import Queries
from db.queries_rest import RestQueries
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from db.tokens import Tokens
from evosearch.errors import EvosearchError

OFFERS_SECONDS = 10.0
WARMED = 4
"""Searches whose log is read when a web process starts."""
log = logging.getLogger("evosearch.service")


class Service:
    """The parts of a web process."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.store = SqlStore(settings.db)
        self.queries = Queries(self.store)
        self.rest = RestQueries(self.store)
        self.pages = CandidatePages(self.store)
        self.writes = ServiceWrites(self.store)
        self.controllers = Controllers(self.store)
        self.tokens = Tokens(self.store)
        self.charts = Charts(self.store, self.gpus_per_worker)
        self.ledgers = self.charts.ledgers
        self.access = Access(
            self.tokens, needed=settings.needs_token, static=settings.static_token()
        )
        self.feed = Feed(self.rest, settings.poll_seconds)
        self.helper = Helper(settings.helper_seconds)
        self.aside = Aside()
        self.metrics = Metrics()
        stalled = 60.0 * settings.stalled_minutes
        alerts = Alerts(settings.alert_webhook, settings.alert_command, stalled,
                        claim=self.writes.claim_stall)  # fmt: skip
        self.stalls = StallWatch(self.store, alerts, stalled)
        self._offers: tuple[float, dict[str, Any]] | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._warming: threading.Thread | None = None

    def warm(self) -> None:
        """Reads the logs of the newest searches aside, so that their first reader need not wait."""
        self._warming = threading.Thread(target=self._warm, name="warm", daemon=True)
        self._warming.start()

    def _warm(self) -> None:
        try:
            for info in self.store.searches()[:WARMED]:
                if self._closing.is_set():
                    return
                with self.ledgers.of(info):
                    pass
        except EvosearchError as err:  # whoever asks next is told; here nobody waits
            log.warning("the newest searches cannot be read ahead: %s", err)

    def offers(self) -> dict[str, Any]:
        """What can be trained: told by the last controller, else by the helper.

        Raises:
            WorkerError: no controller ever ran, and the helper does not answer.
        """
        with self._lock:
            if self._offers is None or time.monotonic() - self._offers[0] > OFFERS_SECONDS:
                found = self.controllers.offers() or self.helper.ask("offers")
                self._offers = (time.monotonic(), found)
            return self._offers[1]

    def gpus_per_worker(self) -> float:
        """What GPU-hours are counted with: what the last controller's workers hold."""
        told = self.controllers.offers() or {}
        return float(told.get("gpus_per_worker", self.settings.gpus_per_worker or 0.0))

    def disk_free(self) -> int | None:
        """Free bytes where the SQLite file lies; None for a server's database."""
        import shutil

        from api.wiring import sqlite_path

        path = sqlite_path(self.settings.db)
        return None if path is None else shutil.disk_usage(Path(path).absolute().parent).free

    def close(self) -> None:
        """Lets go of everything; idempotent."""
        self._closing.set()
        self.stalls.close()
        if self._warming is not None:
            self._warming.join(10)
        self.helper.close()
        self.store.close()


def service_of(request: Request) -> Service:
    """The app's service, for the routes."""
    found: Service = request.app.state.service
    return found
