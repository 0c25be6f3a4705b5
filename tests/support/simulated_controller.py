"""A controller process with simulated workers, for tests that kill it: ``DB OWNER SECONDS``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from api.alerts import Alerts
from api.controller_main import catch, end_with_parent
from api.controlling import Controlling
from api.shared_pool import SharedPool
from db.sql_store import SqlStore
from evosearch.records import Job, Message
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool


def main() -> None:
    """Run until SIGTERM; each job takes so many real seconds."""
    url, owner, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])

    def script(job: Job) -> tuple[float, Sequence[Message]]:
        time.sleep(seconds)
        # Ids carry the search in front; the answer must not depend on it.
        return answer(job)

    ending = threading.Event()
    catch(ending)
    end_with_parent()
    store = SqlStore(url)
    alerts = Alerts(None, None, 3600.0)
    pool = SharedPool(SimulatedPool(script, 2))
    controlling = Controlling(store, pool, owner, alerts=alerts)
    while not ending.is_set():
        controlling.step()
    controlling.close()
    alerts.close()
    store.close()


if __name__ == "__main__":
    main()
