"""Read models that only the service asks for: details, lineage, history, costs, event pages.

SQL only, each bounded: no query here grows with the number of candidates but by an index. What is
written here stands in `db.service_writes`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, or_, select, text

from db.engine import again, begin
from db.schema import (
    HERE_SINCE,
    IS_MILESTONE,
    candidates,
    commands,
    evaluations,
    events,
    jobs,
    parents,
    searches,
    tallies,
    traces,
)
from db.schema_service import notes
from db.sql_store import SqlStore
from primitives.errors import FormulaError
from primitives.graph import Graph
from primitives.printer import format_formula

LINEAGE_LIMIT = 500
MOST_CHANGES = 10_000
"""Changes of a budget that are looked through, the newest."""
SEARCHES_KEPT = 500
"""Of which it is remembered what was trained."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What people wrote about a search."""

    tags: tuple[str, ...] = ()
    text: str = ""
    priority: int = 10
    starred: bool = False
    archived: bool = False
    pinned: bool = False


class LastEvent(NamedTuple):
    """how far a search is: number of its last event, status, when it came here and changed."""

    seq: int
    status: str
    here_since: datetime
    updated_at: datetime


class Trained(NamedTuple):
    """Trainings, seconds and steps by purpose, of a search's events up to one of them."""

    seq: int
    totals: dict[str, tuple[int, float, int]]


@dataclass(frozen=True, slots=True)
class LogRow:
    """An event as text, for those who pass it on unread."""

    search_id: str
    seq: int
    at: str
    kind: str
    payload: str


class RestQueries:
    """What REST shows beyond `db.queries`."""

    def __init__(self, store: SqlStore) -> None:
        self._engine, self.tries, self._now = store.engine, store.tries, store.clock
        self._trained: dict[tuple[str, datetime], Trained] = {}
        self._lock = threading.Lock()  # requests are answered by several threads

    @again
    def notes(self, search_ids: Sequence[str]) -> dict[str, Notes]:
        """People's notes on these searches; those without any are missing."""
        wanted = select(notes).where(notes.c.search_id.in_(search_ids))
        with begin(self._engine) as connection:
            rows = connection.execute(wanted).all()
        return {
            row.search_id: Notes(
                tuple(json.loads(row.tags)), row.text, row.priority, row.starred, row.archived,
                row.pinned,
            )
            for row in rows
        }  # fmt: skip

    @again
    def lineage(
        self, search_id: str, birth: int, *, down: bool, depth: int
    ) -> list[tuple[int, int, int]]:
        """(parent, child, generations away) of ancestors, or with ``down`` of descendants.

        At most `LINEAGE_LIMIT` links, the nearest first.
        """
        near, far = (parents.c.parent, parents.c.child) if down else (
            parents.c.child, parents.c.parent
        )  # fmt: skip
        links: list[tuple[int, int, int]] = []
        seen, level = {birth}, [birth]
        with begin(self._engine) as connection:
            for distance in range(1, depth + 1):
                found = connection.execute(
                    select(parents.c.parent, parents.c.child)
                    .where(parents.c.search_id == search_id, near.in_(level))
                    .order_by(near, far)
                    .limit(LINEAGE_LIMIT - len(links))
                ).all()
                links += [(row.parent, row.child, distance) for row in found]
                ends = {row.child if down else row.parent for row in found}
                level = sorted(ends - seen)[:LINEAGE_LIMIT]
                seen |= ends
                if not level or len(links) >= LINEAGE_LIMIT:
                    break
        return links

    @again
    def briefs(self, search_id: str, births: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Birth -> state, formula and score of these candidates (at most 1,000)."""
        names = ("birth", "state", "origin", "formula", "mean_score", "live_nodes", "on_front")
        wanted = select(*(candidates.c[name] for name in names)).where(
            candidates.c.search_id == search_id, candidates.c.birth.in_(list(births)[:1000])
        )
        with begin(self._engine) as connection:
            return {row["birth"]: dict(row) for row in connection.execute(wanted).mappings()}

    @again
    def relatives(self, search_id: str, births: Sequence[int]) -> dict[int, dict[str, Any]]:
        """As `briefs`, with the graph's JSON text (at most 1,000)."""
        names = (
            "birth", "state", "origin", "formula", "graph", "mean_score", "live_nodes", "on_front"
        )  # fmt: skip
        wanted = select(*(candidates.c[name] for name in names)).where(
            candidates.c.search_id == search_id, candidates.c.birth.in_(list(births)[:1000])
        )
        with begin(self._engine) as connection:
            return {row["birth"]: dict(row) for row in connection.execute(wanted).mappings()}

    @again
    def formulas(self, search_id: str, births: Sequence[int]) -> dict[int, str | None]:
        """Birth -> formula of these candidates (at most 1,000), printed where it is not stored."""
        wanted = select(candidates.c.birth, candidates.c.formula, candidates.c.graph).where(
            candidates.c.search_id == search_id, candidates.c.birth.in_(list(births)[:1000])
        )
        with begin(self._engine) as connection:
            rows = connection.execute(wanted).all()
        return {row.birth: row.formula or printed(row.graph) for row in rows}

    @again
    def graph_text(self, search_id: str, birth: int) -> str | None:
        """The graph's JSON; None if there is no such candidate."""
        wanted = select(candidates.c.graph).where(
            candidates.c.search_id == search_id, candidates.c.birth == birth
        )
        with begin(self._engine) as connection:
            return connection.execute(wanted).scalar()

    @again
    def curves(self, search_id: str, seqs: Sequence[int]) -> dict[int, list[list[float]]]:
        """Event number -> (step, loss) points of those trainings."""
        wanted = select(traces.c.seq, traces.c.curve).where(
            traces.c.search_id == search_id, traces.c.seq.in_(seqs)
        )
        with begin(self._engine) as connection:
            return {row.seq: json.loads(row.curve) for row in connection.execute(wanted)}

    @again
    def members(self, search_id: str, size: int, limit: int) -> list[tuple[int, int, float]]:
        """(birth, seq of the outcome, mean score) of the population, the youngest first."""
        wanted = (
            select(candidates.c.birth, candidates.c.outcome_seq, candidates.c.mean_score)
            .where(candidates.c.search_id == search_id, candidates.c.outcome_seq.is_not(None))
            .order_by(candidates.c.outcome_seq.desc())
            .limit(min(size, limit))
        )
        with begin(self._engine) as connection:
            return [tuple(row) for row in connection.execute(wanted)]

    @again
    def audit(self, search_id: str) -> dict[str, int]:
        """Counts of the signal check's audit: audited, wrong, passed."""
        mine = candidates.c.search_id == search_id
        audited = select(func.count(), func.sum(candidates.c.audit_passed.cast(_INT))).where(
            mine, candidates.c.audit_passed.is_not(None)
        )
        counted = select(tallies.c.stage, tallies.c.code, tallies.c.count).where(
            tallies.c.search_id == search_id, tallies.c.stage.in_(("state", "worker"))
        )
        with begin(self._engine) as connection:
            count, wrong = connection.execute(audited).one()
            rows = connection.execute(counted).all()
        wanted = (("state", "evaluated"), ("worker", "stability"))
        passed = sum(number for stage, code, number in rows if (stage, code) in wanted)
        return {"audited": count, "wrong": int(wrong or 0), "passed": passed}

    @again
    def training_costs(self, search_id: str) -> list[dict[str, Any]]:
        """Trainings, seconds and steps by purpose; reads what is new since it was asked before."""
        with begin(self._engine) as connection:
            stands = connection.execute(
                select(searches.c.last_seq, HERE_SINCE).where(searches.c.id == search_id)
            ).one_or_none()
            if stands is None:
                return []
            last, here_since = stands
            key = search_id, here_since
            known = self._trained.get(key, Trained(0, {}))
            last = max(last, known.seq)  # another thread may have read on meanwhile
            fresh = connection.execute(
                select(
                    evaluations.c.purpose, func.count(), func.sum(evaluations.c.seconds),
                    func.sum(evaluations.c.steps),
                )
                .where(
                    evaluations.c.search_id == search_id,
                    evaluations.c.seq > known.seq, evaluations.c.seq <= last,
                )
                .group_by(evaluations.c.purpose)
            ).all()  # fmt: skip
        totals = dict(known.totals)
        for purpose, *found in fresh:
            trainings, seconds, steps = totals.get(purpose, (0, 0.0, 0))
            totals[purpose] = trainings + found[0], seconds + float(found[1]), steps + int(found[2])
        with self._lock:
            self._trained.pop(key, None)
            self._trained[key] = Trained(last, totals)
            if len(self._trained) > SEARCHES_KEPT:
                del self._trained[next(iter(self._trained))]
        return [
            {"purpose": purpose, "trainings": trainings, "seconds": seconds, "steps": steps}
            for purpose, (trainings, seconds, steps) in sorted(totals.items())
        ]

    @again
    def worker_seconds(self, search_id: str) -> float:
        """Time that workers spent on jobs that ended: first verdicts and all later jobs."""
        first = select(func.sum(candidates.c.seconds)).where(candidates.c.search_id == search_id)
        later = select(func.sum(jobs.c.seconds)).where(jobs.c.search_id == search_id)
        with begin(self._engine) as connection:
            return sum(float(connection.execute(one).scalar() or 0.0) for one in (first, later))

    @again
    def last_seqs(self) -> dict[str, LastEvent]:
        """Search -> its last event, status, and when it came into this store."""
        wanted = select(
            searches.c.id, searches.c.last_seq, searches.c.status, HERE_SINCE, searches.c.updated_at
        )
        with begin(self._engine) as connection:
            return {
                row.id: LastEvent(row.last_seq, row.status, row.here_since, row.updated_at)
                for row in connection.execute(wanted.where(searches.c.ready))
            }

    @again
    def changed_limits(self, search_id: str) -> dict[str, float | None]:
        """Limits of the budget that people changed, as they hold now; None: cleared."""
        wanted = (
            select(events.c.payload)
            .where(events.c.search_id == search_id, events.c.kind == "budget_changed",
                   text(IS_MILESTONE))
            .order_by(events.c.seq.desc())
            .limit(MOST_CHANGES)
        )  # fmt: skip
        found: dict[str, float | None] = {}
        with begin(self._engine) as connection:
            for payload in reversed(connection.scalars(wanted).all()):
                found |= json.loads(payload).get("limits", {})
        return found

    def silent(self, now: datetime, seconds: float) -> list[tuple[str, int, datetime]]:
        """Running searches without an event for so long that nobody holds: id, last event, when."""
        wanted = select(searches.c.id, searches.c.last_seq, searches.c.updated_at).where(
            searches.c.ready, searches.c.status == "running",
            searches.c.updated_at <= now - timedelta(seconds=seconds),
            searches.c.added_at <= now - timedelta(seconds=seconds),
            or_(searches.c.lease_expires_at.is_(None), searches.c.lease_expires_at <= self._now),
        )  # fmt: skip
        with begin(self._engine) as connection:
            rows = connection.execute(wanted.order_by(searches.c.id)).all()
        return [(row.id, row.last_seq, row.updated_at) for row in rows]

    def last_until(self, search_id: str, moment: datetime) -> int:
        """Number of the search's last event that happened no later than ``moment``, or 0."""
        wanted = (
            select(events.c.seq)
            .where(events.c.search_id == search_id, events.c.at <= moment)
            .order_by(events.c.seq.desc())
            .limit(1)
        )
        with begin(self._engine) as connection:
            return int(connection.scalar(wanted) or 0)

    @again
    def log(self, search_id: str, after: int, upto: int, limit: int) -> list[LogRow]:
        """Events with numbers above ``after`` up to ``upto``, in order, as text."""
        wanted = (
            select(events.c.seq, events.c.at, events.c.kind, events.c.payload)
            .where(events.c.search_id == search_id, events.c.seq > after, events.c.seq <= upto)
            .order_by(events.c.seq)
            .limit(limit)
        )
        with begin(self._engine) as connection:
            rows = connection.execute(wanted).all()
        return [
            LogRow(search_id, row.seq, row.at.isoformat(), row.kind, row.payload) for row in rows
        ]

    @again
    def stands(self, search_id: str) -> tuple[str, str] | None:
        """The search's status and phase; None where there is no such search."""
        wanted = select(searches.c.status, searches.c.phase).where(searches.c.id == search_id)
        with begin(self._engine) as connection:
            found = connection.execute(wanted).first()
        return None if found is None else (found.status, found.phase)

    @again
    def commanded(self) -> list[str]:
        """Searches that are not over and have commands waiting."""
        waiting = select(commands.c.search_id).where(commands.c.done_at.is_(None))
        wanted = select(searches.c.id).where(
            searches.c.status.in_(("running", "paused")), searches.c.id.in_(waiting)
        )
        with begin(self._engine) as connection:
            return list(connection.execute(wanted).scalars())

    @again
    def runnable(self) -> list[str]:
        """Searches that a controller should hold: running ones, and paused ones with commands."""
        waiting = select(commands.c.search_id).where(commands.c.done_at.is_(None))
        status: ColumnElement[str] = searches.c.status
        wanted = select(searches.c.id).where(
            searches.c.ready,
            or_(status == "running", and_(status == "paused", searches.c.id.in_(waiting))),
        )
        with begin(self._engine) as connection:
            return list(connection.execute(wanted.order_by(searches.c.created_at)).scalars())


def printed(graph: str) -> str | None:
    """The formula of a stored graph; None where it is too long to print."""
    try:
        return format_formula(Graph.from_json_text(graph))
    except FormulaError:
        return None


_INT = candidates.c.birth.type
