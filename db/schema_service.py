"""Tables beside the log: tokens, retried requests, notes, stars, controllers, studies of a search.

Nothing of a search depends on them: without them every search would read and run the same. They
stand in the same metadata as `db.schema`, so that one migration history covers both.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from db.schema import UtcTime, metadata

SCOPES = ("read", "write")

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
    CheckConstraint("scope IN ('read', 'write')", name="scope"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("request", Text, nullable=False),  # digest of what was asked for
    Column("search_id", Text, ForeignKey("searches.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("caller", "key"),
)

notes = Table(
    "notes",
    metadata,
    Column("search_id", Text, ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True),
    Column("tags", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("starred", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("pinned", Boolean, nullable=False),
    CheckConstraint("priority BETWEEN 1 AND 100", name="priority"),
)

controllers = Table(
    "controllers",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("pool", Text, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("seen_at", Float, nullable=False),  # seconds since 1970 by the database's clock
    Column("capacity", Integer, nullable=False),
    Column("workers", Text, nullable=False),
    Column("searches", Text, nullable=False),
    Column("offers", Text, nullable=False),
)

studies = Table(
    "studies",
    metadata,
    Column("search_id", Text, ForeignKey("searches.id", ondelete="CASCADE"), nullable=False),
    Column("study", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("payload", Text, nullable=False),
    PrimaryKeyConstraint("search_id", "study", "item"),
)

stars = Table(
    "stars",
    metadata,
    Column("search_id", Text, nullable=False),
    Column("birth", BigInteger, nullable=False),
    Column("at", UtcTime, nullable=False),
    ForeignKeyConstraint(
        ["search_id", "birth"], ["candidates.search_id", "candidates.birth"], ondelete="CASCADE"
    ),
    PrimaryKeyConstraint("search_id", "birth"),
)
