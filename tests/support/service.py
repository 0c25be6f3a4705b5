"""A real service on a loopback port, over a store that was filled with a made-up search."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from api.app import make_app
from api.settings import ServiceSettings, load_settings
from api.web import bind
from db.controllers import Controllers
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from tests.support.events import CREATED, RandomSearch

SEARCH = "k3f9a1c2"
OFFERS = {
    "anchors": ["resnet", "mobilenetv2", "efficientnet"], "datasets": ["polarity-digits"],
    "presets": ["quickstart"], "versions": {"python": "3", "torch": "2"},
}  # fmt: skip


def fill(store: SqlStore, batches: int = 120, seed: int = 5, name: str = SEARCH) -> RandomSearch:
    """Adds a search with so many batches of events, and a controller that was here once."""
    ServiceWrites(store).create(name, "made up", CREATED, Notes())
    lease = store.acquire(name, "filler", 60)
    search = RandomSearch(seed)
    for batch in itertools.islice(search.batches(), batches):
        store.append(lease, batch)
    store.release(lease)
    Controllers(store).register("filler", "here", 1, "inline", OFFERS)
    Controllers(store).leave("filler")
    return search


class _Server(uvicorn.Server):
    """Leaves no connection open, for this process goes on."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:  # it waits for a reader who is gone
                transport.abort()
        await asyncio.sleep(0)  # where aborted ones are closed


class Running:
    """A service that runs in a thread of this process."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.socket = bind(settings)
        self.port: int = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.app: Any = make_app(settings)
        self.server = _Server(uvicorn.Config(
            self.app, log_config=None, lifespan="on", ws="none", proxy_headers=False,
            server_header=False, timeout_graceful_shutdown=2,
        ))  # fmt: skip
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.thread.start()
        until = time.monotonic() + 60
        while not self.server.started:
            if time.monotonic() > until or not self.thread.is_alive():
                raise RuntimeError("the service did not start")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, streams first."""
        self.app.service.feed.closing = True
        self.server.should_exit = True
        self.thread.join(30)
        self.socket.close()
        self.app.service.close()


@contextmanager
def running(folder: Path, **flags: Any) -> Iterator[Running]:
    """A service over the database in that folder."""
    options = {"db": f"sqlite:///{folder}/store.db", "port": 0, "poll_seconds": 0.05}
    service = Running(load_settings(options | flags))
    service.start()
    try:
        yield service
    finally:
        service.stop()
