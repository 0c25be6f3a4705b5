"""Writes a random search until it is stopped: ``python -m tests.support.writer URL [BYTES]``.

After each transaction it prints the sequence number that the store acknowledged. With BYTES no
file may grow beyond them, as on a full disk; then the store's error is the last line.
"""

from __future__ import annotations

import resource
import sys

from db.sql_store import SqlStore
from evosearch.errors import StoreError
from tests.support.events import CREATED, RandomSearch


def main(url: str, limit: int | None = None) -> None:
    """Writes until an error comes, or for ever."""
    store = SqlStore(url)
    store.create("run", "", CREATED)
    lease = store.acquire("run", "writer", 3600)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for batch in RandomSearch(11).batches():
        try:
            print(store.append(lease, batch), flush=True)
        except StoreError as err:
            print(f"{type(err).__name__}: {err}", flush=True)
            break


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
