"""What a process of a pool sets for itself: how much memory it may take, and who hears SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def limit_memory(more: int) -> None:
    """This process may take so many bytes more; beyond them an allocation fails as an error."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Ray sets a handler for SIGTERM; what SIGTERM does is not Ray's to decide."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
