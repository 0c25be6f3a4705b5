"""Keeps the web process and the controller process running: starts them again when they die.

It holds the listening socket, so that a web process which dies loses no connection attempt. It
decides nothing else; both processes share only the store. When the supervisor itself dies, both
end by themselves.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import FrameType

log = logging.getLogger("evosearch.supervisor")
WAITS = (0.2, 1.0, 3.0, 10.0, 30.0)
"""Seconds before a process that died is started again; more each time it dies young."""
YOUNG_SECONDS = 30.0
END_SECONDS = 30.0


@dataclass
class Child:
    """A process that is kept running. ``pass_fds``: descriptors that it inherits.

    ``deaths``: in a row, each soon after its start; ``ends``: all of them.
    """

    name: str
    command: list[str]
    env: dict[str, str]
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    ends: int = 0
    next_start: float = 0.0
    stop: bool = field(default=False)

    def start(self) -> None:
        """Start it; its standard input stays open as long as this process lives."""
        self.process = subprocess.Popen(
            self.command, env=self.env, stdin=subprocess.PIPE, pass_fds=self.pass_fds,
            start_new_session=True,  # Ctrl-C at the terminal reaches the supervisor alone
        )  # fmt: skip
        self.started = time.monotonic()

    def look(self) -> None:
        """Notice a death, and start anew when it is time."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.next_start:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        self.ends += 1
        self.deaths = 1 if now - self.started > YOUNG_SECONDS else self.deaths + 1
        wait = WAITS[min(self.deaths, len(WAITS)) - 1]
        log.warning("the %s process ended with %d, again in %g s", self.name, code, wait)
        self._close_input()
        self.process, self.next_start = None, now + wait

    def end(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, until: float) -> None:
        """Wait for its end; kill it after that."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("the %s process does not end and is killed", self.name)
            self.process.kill()
            self.process.wait()
        self._close_input()

    def _close_input(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


class Supervisor:
    """The children, until a signal or `ending`."""

    def __init__(self, children: list[Child]) -> None:
        self.children = children
        self.ending = threading.Event()
        self.caught: int | None = None

    def catch(self) -> None:
        """SIGTERM and SIGINT end all children; a second one kills them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.ending.is_set():
            for child in self.children:
                if child.process is not None:
                    child.process.kill()
            os._exit(128 + number)
        self.caught = number
        self.ending.set()

    def start(self) -> None:
        """Start all children."""
        for child in self.children:
            child.start()

    def watch(self, seconds: float = 0.2) -> None:
        """Look after the children once, then wait a moment."""
        for child in self.children:
            child.look()
        self.ending.wait(seconds)

    def close(self) -> None:
        """End all children, the last one first."""
        for child in reversed(self.children):
            child.end()
        until = time.monotonic() + END_SECONDS
        for child in reversed(self.children):
            child.wait(until)


def python_command(*arguments: str) -> list[str]:
    """This program again, without the folder at hand on its path."""
    return [sys.executable, "-P", "-m", "api.cli", *arguments]
