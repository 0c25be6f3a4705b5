"""How long a candidate's training steps take, beside those of the search's first baseline.

Times come from trainings that shared a machine with others: they rank layers, they are no
benchmark. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Engine, Float, and_, case, cast, func, null, select

from db.engine import begin
from db.schema import candidates, evaluations

_PER_STEP = cast(evaluations.c.seconds, Float) / evaluations.c.steps


def baseline_pace(engine: Engine, search_id: str) -> dict[str, float]:
    """Anchor -> seconds a step of the baseline that was measured first; empty before that."""
    mine = and_(
        evaluations.c.search_id == search_id, evaluations.c.purpose == "baseline",
        evaluations.c.steps > 0, evaluations.c.seconds > 0.0,
    )  # fmt: skip
    first = select(evaluations.c.baseline).where(mine).order_by(evaluations.c.seq).limit(1)
    wanted = (
        select(evaluations.c.anchor, func.avg(_PER_STEP).label("pace"))
        .where(mine, evaluations.c.baseline == first.scalar_subquery())
        .group_by(evaluations.c.anchor)
    )
    with begin(engine) as connection:
        return {row.anchor: float(row.pace) for row in connection.execute(wanted)}


def step_time(engine: Engine, search_id: str) -> ColumnElement[float]:
    """A candidate's mean ratio over anchors, as an expression; NULL where nothing was trained."""
    pace = baseline_pace(engine, search_id)
    if not pace:
        return cast(null(), Float)
    ratio = _PER_STEP / case(pace, value=evaluations.c.anchor)
    trained = select(func.avg(ratio)).where(
        evaluations.c.search_id == candidates.c.search_id,
        evaluations.c.birth == candidates.c.birth,
        evaluations.c.steps > 0,
    )
    return trained.correlate(candidates).scalar_subquery()


def step_time_of(engine: Engine, search_id: str, birth: int) -> float | None:
    """The same of one candidate; 1.3 means that its steps take 1.3 times the baseline's."""
    wanted = select(step_time(engine, search_id)).where(
        candidates.c.search_id == search_id, candidates.c.birth == birth
    )
    with begin(engine) as connection:
        found = connection.execute(wanted).scalar()
    return None if found is None else float(found)


def step_times_of(engine: Engine, search_id: str, births: Sequence[int]) -> dict[int, float]:
    """The same of a page of candidates; those that were never trained are missing."""
    if not births:
        return {}
    time = step_time(engine, search_id).label("time")
    wanted = select(candidates.c.birth, time).where(
        candidates.c.search_id == search_id, candidates.c.birth.in_(births)
    )
    with begin(engine) as connection:
        rows = connection.execute(wanted).all()
    return {row.birth: float(row.time) for row in rows if row.time is not None}
