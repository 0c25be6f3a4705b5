"""Alembic's entry: runs migrations on the connection that `db.migrate` hands over.

It must not open connections of its own.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from db.schema import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
