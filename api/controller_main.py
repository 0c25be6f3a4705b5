"""A controller process: runs the searches of a store until it is told to end.

It serves no HTTP. A termination lets go of all searches without pausing them, so that the next
controller goes on at once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from types import FrameType

from api.alerts import Alerts
from api.controlling import Controlling
from api.disks import least_free
from api.lease import owner_name
from api.settings import ServiceSettings
from api.shared_pool import SharedPool
from api.wiring import PATIENCE, checkpoint_folder, ray_pool, with_cache
from db.controllers import Controllers
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.ports import Pool

log = logging.getLogger("evosearch.controller")


def run_controller(settings: ServiceSettings, owner: str | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code.

    ``owner``: a name to take leases under; a supervisor gives its restarted controller the same
    one, so that it need not wait for its own old leases.

    Raises:
        EvosearchError: the store or the workers cannot be used.
    """
    name = owner or owner_name()
    ending = threading.Event()
    catch(ending)
    store = SqlStore(settings.db, patience=PATIENCE)
    try:
        pool = open_pool(settings)
        catch(ending)  # Ray puts handlers of its own in place
        try:
            _run(settings, store, SharedPool(pool), name, ending)
        finally:
            pool.close()
    finally:
        store.close()
    return 0


def _run(
    settings: ServiceSettings, store: SqlStore, pool: SharedPool, owner: str,
    ending: threading.Event,
) -> None:  # fmt: skip
    from api.offers import offers

    rows = Controllers(store)
    told = offers() | {"gpus_per_worker": pool.gpu_share}
    rows.register(owner, socket.gethostname(), os.getpid(), settings.pool, told)
    alerts = Alerts(
        settings.alert_webhook, settings.alert_command, 60.0 * settings.stalled_minutes,
        disk_free=lambda: least_free(settings), claim=ServiceWrites(store).claim_stall,
    )  # fmt: skip
    controlling = Controlling(
        store, pool, owner, alerts=alerts, max_searches=settings.max_searches,
        gpus_per_worker=pool.gpu_share,
    )  # fmt: skip
    log.info("controller ready, %d workers", len(pool.workers()), extra={"owner": owner})
    try:
        while not ending.is_set():
            controlling.step()
    finally:
        controlling.close()
        alerts.close()
        rows.leave(owner)
        log.info("controller ends", extra={"owner": owner})


def open_pool(settings: ServiceSettings) -> Pool:
    """The pool of the settings.

    Raises:
        WorkerError: the workers do not start.
    """
    if settings.pool == "inline":
        from workers.evaluate import Context
        from workers.inline import InlinePool

        return with_cache(InlinePool(Context(checkpoints=checkpoint_folder(settings))))
    return with_cache(ray_pool(settings))


def catch(ending: threading.Event) -> None:
    """SIGTERM and SIGINT ask for the end; a second one quits at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if ending.is_set():
            os._exit(128 + number)
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def end_with_parent() -> None:
    """Ends this process when its standard input closes: whoever started it is gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
