"""Ctrl-C and termination as a request that the search's loop reads when it is ready.

The first signal asks for a clean pause; the second one quits at once, for then the person has
waited long enough. What was stored stays stored either way.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, Self

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """A context in which the signals only set ``caught``; must be entered in the main thread."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in CAUGHT}
        self.install()
        return self

    def install(self) -> None:
        """Catch the signals again, after something that has put handlers of its own in place."""
        for number in CAUGHT:
            signal.signal(number, self._handle)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that ended by the signal; 0 without one."""
        return 0 if self.caught is None else 128 + self.caught

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None:
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the live view hid the cursor
            os._exit(128 + number)
        self.caught = number
