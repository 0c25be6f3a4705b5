"""The tables; their CHECK constraints and unique indexes repeat the rules of `db.projection`.

Core tables only: no row class leaves this room. Each change here needs a migration; a test
compares the two. Curves and traces stand apart from what lists read, and running totals
(``tallies``) stand beside the log, so that no list counts rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
    true,
)
from sqlalchemy.types import TypeDecorator

from db.states import (
    CANDIDATE_STATES,
    JOB_STATES,
    ORIGINS,
    PHASES,
    PURPOSES,
    SPLITS,
    STATUSES,
)

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""All schema versions, oldest first; the names of the migrations."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """A moment with its zone: UTC on both sides; SQLite stores it without the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        known: datetime = value
        return known.replace(tzinfo=UTC) if known.tzinfo is None else known.astimezone(UTC)


def _one_of(column: str, words: Iterable[str]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _search_id() -> Column[str]:
    return Column("search_id", Text, ForeignKey("searches.id", ondelete="CASCADE"), nullable=False)


def _candidate_key(column: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["search_id", column], ["candidates.search_id", "candidates.birth"], ondelete="CASCADE"
    )


searches = Table(
    "searches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("preset", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("budget", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("evaluated", BigInteger, nullable=False),
    Column("hypervolume", Float, nullable=False),
    Column("lease_owner", Text),
    Column("lease_epoch", BigInteger, nullable=False),
    Column("lease_expires_at", Float),  # seconds since 1970 by the database's clock
    # When it came into this store: a clone or an import is younger here than its first event.
    Column("added_at", UtcTime),
    # Not before it has all of its events, and no longer once it is being removed (`db.building`).
    Column("ready", Boolean, nullable=False, server_default=true()),
    _one_of("status", STATUSES),
    _one_of("phase", PHASES),
    CheckConstraint("last_seq >= 1 AND evaluated >= 0", name="counts"),
    CheckConstraint("(lease_owner IS NULL) = (lease_expires_at IS NULL)", name="lease"),
)

HERE_SINCE = func.coalesce(searches.c.added_at, searches.c.created_at).label("here_since")
"""When a search came into this store; older schemas did not say it of their own."""

MILESTONES = ("created", "phase_entered", "status_changed", "budget_changed", "reported")
"""Kinds of events that are few and looked up by kind."""

IS_MILESTONE = f"kind IN ({', '.join(repr(kind) for kind in MILESTONES)})"

events = Table(
    "events",
    metadata,
    _search_id(),
    Column("seq", BigInteger, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", Text, nullable=False),
    PrimaryKeyConstraint("search_id", "seq"),
    CheckConstraint("seq >= 1", name="seq"),
    Index(
        "ix_events_milestones",
        "search_id",
        "kind",
        "seq",
        **_where(IS_MILESTONE),
    ),
    # Nothing reads by it any more; it goes with the next change of the schema.
    Index(
        "ix_events_standings",
        "search_id",
        "seq",
        **_where("kind IN ('candidate_evaluated', 'job_finished')"),
    ),
)

candidates = Table(
    "candidates",
    metadata,
    _search_id(),
    Column("birth", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("graph", Text, nullable=False),
    Column("formula", Text),
    Column("live_nodes", Integer, nullable=False),
    Column("digest", Text),
    Column("fingerprint", Text),
    Column("note", Text, nullable=False),
    Column("duplicate_of", BigInteger),
    Column("audit", Boolean, nullable=False),
    Column("on_front", Boolean, nullable=False),
    Column("queued_at", UtcTime, nullable=False),
    Column("rejection_code", Text),
    Column("rejection_detail", Text),
    Column("failure_cause", Text),
    Column("failure_detail", Text),
    Column("audit_passed", Boolean),
    Column("scores", Text),
    Column("mean_score", Float),
    Column("seeds", Integer, nullable=False),
    Column("outcome_seq", BigInteger),
    Column("finished_at", UtcTime),
    Column("worker", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    # Unknown (NULL) in rows that were written before schema 0002.
    Column("batch_independent", Boolean),
    Column("causal_safe", Boolean),
    Column("pointwise", Boolean),
    # Facts as JSON (`primitives.properties`); unknown in rows written before schema 0004.
    Column("properties", Text),
    # Mean time of a step beside the first baseline's (`db.step_time`); follows from evaluations.
    Column("step_time", Float),
    # How often workers were asked for its outcome: one more than were lost with it.
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("search_id", "birth"),
    _candidate_key("duplicate_of"),
    _one_of("state", CANDIDATE_STATES),
    _one_of("origin", ORIGINS),
    CheckConstraint("(state = 'rejected') = (rejection_code IS NOT NULL)", name="rejected"),
    CheckConstraint(
        "(state IN ('failed', 'quarantined')) = (failure_cause IS NOT NULL)", name="failed"
    ),
    CheckConstraint(
        "state <> 'duplicate' OR (duplicate_of IS NOT NULL AND duplicate_of < birth)",
        name="duplicate",
    ),
    CheckConstraint(
        "(state = 'evaluated') = (scores IS NOT NULL)"
        " AND (scores IS NULL) = (mean_score IS NULL)"
        " AND (scores IS NULL) = (outcome_seq IS NULL)",
        name="evaluated",
    ),
    CheckConstraint(
        "(state IN ('proposed', 'queued', 'running', 'lost')) = (finished_at IS NULL)",
        name="finished",
    ),
    CheckConstraint("NOT on_front OR state = 'evaluated'", name="front"),
    # One original for each function, structural and behavioural.
    Index(
        "uq_candidates_digest",
        "search_id",
        "digest",
        unique=True,
        **_where("duplicate_of IS NULL AND digest IS NOT NULL"),
    ),
    Index(
        "uq_candidates_fingerprint",
        "search_id",
        "fingerprint",
        unique=True,
        **_where("duplicate_of IS NULL AND fingerprint IS NOT NULL"),
    ),
    Index("ix_candidates_state", "search_id", "state", "birth"),
    Index(
        "ix_candidates_score",
        "search_id",
        "mean_score",
        "birth",
        **_where("mean_score IS NOT NULL"),
    ),
    Index(
        "ix_candidates_age",
        "search_id",
        "outcome_seq",
        "mean_score",
        **_where("outcome_seq IS NOT NULL"),
    ),
    Index(
        "ix_candidates_front",
        "search_id",
        "birth",
        sqlite_where=text("on_front = 1"),
        postgresql_where=text("on_front"),
    ),
    Index(
        "ix_candidates_duplicates",
        "search_id",
        "duplicate_of",
        **_where("duplicate_of IS NOT NULL"),
    ),
    # One for each order of a page, so that none sorts more than it shows.
    Index("ix_candidates_nodes", "search_id", "live_nodes", "birth"),
    Index("ix_candidates_seconds", "search_id", "seconds", "birth"),
    Index("ix_candidates_seeds", "search_id", "seeds", "birth"),
    Index(
        "ix_candidates_seeds_score",
        "search_id",
        "seeds",
        "mean_score",
        "birth",
        **_where("mean_score IS NOT NULL"),
    ),
    Index(
        "ix_candidates_step_time",
        "search_id",
        "step_time",
        "birth",
        **_where("step_time IS NOT NULL"),
    ),
    Index(
        "ix_candidates_audit",
        "search_id",
        "audit_passed",
        **_where("audit_passed IS NOT NULL"),
    ),
)

scores = Table(
    "scores",
    metadata,
    _search_id(),
    Column("birth", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("score", Float, nullable=False),
    PrimaryKeyConstraint("search_id", "birth", "name"),
    _candidate_key("birth"),
    Index("ix_scores_order", "search_id", "name", "score", "birth"),
    sqlite_with_rowid=False,
)
"""Mean scores of evaluated candidates, one a row, for the order by a score; ``candidates.scores``
says the same."""

parents = Table(
    "parents",
    metadata,
    _search_id(),
    Column("child", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("parent", BigInteger, nullable=False),
    PrimaryKeyConstraint("search_id", "child", "position"),
    _candidate_key("child"),
    _candidate_key("parent"),
    CheckConstraint("parent < child", name="older"),
    Index("ix_parents_parent", "search_id", "parent"),
    sqlite_with_rowid=False,
)

IS_LATER = "purpose <> 'search'"
"""A training that is none of a candidate's first ones."""

evaluations = Table(
    "evaluations",
    metadata,
    _search_id(),
    Column("seq", BigInteger, nullable=False),  # of the event that recorded it
    Column("job_id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("birth", BigInteger),
    Column("baseline", Text),
    Column("anchor", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("learning_rate", Float, nullable=False),
    Column("split", Text, nullable=False),
    Column("score", Float, nullable=False),
    Column("diverged", Boolean, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("groups", Text, nullable=False),
    PrimaryKeyConstraint("search_id", "seq"),
    UniqueConstraint(
        "search_id",
        "job_id",
        "anchor",
        "seed",
        "learning_rate",
        "split",
        name="uq_evaluations_run",
    ),
    _candidate_key("birth"),
    _one_of("purpose", PURPOSES),
    _one_of("split", SPLITS),
    CheckConstraint("(birth IS NULL) <> (baseline IS NULL)", name="subject"),
    Index("ix_evaluations_birth", "search_id", "birth", **_where("birth IS NOT NULL")),
    Index("ix_evaluations_baseline", "search_id", "baseline", **_where("baseline IS NOT NULL")),
    # What gains and noise are read from: few beside the search's own trainings.
    Index("ix_evaluations_later", "search_id", "seq", **_where(IS_LATER)),
)

traces = Table(
    "traces",
    metadata,
    Column("search_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the evaluation
    Column("curve", Text, nullable=False),
    Column("correct", Text, nullable=False),
    PrimaryKeyConstraint("search_id", "seq"),
    ForeignKeyConstraint(
        ["search_id", "seq"], ["evaluations.search_id", "evaluations.seq"], ondelete="CASCADE"
    ),
)

check_runs = Table(
    "check_runs",
    metadata,
    _search_id(),
    Column("birth", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("check_name", Text, nullable=False),
    Column("anchor", Text, nullable=False),
    Column("code", Text),
    Column("detail", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("findings", Text, nullable=False),
    Column("audited", Boolean, nullable=False),
    PrimaryKeyConstraint("search_id", "birth", "position"),
    _candidate_key("birth"),
    _one_of("check_name", ("signal", "quality", "stability", "training")),
)

tallies = Table(
    "tallies",
    metadata,
    _search_id(),
    Column("stage", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("examples", Integer, nullable=False),
    PrimaryKeyConstraint("search_id", "stage", "code"),
    CheckConstraint("examples BETWEEN 0 AND 100", name="examples"),
    sqlite_with_rowid=False,
)
"""Running totals. Stages: ``state`` (candidates by state), ``controller`` (skipped proposals),
``enqueued`` (refused formulas of people), ``worker`` (candidates that a check threw out), and the
name of each check, or ``audit:`` and the name (its runs; code '' for passed)."""

repeats = Table(
    "repeats",
    metadata,
    _search_id(),
    Column("birth", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("search_id", "birth"),
    _candidate_key("birth"),
    sqlite_with_rowid=False,
)

skip_examples = Table(
    "skip_examples",
    metadata,
    _search_id(),
    Column("code", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("birth", BigInteger, nullable=False),
    Column("graph", Text, nullable=False),
    PrimaryKeyConstraint("search_id", "code", "position"),
    CheckConstraint("position BETWEEN 0 AND 99", name="position"),
)

jobs = Table(
    "jobs",
    metadata,
    _search_id(),
    Column("id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("birth", BigInteger),
    Column("baseline", Text),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("runs", Text, nullable=False),
    Column("queued_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("failure_cause", Text),
    Column("failure_detail", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    PrimaryKeyConstraint("search_id", "id"),
    _candidate_key("birth"),
    _one_of("purpose", PURPOSES),
    _one_of("state", JOB_STATES),
    CheckConstraint("(birth IS NULL) <> (baseline IS NULL)", name="subject"),
    CheckConstraint("(state = 'failed') = (failure_cause IS NOT NULL)", name="failed"),
    CheckConstraint(
        "(state IN ('finished', 'failed')) = (finished_at IS NOT NULL)", name="finished"
    ),
    Index("ix_jobs_open", "search_id", "id", **_where("finished_at IS NULL")),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("search_id", Text, ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, nullable=False),  # of the last event in it
    Column("state", LargeBinary, nullable=False),  # JSON text, deflated
    CheckConstraint("seq >= 1", name="seq"),
)
"""A shortcut beside the log: whoever cannot read one folds the events."""

commands = Table(
    "commands",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _search_id(),
    Column("command", Text, nullable=False),
    Column("sent_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    Index("ix_commands_waiting", "search_id", "id", **_where("done_at IS NULL")),
    sqlite_autoincrement=True,
)
