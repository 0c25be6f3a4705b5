"""The memory of searches: tables, migrations and stores; the only room that knows SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evosearch.ports import Store


def open_store(url: str, patience: float = 0.0) -> Store:
    """The store of that URL: ``memory:``, a path, ``sqlite:///PATH`` or ``postgresql://...``.

    ``patience``: seconds to wait for a database server that is away, each time that it is.

    Raises:
        StoreError: the database cannot be used; the message says why and what to do.
    """
    if url == "memory:":
        from db.memory import MemoryStore

        return MemoryStore()
    from db.sql_store import SqlStore

    return SqlStore(url, patience=patience)
