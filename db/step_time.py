"""How long a candidate's training steps take, beside those of the search's first baseline.

Times come from trainings that shared a machine with others: they rank layers, they are no
benchmark. The figure stands in the candidate's row, so that a page can be ordered by it; it is
computed where evaluations are written, by the database itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    FromClause,
    bindparam,
    cast,
    func,
    select,
    update,
)

from db.engine import begin
from db.schema import candidates, evaluations

_trained, _baseline, _earliest = (
    evaluations.alias("trained"), evaluations.alias("baseline"), evaluations.alias("earliest"),
)  # fmt: skip


def _per_step(table: FromClause) -> ColumnElement[Any]:
    found: ColumnElement[Any] = cast(table.c.seconds, Float) / table.c.steps
    return found


# That a name is not before the empty text is always true, and the sum keeps the order from being
# the log's: so only the few trainings of baselines are looked at, never the search's own.
_first = (
    select(_earliest.c.baseline)
    .where(
        _earliest.c.search_id == candidates.c.search_id, _earliest.c.baseline >= "",
        _earliest.c.purpose == "baseline", _earliest.c.steps > 0, _earliest.c.seconds > 0.0,
    )
    .order_by(_earliest.c.seq + 0)
    .limit(1)
    .correlate(candidates)
    .scalar_subquery()
)  # fmt: skip

_pace = (
    select(func.avg(_per_step(_baseline)))
    .where(
        _baseline.c.search_id == _trained.c.search_id, _baseline.c.anchor == _trained.c.anchor,
        _baseline.c.baseline == _first, _baseline.c.purpose == "baseline",
        _baseline.c.steps > 0, _baseline.c.seconds > 0.0,
    )
    .correlate(_trained, candidates)
    .scalar_subquery()
)  # fmt: skip

MEASURED: ColumnElement[float] = (
    select(func.avg(_per_step(_trained) / _pace))
    .where(
        _trained.c.search_id == candidates.c.search_id, _trained.c.birth == candidates.c.birth,
        _trained.c.steps > 0,
    )
    .correlate(candidates)
    .scalar_subquery()
)  # fmt: skip
"""A candidate's mean ratio over its trainings; NULL where there is none, or no baseline's."""

_ONE = (
    update(candidates)
    .where(
        candidates.c.search_id == bindparam("b_search"), candidates.c.birth == bindparam("b_key")
    )
    .values(step_time=MEASURED)
)
_ALL = (
    update(candidates)
    .where(
        candidates.c.search_id == bindparam("b_search"), candidates.c.finished_at.is_not(None),
    )
    .values(step_time=MEASURED)
)  # fmt: skip


def measure(connection: Connection, search_id: str, births: Iterable[int]) -> None:
    """Sets the step time of these candidates from their evaluations."""
    rows = [{"b_search": search_id, "b_key": birth} for birth in sorted(births)]
    if rows:
        connection.execute(_ONE, rows)


def measure_all(connection: Connection, search_id: str) -> None:
    """The same for all that have ended: a baseline's training moved what they are compared with."""
    connection.execute(_ALL, {"b_search": search_id})


def step_time_of(engine: Engine, search_id: str, birth: int) -> float | None:
    """A candidate's step time; 1.3 means that its steps take 1.3 times the baseline's."""
    wanted = select(candidates.c.step_time).where(
        candidates.c.search_id == search_id, candidates.c.birth == birth
    )
    with begin(engine) as connection:
        found = connection.execute(wanted).scalar()
    return None if found is None else float(found)
