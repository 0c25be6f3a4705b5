"""Pages in every order by an index; candidates that run, or whose worker was lost, say so.

Frozen: it imports nothing of the project.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Text,
    text,
    true,
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


_LOST = """
SELECT search_id, seq, payload FROM events WHERE kind = 'job_lost' ORDER BY search_id, seq
"""

_RUNNING = """
UPDATE candidates SET state = 'running'
WHERE state = 'queued' AND EXISTS (
    SELECT 1 FROM evaluations AS one WHERE one.search_id = candidates.search_id
      AND one.birth = candidates.birth AND one.purpose = 'search'
)
"""

_AGAIN = """
UPDATE candidates SET attempts = :attempts,
    state = CASE WHEN state IN ('queued', 'running') AND NOT EXISTS (
        SELECT 1 FROM evaluations AS one WHERE one.search_id = candidates.search_id
          AND one.birth = candidates.birth AND one.seq > :seq
    ) THEN 'lost' ELSE state END
WHERE search_id = :search AND birth = :birth
"""

_RAN = "SELECT DISTINCT search_id FROM evaluations WHERE purpose = 'search'"

_TALLY = """
INSERT INTO tallies (search_id, stage, code, count, seconds, steps, examples)
VALUES (:search, 'state', :state, 0, 0, 0, 0)
"""

_COUNT = """
UPDATE tallies SET count = (
    SELECT count(*) FROM candidates AS one
    WHERE one.search_id = tallies.search_id AND one.state = tallies.code
)
WHERE stage = 'state' AND code IN ('queued', 'running', 'lost')
"""


def upgrade() -> None:
    op.add_column("candidates", Column("step_time", Float))
    op.add_column(
        "candidates", Column("attempts", Integer, nullable=False, server_default=text("1"))
    )
    op.add_column("searches", Column("added_at", DateTime(timezone=True)))
    op.execute("UPDATE searches SET added_at = created_at")
    op.add_column("searches", Column("ready", Boolean, nullable=False, server_default=true()))
    _tell_states(op.get_bind())
    _add_scores()
    op.execute(_MEASURED)
    for table, name, columns, where in _INDEXES:
        rule: Any = {"sqlite_where": text(where), "postgresql_where": text(where)} if where else {}
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


def _tell_states(connection: Connection) -> None:
    """What the events said all along: which candidates run, and which lost a worker."""
    connection.execute(text(_RUNNING))
    passed = Counter((row.search_id, "running") for row in connection.execute(text(_RAN)))
    for search_id, seq, payload in connection.execute(text(_LOST)).all():
        told = json.loads(payload)
        number = told["id"].removeprefix("c")
        if number != told["id"] and number.isdecimal():
            row = {"search": search_id, "birth": int(number), "seq": seq}
            connection.execute(text(_AGAIN), row | {"attempts": told["attempt"] + 1})
            passed[search_id, "lost"] += 1
    for search_id, state in passed:
        connection.execute(text(_TALLY), {"search": search_id, "state": state})
    connection.execute(text(_COUNT))
