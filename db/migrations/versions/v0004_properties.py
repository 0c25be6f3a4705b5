"""Properties of candidates: what each layer does on a probe, as JSON.

Frozen: it imports nothing of the project.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("candidates", Column("properties", Text))
