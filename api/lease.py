"""Keeps a search's lease while this process runs it: waits for it, renews it, gives it back.

The renewals have a clock thread of their own, so that a long training does not lose the lease.
Nothing here may write anything but the lease.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

from evosearch.errors import EvosearchError, LeaseHeld, LeaseLost, NotFound, StoreError
from evosearch.ports import Lease, Store

LEASE_SECONDS = 15.0
RENEW_SECONDS = 4.0
GRACE_SECONDS = 2.0
"""Waited beyond a lease's length before its holder counts as alive."""


def owner_name() -> str:
    """Who holds a lease: host, process, and a random word, for process ids come again."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def acquire_patiently(
    store: Store,
    search_id: str,
    owner: str,
    waiting: Callable[[float], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """The lease, if need be after the one of a killed controller has expired.

    ``waiting`` hears about every second how many seconds are left at most.

    Raises:
        LeaseHeld: the lease is still held after its whole length: its owner is alive.
    """
    deadline = None
    while True:
        try:
            return store.acquire(search_id, owner, LEASE_SECONDS)
        except LeaseHeld as err:
            now = clock()
            if deadline is None:
                deadline = now + LEASE_SECONDS + GRACE_SECONDS
            if now >= deadline:
                raise LeaseHeld(
                    f"search {search_id} is run by another process, which is alive",
                    got=err.got,
                    hint=f"`evosearch search pause {search_id}` stops it; --new starts another",
                ) from err
            waiting(deadline - now)
        sleep(1.0)


class Keeper:
    """A context in which a thread renews the lease; on leaving it the lease is given back."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        seconds: float = LEASE_SECONDS,
        every: float = RENEW_SECONDS,
    ) -> None:
        self._store, self._lease = store, lease
        self._seconds, self._every = seconds, every
        self._lost: EvosearchError | None = None
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave.set()
        self._thread.join()
        if self._lost is None:
            self._store.release(self._lease)

    def check(self) -> None:
        """Do nothing while the lease is ours.

        Raises:
            EvosearchError: it is lost, the search is gone, or it could not be renewed in time.
        """
        if self._lost is not None:
            raise self._lost

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._leave.wait(self._every):
            try:
                self._store.renew(self._lease, self._seconds)
                renewed = time.monotonic()
            except (LeaseLost, NotFound) as err:  # another one runs it, or it was deleted
                self._lost = err
                return
            except StoreError as err:
                # A locked database is no reason to give up while the lease still holds.
                if time.monotonic() - renewed > self._seconds:
                    self._lost = err
                    return
