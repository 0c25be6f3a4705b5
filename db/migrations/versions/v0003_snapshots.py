"""Snapshots, so that a long search opens without folding its whole log.

Frozen: it imports nothing of the project.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "snapshots",
        Column("search_id", Text, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("state", LargeBinary, nullable=False),
        PrimaryKeyConstraint("search_id", name="pk_snapshots"),
        CheckConstraint("seq >= 1", name=op.f("ck_snapshots_seq")),
        ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name="fk_snapshots_search_id", ondelete="CASCADE"
        ),
    )
