"""Read models for the command line and REST: SQL only, a fixed number of queries each.

Nothing here writes, and nothing here loads a whole search or a curve.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, text

from db.candidate_filter import ON_FRONT
from db.engine import begin
from db.schema import (
    IS_MILESTONE,
    MILESTONES,
    candidates,
    check_runs,
    evaluations,
    events,
    parents,
    repeats,
    searches,
    tallies,
)
from db.schema_service import notes
from db.sql_store import SqlStore
from db.views import (
    CandidateDetail,
    CandidateRow,
    CheckRow,
    EvaluationRow,
    EventRow,
    FunnelRow,
    Population,
    SearchRow,
)
from evosearch.errors import ConfigError, NotFound
from primitives.graph import Graph

MOST_RELATIVES = 500


def _search_place(cursor: str) -> tuple[datetime, str]:
    """Creation and id of the last search of a page."""
    at, _, search_id = cursor.partition("/")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not search_id:
        raise ConfigError("bad cursor", expected="the one of the last page", got=repr(cursor)[:60])
    return moment, search_id


class Queries:
    """What people look at, read from the tables of a `SqlStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine

    def searches(self) -> list[SearchRow]:
        """All searches with their progress, the newest first."""
        return self._searches((), None)

    def search_row(self, search_id: str) -> SearchRow:
        """One search with its progress.

        Raises:
            NotFound: there is none of that id.
        """
        found = self._searches((searches.c.id == search_id,), 1)
        if not found:
            raise NotFound("no such search", got=search_id)
        return found[0]

    def searches_page(
        self,
        limit: int,
        cursor: str | None = None,
        *,
        statuses: Sequence[str] = (),
        tag: str | None = None,
        archived: bool | None = None,
    ) -> tuple[list[SearchRow], str | None]:
        """Some searches, the newest first, and the cursor of the next page (None at the end).

        Raises:
            ConfigError: the cursor is none that this method gave out.
        """
        wanted: list[ColumnElement[bool]] = []
        about = select(notes.c.search_id)
        if statuses:
            wanted.append(searches.c.status.in_(statuses))
        if tag is not None:  # stored as JSON text, in which a tag needs no escapes
            mine = notes.c.tags.contains(json.dumps(tag), autoescape=True)
            wanted.append(searches.c.id.in_(about.where(mine)))
        if archived is not None:
            away = searches.c.id.in_(about.where(notes.c.archived))
            wanted.append(away if archived else ~away)
        if cursor is not None:
            at, search_id = _search_place(cursor)
            wanted.append(
                or_(
                    searches.c.created_at < at,
                    and_(searches.c.created_at == at, searches.c.id < search_id),
                )
            )
        rows = self._searches(wanted, limit + 1)
        if len(rows) <= limit:
            return rows, None
        last = rows[limit - 1]
        return rows[:limit], f"{last.created_at.isoformat()}/{last.id}"

    def _searches(
        self, wanted: Sequence[ColumnElement[bool]], limit: int | None
    ) -> list[SearchRow]:
        names = SearchRow.__dataclass_fields__.keys() - {"states"}
        newest = select(*(searches.c[name] for name in sorted(names)))
        newest = newest.where(searches.c.ready, *wanted)
        newest = newest.order_by(searches.c.created_at.desc(), searches.c.id.desc()).limit(limit)
        counted = (
            select(tallies.c.search_id, tallies.c.code, tallies.c.count)
            .where(tallies.c.stage == "state", tallies.c.count > 0)
        )  # fmt: skip
        with begin(self._engine) as connection:
            rows = connection.execute(newest).mappings().all()
            if limit is not None:
                counted = counted.where(tallies.c.search_id.in_([row["id"] for row in rows]))
            states: dict[str, dict[str, int]] = {}
            for search_id, state, count in connection.execute(counted):
                states.setdefault(search_id, {})[state] = count
        return [SearchRow(**row, states=states.get(row["id"], {})) for row in rows]

    def front(self, search_id: str) -> list[CandidateRow]:
        """The candidates that none dominates, the highest mean score first."""
        mine = _LIST.where(candidates.c.search_id == search_id, *ON_FRONT)
        highest = mine.order_by(candidates.c.mean_score.desc(), candidates.c.birth)
        with begin(self._engine) as connection:
            return [_candidate(row) for row in connection.execute(highest).mappings()]

    def funnel(self, search_id: str) -> list[FunnelRow]:
        """How many proposals and candidates ended where, and at what cost.

        Stages: ``controller`` (proposals skipped), ``enqueued`` (refused formulas), ``worker``
        (candidates that a check threw out), and each check by its name, or ``audit:`` and its
        name, with the code '' for passed.
        """
        wanted = select(
            tallies.c.stage, tallies.c.code, tallies.c.count, tallies.c.seconds, tallies.c.steps
        ).where(tallies.c.search_id == search_id, tallies.c.stage != "state")
        with begin(self._engine) as connection:
            rows = connection.execute(wanted.order_by(tallies.c.stage, tallies.c.code)).all()
        return [FunnelRow(*row) for row in rows]

    def states(self, search_id: str) -> dict[str, int]:
        """Number of candidates in each state that has any."""
        wanted = select(tallies.c.code, tallies.c.count).where(
            tallies.c.search_id == search_id, tallies.c.stage == "state", tallies.c.count > 0
        )
        with begin(self._engine) as connection:
            return {state: count for state, count in connection.execute(wanted)}  # noqa: C416

    def population(self, search_id: str, size: int) -> Population:
        """Mean scores of the last ``size`` evaluated candidates, in figures."""
        members = (
            select(candidates.c.mean_score)
            .where(candidates.c.search_id == search_id, candidates.c.outcome_seq.is_not(None))
            .order_by(candidates.c.outcome_seq.desc())
            .limit(size)
            .subquery()
        )
        score = members.c.mean_score
        front = (
            select(func.count())
            .select_from(candidates)
            .where(candidates.c.search_id == search_id, *ON_FRONT)
            .scalar_subquery()
        )
        figures = select(func.count(), func.min(score), func.avg(score), func.max(score), front)
        with begin(self._engine) as connection:
            return Population(*connection.execute(figures).one())

    def candidate(self, search_id: str, birth: int) -> CandidateDetail:
        """Everything about one candidate, curves left out.

        Raises:
            NotFound: the search has no such candidate.
        """
        mine = and_(candidates.c.search_id == search_id, candidates.c.birth == birth)
        with begin(self._engine) as connection:
            row = connection.execute(_LIST.where(mine)).mappings().first()
            if row is None:
                raise _no_candidate(search_id, birth)
            return CandidateDetail(
                candidate=_candidate(row),
                parents=self._births(connection, search_id, "parent", parents.c.child == birth),
                children=self._births(connection, search_id, "child", parents.c.parent == birth),
                repeats=connection.execute(
                    select(repeats.c.count).where(
                        repeats.c.search_id == search_id, repeats.c.birth == birth
                    )
                ).scalar()
                or 0,
                checks=_checks(connection, search_id, birth),
                evaluations=_evaluations(connection, search_id, evaluations.c.birth == birth),
            )

    def baselines(self, search_id: str) -> list[EvaluationRow]:
        """Every training of the baselines, in the order of the log."""
        with begin(self._engine) as connection:
            return _evaluations(connection, search_id, evaluations.c.baseline.is_not(None))

    def events(
        self,
        search_id: str,
        *,
        after: int = 0,
        before: int | None = None,
        kinds: Sequence[str] = (),
        limit: int = 200,
        newest: bool = False,
    ) -> list[EventRow]:
        """Events between two sequence numbers, ascending; with ``newest`` the last ones of them.

        ``kinds``: only those; all where none is named.
        """
        place = events.c.seq.desc() if newest else events.c.seq
        wanted = _EVENTS.where(events.c.search_id == search_id, events.c.seq > after)
        if before is not None:
            wanted = wanted.where(events.c.seq < before)
        if kinds:
            wanted = wanted.where(events.c.kind.in_(kinds))
        wanted = wanted.order_by(place).limit(max(1, limit))
        with begin(self._engine) as connection:
            rows = connection.execute(wanted).all()
        found = [_event(row) for row in rows]
        return found[::-1] if newest else found

    def last_event(self, search_id: str, kind: str) -> EventRow | None:
        """The newest event of a kind, such as the report."""
        wanted = _EVENTS.where(events.c.search_id == search_id, events.c.kind == kind)
        if kind in MILESTONES:
            wanted = wanted.where(text(IS_MILESTONE))  # so that their own index serves
        with begin(self._engine) as connection:
            row = connection.execute(wanted.order_by(events.c.seq.desc()).limit(1)).first()
        return None if row is None else _event(row)

    def _births(
        self, connection: Connection, search_id: str, name: str, condition: ColumnElement[bool]
    ) -> tuple[int, ...]:
        wanted = select(parents.c[name]).where(parents.c.search_id == search_id, condition)
        by_place = wanted.order_by(parents.c.child, parents.c.position).limit(MOST_RELATIVES)
        return tuple(connection.execute(by_place).scalars())


_LISTED = tuple(CandidateRow.__dataclass_fields__)
_LIST: Select[Any] = select(*(candidates.c[name] for name in _LISTED))
_EVENTS: Select[Any] = select(events.c.seq, events.c.at, events.c.kind, events.c.payload)


def _candidate(row: Any) -> CandidateRow:
    fields = dict(row)
    fields["graph"] = Graph.from_json_text(fields["graph"])
    for name in ("scores", "properties"):
        fields[name] = json.loads(fields[name]) if fields[name] else None
    return CandidateRow(**fields)


def _event(row: Any) -> EventRow:
    return EventRow(row.seq, row.at, row.kind, json.loads(row.payload))


def _checks(connection: Connection, search_id: str, birth: int) -> list[CheckRow]:
    wanted = select(*(check_runs.c[name] for name in CheckRow.__dataclass_fields__))
    wanted = wanted.where(check_runs.c.search_id == search_id, check_runs.c.birth == birth)
    rows = connection.execute(wanted.order_by(check_runs.c.position)).mappings()
    return [CheckRow(**dict(row) | {"findings": json.loads(row["findings"])}) for row in rows]


def _evaluations(
    connection: Connection, search_id: str, condition: ColumnElement[bool]
) -> list[EvaluationRow]:
    wanted = select(*(evaluations.c[name] for name in EvaluationRow.__dataclass_fields__))
    wanted = wanted.where(evaluations.c.search_id == search_id, condition)
    rows = connection.execute(wanted.order_by(evaluations.c.seq)).mappings()
    return [EvaluationRow(**dict(row) | {"groups": json.loads(row["groups"])}) for row in rows]


def _no_candidate(search_id: str, birth: int) -> NotFound:
    return NotFound(
        "no such candidate", expected=f"a birth of search {search_id}", got=str(birth),
        hint="proposals that the controller skipped have no row",
    )  # fmt: skip
