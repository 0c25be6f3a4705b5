"""Keeps a database in shape: vacuum and online backup.

It must not touch what searches mean; that is for `db.check` and `db.transfer`.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy import text

from db.engine import wrapped
from db.sql_store import SqlStore
from evosearch.errors import StoreError


def vacuum(store: SqlStore) -> None:
    """Gives free room back and renews the statistics of the query planner."""
    with wrapped(store.engine.url), store.engine.connect() as plain:
        if store.engine.dialect.name == "sqlite":
            raw = plain.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("VACUUM")
            raw.execute("ANALYZE")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            plain.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def backup(store: SqlStore, target: Path) -> None:
    """Copies a SQLite store into a new file while searches go on writing.

    Raises:
        StoreError: the file exists, or the store is none of SQLite.
    """
    if store.engine.dialect.name != "sqlite":
        raise StoreError(
            "only SQLite stores are copied to a file", got=store.url,
            hint="use pg_dump, or: evosearch db export",
        )  # fmt: skip
    if target.exists():
        raise StoreError("this file exists", expected="a new file", got=str(target))
    if not target.parent.is_dir():
        raise StoreError("no folder for the backup", got=str(target.parent))
    partial = target.with_name(target.name + ".partial")
    try:
        with wrapped(store.engine.url), store.engine.connect() as plain:
            raw = plain.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            copy = sqlite3.connect(partial)
            try:
                raw.backup(copy)  # in one step: it sees one moment, and no writer waits
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, complete in itself
            finally:
                copy.close()
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.rename(target)
    except OSError as err:
        raise StoreError("the backup cannot be written", got=str(err), where=str(target)) from err
    finally:
        partial.unlink(missing_ok=True)
