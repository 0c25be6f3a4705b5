"""Studies after a search: what a re-ranking has trained and read, item by item.

Frozen: it imports nothing of the project.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, DateTime, ForeignKeyConstraint, PrimaryKeyConstraint, Text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "studies",
        Column("search_id", Text, nullable=False),
        Column("study", Text, nullable=False),
        Column("item", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("payload", Text, nullable=False),
        ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name="fk_studies_search_id",
            ondelete="CASCADE",
        ),
        PrimaryKeyConstraint("search_id", "study", "item", name="pk_studies"),
    )  # fmt: skip
