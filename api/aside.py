"""A few threads for what waits for the helper, apart from those that serve the pages.

Looking at a layer may take a minute; forty such requests would fill the shared threads, and pages,
tokens and events would wait with them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from api.problems import Refused

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 4
"""Requests that are worked on or wait for the helper in a thread."""
WAITING = 12
"""Requests that wait for such a thread; more are sent away for a moment."""
RETRY_SECONDS = 5


class Aside:
    """The threads of one web process for what is slow; made where there is an event loop."""

    def __init__(self) -> None:
        self._limiter: CapacityLimiter | None = None
        self._inside = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in one of the threads.

        Raises:
            Refused: so many wait already that this one would wait for long.
        """
        if self._limiter is None:
            self._limiter = CapacityLimiter(THREADS)
        if self._inside >= THREADS + WAITING:
            raise Refused(
                503, "too many layers wait to be looked at; try again in a moment",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )  # fmt: skip
        self._inside += 1
        try:
            return await run_sync(work, limiter=self._limiter)
        finally:
            self._inside -= 1


def aside(route: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The route, run by its service's `Aside`."""

    @wraps(route)
    async def apart(*args: P.args, **words: P.kwargs) -> T:
        threads: Aside = words["service"].aside  # type: ignore[attr-defined]
        return await threads.run(partial(route, *args, **words))

    return apart
