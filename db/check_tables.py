"""Compares the tables of one search with what its events say, in one pass over the log.

The rules are those that the stores write by; here they are folded in memory and each row is
compared once nothing can change it any more, so that only open rows are held. It reads only, and
it must not decide what a table should hold.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, select

from db import schema
from db.projection import Projection
from db.refusals import expect_created
from db.rows import KnownCandidate, KnownJob, Row
from db.sql_store import new_search, read_event
from db.states import EXAMPLES_KEPT, JOB_OPEN, OPEN
from evosearch.config import SearchConfig

_BATCH = 2000
_CHUNK = 500

_NOT_IN_EVENTS = {
    "title", "lease_owner", "lease_epoch", "lease_expires_at", "formula",
    "batch_independent", "causal_safe", "pointwise",  # unknown in rows of schema 0001
    "properties",  # unknown in rows before schema 0004
    "step_time",  # follows from other tables
    "added_at", "ready",
}  # fmt: skip
_MOVING = ("scores", "mean_score", "seeds")
"""Columns of a candidate that a later measurement changes."""


class TableCheck:
    """The log of one search against its tables; ``found``: table -> the first difference."""

    def __init__(self, connection: Connection, search_id: str) -> None:
        self._connection, self._id = connection, search_id
        self.found: dict[str, str] = {}
        self._known: dict[int, KnownCandidate] = {}
        self._known_jobs: dict[str, KnownJob] = {}
        self._open: dict[int, Row] = {}
        self._open_jobs: dict[str, Row] = {}
        self._rescored: dict[int, Row] = {}
        self._search: Row = {}
        self._tallies: dict[tuple[str, str], Row] = {}
        self._repeats: dict[int, int] = {}
        self._examples: dict[tuple[str, int], Row] = {}
        self._counts: Counter[Table] = Counter()

    def run(self, told: Callable[[int], None]) -> None:
        """Reads the log to its end; ``told`` hears the number of each batch's last event.

        Raises:
            StoreError: an event cannot be read, or does not fit what came before it.
        """
        table, last = schema.events, 0
        pages = select(table.c.seq, table.c.at, table.c.payload)
        pages = pages.where(table.c.search_id == self._id).order_by(table.c.seq).limit(_BATCH)
        while rows := self._connection.execute(pages.where(table.c.seq > last)).all():
            change = Projection(self._known, self._known_jobs, lean=True)
            for row in rows:
                event = read_event(row.seq, row.payload)
                if row.seq == 1:
                    config = expect_created(self._id, event).config
                    self._search = new_search(self._id, "", config, row.at)
                change.add(row.seq, row.at, event)
            self._fold(change, rows[0].seq, rows[-1].seq)
            last = rows[-1].seq
            told(last)
        self._end()

    def _fold(self, change: Projection, first: int, last: int) -> None:
        self._known |= change.now
        self._known_jobs |= change.jobs_now
        self._search |= change.search
        self._search["evaluated"] += change.evaluated
        self._candidates(change)
        self._jobs(change)
        self._count(change)
        for table, rows in (
            (schema.candidates, change.candidates), (schema.parents, change.parents),
            (schema.evaluations, change.evaluations), (schema.check_runs, change.check_runs),
            (schema.jobs, change.jobs),
        ):  # fmt: skip
            self._counts[table] += len(rows)
        children = {row["child"] for row in change.parents}
        self._expect(schema.parents, change.parents, schema.parents.c.child, children)
        births = {row["birth"] for row in change.check_runs}
        self._expect(schema.check_runs, change.check_runs, schema.check_runs.c.birth, births)
        seq = schema.evaluations.c.seq
        stored = self._rows(schema.evaluations, seq.between(first, last))
        self._compare(schema.evaluations, change.evaluations, stored, whole=True)

    def _candidates(self, change: Projection) -> None:
        self._open |= change.candidates
        for birth, row in (*change.moves.items(), *change.outcomes.items()):
            self._open[birth] |= row
        self._rescored |= change.scores
        ended = [birth for birth in (*change.candidates, *change.outcomes)
                 if self._open[birth]["state"] not in OPEN]  # fmt: skip
        self._settle([self._open.pop(birth) for birth in ended])

    def _settle(self, told: Sequence[Row]) -> None:
        table = schema.candidates
        for part in _chunks(told):
            births = [row["birth"] for row in part]
            stored = self._rows(table, table.c.birth.in_(births))
            scores = {row.birth: (row.scores, row.mean_score, row.seeds) for row in stored}
            for row in part:
                mine = tuple(row[name] for name in _MOVING)
                if scores.get(row["birth"]) != mine:
                    self._rescored.setdefault(row["birth"], dict(zip(_MOVING, mine, strict=True)))
            self._compare(table, part, stored, leave=(*_MOVING, "on_front"))

    def _jobs(self, change: Projection) -> None:
        self._open_jobs |= change.jobs
        for job, row in change.job_changes.items():
            self._open_jobs[job] |= row
        ended = [job for job in (*change.jobs, *change.job_changes)
                 if self._open_jobs[job]["state"] not in JOB_OPEN]  # fmt: skip
        rows = [self._open_jobs.pop(job) for job in ended]
        self._expect(schema.jobs, rows, schema.jobs.c.id, ended)

    def _count(self, change: Projection) -> None:
        for key, row in change.tallies.items():
            kept = self._tallies.setdefault(
                key, {"count": 0, "seconds": 0.0, "steps": 0, "examples": 0}
            )
            for name, value in row.items():
                kept[name] += value
        for birth, count in change.repeats.items():
            self._repeats[birth] = self._repeats.get(birth, 0) + count
        for example in change.examples:
            tally = self._tallies["controller", example["code"]]
            position = tally["examples"]
            if position < EXAMPLES_KEPT:
                self._examples[example["code"], position] = example | {"position": position}
                tally["examples"] += 1

    def _end(self) -> None:
        """What was still open or moving when the log ended, and the sums."""
        self._settle(list(self._open.values()))
        self._expect(schema.jobs, [*self._open_jobs.values()], schema.jobs.c.id, self._open_jobs)
        moved = [{"birth": birth, **row} for birth, row in self._rescored.items()]
        self._expect(schema.candidates, moved, schema.candidates.c.birth, self._rescored)
        on_front = self._rows(schema.candidates, schema.candidates.c.on_front)
        told_front = {birth for birth, known in self._known.items() if known.on_front}
        for birth in sorted({row.birth for row in on_front} ^ told_front):
            self._differ(
                schema.candidates,
                f"birth {birth}: on_front is {birth not in told_front!r},"
                f" by the events {birth in told_front!r}",
            )
        for table, rows in (
            (schema.tallies, [
                {"stage": stage, "code": code, **row}
                for (stage, code), row in self._tallies.items()
            ]),
            (schema.repeats, [{"birth": b, "count": count} for b, count in self._repeats.items()]),
            (schema.skip_examples, list(self._examples.values())),
        ):  # fmt: skip
            self._compare(table, rows, self._rows(table), whole=True)
        self._compare(schema.searches, [self._search], self._rows(schema.searches), whole=True)
        for table, count in self._counts.items():
            self._compare_counts(table, count)

    def _compare_counts(self, table: Table, told: int) -> None:
        counted = select(func.count()).select_from(table).where(table.c.search_id == self._id)
        stored = self._connection.execute(counted).scalar_one()
        if stored > told:
            self._differ(table, f"{stored - told} rows stand in the table only")

    def _expect(
        self,
        table: Table,
        told: Sequence[Row],
        key: ColumnElement[Any],
        keys: Iterable[Any],
    ) -> None:
        """Compares rows that the events tell with those that are stored under these keys."""
        stored: list[Any] = []
        for part in _chunks(list(keys)):
            stored += self._rows(table, key.in_(part))
        self._compare(table, told, stored)

    def _rows(self, table: Table, *where: ColumnElement[bool]) -> Sequence[Any]:
        """The search's rows with the columns of `_names`, in their order."""
        mine = table.c.id if table is schema.searches else table.c.search_id
        wanted = select(*(table.c[name] for name in _names(table)))
        return self._connection.execute(wanted.where(mine == self._id, *where)).all()

    def _compare(
        self,
        table: Table,
        told: Sequence[Row],
        stored: Sequence[Any],
        *,
        leave: Sequence[str] = (),
        whole: bool = False,
    ) -> None:
        """Notes the first difference; with ``whole`` stored rows that no event tells of too.

        Rows of the events may lack columns that they do not tell.
        """
        names, key_names = _names(table), _key_names(table)
        first = told[0] if told else {}
        fields = [name for name in names if name in first and name not in leave]
        key_of, fields_of = _getter(key_names), _getter(fields)
        stored_key = _getter([names.index(name) for name in key_names])
        stored_fields = _getter([names.index(name) for name in fields])
        mine = {stored_key(row): row for row in stored}
        for row in told:
            other = mine.pop(key_of(row), None)
            if other is None:
                self._differ(table, f"{_shown(key_names, key_of(row))} stands in the events only")
            elif (was := stored_fields(other)) != (now := fields_of(row)):
                for name, left, right in zip(fields, was, now, strict=True):
                    if left != right and not _same(name, left, right):
                        what = f"{name} is {left!r}, by the events {right!r}"
                        self._differ(table, f"{_shown(key_names, key_of(row))}: {what}")
        for key in sorted(mine) if whole else ():
            self._differ(table, f"{_shown(key_names, key)} stands in the table only")

    def _differ(self, table: Table, what: str) -> None:
        self.found.setdefault(table.name, f"table {table.name}: {what}")


def _same(name: str, stored: Any, told: Any) -> bool:
    """Whether two unequal values mean the same."""
    if isinstance(stored, float) and isinstance(told, float):
        # Sums depend on the order of addition.
        return math.isclose(stored, told, rel_tol=1e-9, abs_tol=1e-9)
    if name == "config":  # an older one lacks settings that have defaults
        first, second = (SearchConfig.model_validate_json(one) for one in (stored, told))
        return first == second
    return False


@cache
def _names(table: Table) -> list[str]:
    """The columns that events tell."""
    left_out = _NOT_IN_EVENTS | ({"search_id"} if table is not schema.searches else set())
    return [column.name for column in table.c if column.name not in left_out]


@cache
def _key_names(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns if column.name != "search_id"]


def _getter(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from a row to the tuple of these columns."""
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda row: tuple(row[key] for key in keys)


def _shown(names: Sequence[str], key: Sequence[Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in zip(names, key, strict=True))


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
