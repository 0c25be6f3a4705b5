"""Stars that readers give to candidates.

Frozen: it imports nothing of the project.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    Text,
)

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stars",
        Column("search_id", Text, nullable=False),
        Column("birth", BigInteger, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
        ForeignKeyConstraint(
            ["search_id", "birth"], ["candidates.search_id", "candidates.birth"],
            name="fk_stars_search_id_birth", ondelete="CASCADE",
        ),
        PrimaryKeyConstraint("search_id", "birth", name="pk_stars"),
    )  # fmt: skip
