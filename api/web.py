"""The web process: uvicorn around the app, on a socket that whoever started it has bound."""

from __future__ import annotations

import socket
from types import FrameType
from typing import Any

import uvicorn

from api.settings import ServiceSettings
from evosearch.errors import ConfigError

CLOSING_SECONDS = 3
"""How long open requests may take once the process is told to end."""


def bind(settings: ServiceSettings) -> socket.socket:
    """A listening socket at the settings' address.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    made = None
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, number, _, address = found[0]
        made = socket.socket(family, kind, number)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(512)
    except OSError as err:
        if made is not None:
            made.close()
        raise ConfigError(
            "cannot listen there", got=f"{settings.host}:{settings.port}: {err.strerror}",
            hint="another program may have this port; choose one with --port",
        ) from err  # fmt: skip
    made.set_inheritable(True)
    return made


def address_of(settings: ServiceSettings, bound: socket.socket) -> str:
    """The address as people type it."""
    port = bound.getsockname()[1]
    host = settings.host
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}{settings.root_path}/"


def serve_web(settings: ServiceSettings, bound: socket.socket) -> int:
    """Serve until SIGTERM or SIGINT.

    Raises:
        EvosearchError: the store cannot be used.
    """
    from api.app import make_app  # here, for whoever only binds the socket does without

    app: Any = make_app(settings)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=CLOSING_SECONDS, timeout_keep_alive=30, lifespan="on", ws="none",
        h11_max_incomplete_event_size=32_768,
    )  # fmt: skip
    server = _Server(config)
    server.feed = app.service.feed
    server.run(sockets=[bound])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Ends event streams first: they would keep the process waiting."""

    feed: Any = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.feed.closing = True
        super().handle_exit(sig, frame)
