"""The service: tokens, retried requests, notes, controllers, and properties of candidates.

Frozen: it imports nothing of the project.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Text,
    text,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = DateTime(timezone=True)
STANDINGS = text("kind IN ('candidate_evaluated', 'job_finished')")


def upgrade() -> None:
    for name in ("batch_independent", "causal_safe", "pointwise"):
        op.add_column("candidates", Column(name, Boolean))
    op.create_index(
        "ix_events_standings", "events", ["search_id", "seq"],
        sqlite_where=STANDINGS, postgresql_where=STANDINGS,
    )  # fmt: skip
    op.create_table(
        "tokens",
        Column("id", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("scope", Text, nullable=False),
        Column("hash", Text, nullable=False),
        Column("created_at", TIME, nullable=False),
        Column("revoked_at", TIME),
        PrimaryKeyConstraint("id", name="pk_tokens"),
        CheckConstraint("scope IN ('read', 'write')", name=op.f("ck_tokens_scope")),
    )
    op.create_table(
        "idempotency",
        Column("caller", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("request", Text, nullable=False),
        Column("search_id", Text, nullable=False),
        Column("created_at", TIME, nullable=False),
        PrimaryKeyConstraint("caller", "key", name="pk_idempotency"),
        _of_search("idempotency"),
    )
    op.create_table(
        "notes",
        Column("search_id", Text, nullable=False),
        Column("tags", Text, nullable=False),
        Column("text", Text, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("starred", Boolean, nullable=False),
        Column("archived", Boolean, nullable=False),
        Column("pinned", Boolean, nullable=False),
        PrimaryKeyConstraint("search_id", name="pk_notes"),
        CheckConstraint("priority BETWEEN 1 AND 100", name=op.f("ck_notes_priority")),
        _of_search("notes"),
    )
    op.create_table(
        "controllers",
        Column("owner", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", BigInteger, nullable=False),
        Column("pool", Text, nullable=False),
        Column("started_at", TIME, nullable=False),
        Column("seen_at", Float, nullable=False),
        Column("capacity", Integer, nullable=False),
        Column("workers", Text, nullable=False),
        Column("searches", Text, nullable=False),
        Column("offers", Text, nullable=False),
        PrimaryKeyConstraint("owner", name="pk_controllers"),
    )


def _of_search(table: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["search_id"], ["searches.id"], name=f"fk_{table}_search_id", ondelete="CASCADE"
    )
