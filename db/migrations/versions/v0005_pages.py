"""Pages in every order by an index: step times and scores in columns of their own, and indexes.

Frozen: it imports nothing of the project.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    Text,
    text,
)

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MEASURED = """
UPDATE candidates SET step_time = (
    SELECT avg(trained.seconds / trained.steps / (
        SELECT avg(baseline.seconds / baseline.steps) FROM evaluations AS baseline
        WHERE baseline.search_id = trained.search_id AND baseline.anchor = trained.anchor
          AND baseline.purpose = 'baseline' AND baseline.steps > 0 AND baseline.seconds > 0
          AND baseline.baseline = (
            SELECT earliest.baseline FROM evaluations AS earliest
            WHERE earliest.search_id = candidates.search_id AND earliest.baseline >= ''
              AND earliest.purpose = 'baseline' AND earliest.steps > 0 AND earliest.seconds > 0
            ORDER BY earliest.seq + 0 LIMIT 1
          )
    ))
    FROM evaluations AS trained
    WHERE trained.search_id = candidates.search_id AND trained.birth = candidates.birth
      AND trained.steps > 0
)
WHERE finished_at IS NOT NULL
"""

_SCORES = {
    "sqlite": """
INSERT INTO scores (search_id, birth, name, score)
SELECT one.search_id, one.birth, each.key, each.value
FROM candidates AS one, json_each(one.scores) AS each WHERE one.scores IS NOT NULL
""",
    "postgresql": """
INSERT INTO scores (search_id, birth, name, score)
SELECT one.search_id, one.birth, each.key, CAST(each.value AS double precision)
FROM candidates AS one, json_each_text(CAST(one.scores AS json)) AS each
WHERE one.scores IS NOT NULL
""",
}

_INDEXES = (
    ("candidates", "nodes", ("live_nodes", "birth"), ""),
    ("candidates", "seconds", ("seconds", "birth"), ""),
    ("candidates", "seeds", ("seeds", "birth"), ""),
    ("candidates", "seeds_score", ("seeds", "mean_score", "birth"), "mean_score IS NOT NULL"),
    ("candidates", "step_time", ("step_time", "birth"), "step_time IS NOT NULL"),
    ("candidates", "audit", ("audit_passed",), "audit_passed IS NOT NULL"),
    ("evaluations", "later", ("seq",), "purpose <> 'search'"),
)


def upgrade() -> None:
    op.add_column("candidates", Column("step_time", Float))
    _add_scores()
    op.execute(_MEASURED)
    for table, name, columns, where in _INDEXES:
        rule = {"sqlite_where": text(where), "postgresql_where": text(where)} if where else {}
        op.create_index(f"ix_{table}_{name}", table, ["search_id", *columns], **rule)


def _add_scores() -> None:
    op.create_table(
        "scores",
        Column("search_id", Text, nullable=False),
        Column("birth", BigInteger, nullable=False),
        Column("name", Text, nullable=False),
        Column("score", Float, nullable=False),
        PrimaryKeyConstraint("search_id", "birth", "name", name="pk_scores"),
        ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name="fk_scores_search_id", ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["search_id", "birth"], ["candidates.search_id", "candidates.birth"],
            name="fk_scores_search_id_birth", ondelete="CASCADE",
        ),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.execute(_SCORES[op.get_bind().dialect.name])
    op.create_index("ix_scores_order", "scores", ["search_id", "name", "score", "birth"])
