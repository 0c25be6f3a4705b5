"""Writes the net change of a batch of events: a fixed number of statements, whatever its size.

Each change of a stored row compares the state that was read before it sets the new one. It must
not decide what changes; that is for `db.projection`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Select, Table, and_, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Update

from db import schema
from db.projection import Projection
from db.rows import JOB_FIELDS, OUTCOME_FIELDS, KnownCandidate, KnownJob, Row
from db.states import EXAMPLES_KEPT
from db.step_time import measure, measure_all
from evosearch.errors import StateConflict

_CHUNK = 500  # SQLite bounds the number of variables of a statement


def load_candidates(
    connection: Connection, search_id: str, births: Iterable[int]
) -> dict[int, KnownCandidate]:
    """What the rules must know of these candidates, as stored."""
    found: dict[int, KnownCandidate] = {}
    for part in _chunks(sorted(births)):
        rows = connection.execute(_CANDIDATES, {"b_search": search_id, "b_keys": part})
        found |= {row.birth: KnownCandidate(*row[1:]) for row in rows}
    return found


def load_jobs(connection: Connection, search_id: str, ids: Iterable[str]) -> dict[str, KnownJob]:
    """What the rules must know of these jobs, as stored."""
    found: dict[str, KnownJob] = {}
    for part in _chunks(sorted(ids)):
        for row in connection.execute(_JOBS, {"b_search": search_id, "b_keys": part}):
            subject = row.baseline if row.birth is None else f"c{row.birth}"
            found[row.id] = KnownJob(row.state, row.purpose, subject, row.attempt)
    return found


def write(connection: Connection, search_id: str, change: Projection) -> None:
    """Writes everything but the row of the search itself.

    Raises:
        StateConflict: a stored row is not in the state that it was read in.
    """
    into = _Writer(connection, search_id)
    into.insert(schema.events, change.events)
    into.insert(schema.candidates, list(change.candidates.values()))
    into.insert(schema.parents, change.parents)
    into.insert(schema.jobs, list(change.jobs.values()))
    into.insert(schema.evaluations, change.evaluations)
    into.insert(schema.traces, change.traces)
    into.insert(schema.check_runs, change.check_runs)
    into.change(_MOVE, "birth", change.moves)
    into.change(_OUTCOME, "birth", change.outcomes)
    into.change(_SCORES, "birth", change.scores)
    flips = {birth: {"was": not now, "on_front": now} for birth, now in change.flips.items()}
    into.change(_FLIP, "birth", flips)
    into.change(_JOB, "job", change.job_changes)
    into.tally(change)
    repeats = [{"birth": birth, "count": n} for birth, n in change.repeats.items()]
    into.add(schema.repeats, ("birth",), ("count",), repeats)
    into.scores(change)
    if change.moves_pace:
        measure_all(connection, search_id)
    else:
        measure(connection, search_id, change.timed)


class _Writer:
    """Statements against one search in one transaction."""

    def __init__(self, connection: Connection, search_id: str) -> None:
        self._connection, self._id = connection, search_id
        self._dialect = connection.dialect.name

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            self._connection.execute(
                _insert(table), [{"search_id": self._id, **row} for row in rows]
            )

    def change(self, statement: Update, key: str, rows: Mapping[Any, Row]) -> None:
        if not rows:
            return
        bound = [
            {"b_search": self._id, "b_key": name, **{f"b_{k}": v for k, v in row.items()}}
            for name, row in rows.items()
        ]
        changed = self._connection.execute(statement, bound).rowcount
        if changed != len(rows):
            raise StateConflict(
                f"{key} in another state than it was read in", expected=f"{len(rows)} changes",
                got=str(changed), hint="nothing was written",
            )  # fmt: skip

    def add(
        self, table: Table, keys: Sequence[str], sums: Sequence[str], rows: Sequence[Row]
    ) -> None:
        """Adds the sums to the rows of these keys; rows that are missing begin at zero."""
        if rows:
            statement = _adding(self._dialect, table, tuple(keys), tuple(sums))
            self._connection.execute(statement, [{"search_id": self._id, **row} for row in rows])

    def scores(self, change: Projection) -> None:
        """One row for each score of the candidates that were scored, new ones and later ones."""
        scored = {**change.candidates, **change.outcomes, **change.scores}
        rows = [
            {"search_id": self._id, "birth": birth, "name": name, "score": score}
            for birth, row in scored.items() if row.get("scores")
            for name, score in json.loads(row["scores"]).items()
        ]  # fmt: skip
        if rows:
            self._connection.execute(_score(self._dialect), rows)

    def tally(self, change: Projection) -> None:
        kept = self._keep_examples(change.examples)
        rows = [
            {"stage": stage, "code": code, **row,
             "examples": kept.get(code, 0) if stage == "controller" else 0}
            for (stage, code), row in change.tallies.items()
        ]  # fmt: skip
        self.add(schema.tallies, ("stage", "code"), ("count", "seconds", "steps", "examples"), rows)

    def _keep_examples(self, examples: Sequence[Row]) -> dict[str, int]:
        """Stores examples as long as there is room; returns how many by code."""
        if not examples:
            return {}
        table = schema.tallies
        counts = self._connection.execute(
            select(table.c.code, table.c.examples).where(
                table.c.search_id == self._id, table.c.stage == "controller"
            )
        )
        stored = {row.code: row.examples for row in counts}
        kept: dict[str, int] = {}
        rows: list[Row] = []
        for example in examples:
            code = example["code"]
            position = stored.get(code, 0) + kept.get(code, 0)
            if position < EXAMPLES_KEPT:
                rows.append(example | {"position": position})
                kept[code] = kept.get(code, 0) + 1
        self.insert(schema.skip_examples, rows)
        return kept


# SQLAlchemy takes far longer to build a statement than to run it, so each is built once.


@cache
def _insert(table: Table) -> Insert:
    return insert(table)


def _upsert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


@cache
def _adding(dialect: str, table: Table, keys: tuple[str, ...], sums: tuple[str, ...]) -> Insert:
    new = _upsert(dialect, table)
    return new.on_conflict_do_update(
        index_elements=["search_id", *keys],
        set_={name: table.c[name] + new.excluded[name] for name in sums},
    )


@cache
def _score(dialect: str) -> Insert:
    new = _upsert(dialect, schema.scores)
    return new.on_conflict_do_update(
        index_elements=["search_id", "birth", "name"], set_={"score": new.excluded.score}
    )


def _read(table: Table, key: str, *names: str) -> Select[Any]:
    """SELECT of the key and the named columns of the rows with the keys ``b_keys``."""
    return select(table.c[key], *(table.c[name] for name in names)).where(
        table.c.search_id == bindparam("b_search"),
        table.c[key].in_(bindparam("b_keys", expanding=True)),
    )


_CANDIDATES = _read(schema.candidates, "birth", "state", "on_front", "attempts")
_JOBS = _read(schema.jobs, "id", "state", "purpose", "attempt", "birth", "baseline")


def _set(table: Table, key: str, state: str | None, names: Iterable[str]) -> Update:
    """UPDATE of the named columns of one row that must be in the state ``b_was``."""
    mine = [table.c.search_id == bindparam("b_search"), table.c[key] == bindparam("b_key")]
    if state is not None:
        mine.append(table.c[state] == bindparam("b_was"))
    return update(table).where(and_(*mine)).values({n: bindparam(f"b_{n}") for n in names})


_MOVE = _set(schema.candidates, "birth", "state", ("state", "attempts"))
_OUTCOME = _set(schema.candidates, "birth", "state", (*OUTCOME_FIELDS, "attempts"))
_SCORES = _set(schema.candidates, "birth", None, ("scores", "mean_score", "seeds")).where(
    schema.candidates.c.state == "evaluated"
)
_FLIP = _set(schema.candidates, "birth", "on_front", ("on_front",))
_JOB = _set(schema.jobs, "id", "state", JOB_FIELDS)


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
