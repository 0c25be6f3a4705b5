"""Creates and upgrades schemas; Alembic is imported only when there is something to do.

It must not open databases: it works on the connection that it is given.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from db import schema_service  # noqa: F401  whoever migrates has its tables in the metadata
from db.schema import REVISIONS
from evosearch.errors import StoreError

HEAD = REVISIONS[-1]


def version(connection: Connection) -> str | None:
    """The schema version of the database; None if it is empty.

    Raises:
        StoreError: the database holds tables of something else.
    """
    names = set(inspect(connection).get_table_names())
    if not names:
        return None
    if not {"alembic_version", "searches"} <= names:
        raise StoreError(
            "this database belongs to something else",
            expected="an empty database or one of evosearch",
            got=", ".join(sorted(names)[:5]),
            hint="choose another file or database",
        )
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return str(found)


def prepare(connection: Connection) -> None:
    """Makes a new database ready, and refuses one of another schema version.

    A database without searches is upgraded on the way, for nothing in it can be lost.

    Raises:
        StoreError: the schema is newer or older than this program.
    """
    found = version(connection)
    if found == HEAD:
        return
    refuse_newer(found)
    if found is None or connection.execute(text("SELECT 1 FROM searches LIMIT 1")).scalar() is None:
        migrate(connection)
        return
    raise StoreError(
        "the database has an older schema", expected=f"schema {HEAD}", got=f"schema {found}",
        hint="make a backup, then run: evosearch db upgrade",
    )  # fmt: skip


def refuse_newer(found: str | None) -> None:
    """Refuses a schema that this program does not know."""
    if found is not None and found not in REVISIONS:
        raise StoreError(
            "the database was written by a newer evosearch", expected=f"schema {HEAD} or older",
            got=f"schema {found}", hint="install a newer evosearch; nothing was changed",
        )  # fmt: skip


def migrate(connection: Connection, target: str = HEAD) -> None:
    """Runs the migrations up to ``target`` in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)
