"""Gives rows of older schemas what newer ones store with a candidate: formula, structure, facts.

All of it follows from the graph, so nothing is guessed; a graph that cannot be read keeps its gaps.
"""

from __future__ import annotations

from sqlalchemy import Engine, bindparam, select, tuple_, update

from db.engine import begin
from db.rows import graph_columns
from db.schema import candidates
from primitives.errors import EvosearchError
from primitives.graph import Graph

_BATCH = 200
_KEY = (candidates.c.search_id, candidates.c.birth)


def fill_candidates(engine: Engine) -> int:
    """Fills the candidates without facts, some at a time; returns how many.

    It may be broken off at any point and goes on where it stopped.
    """
    wanted = select(*_KEY, candidates.c.graph).where(candidates.c.properties.is_(None))
    change = update(candidates).where(
        candidates.c.search_id == bindparam("of_search"),
        candidates.c.birth == bindparam("of_birth"),
    )
    filled, last = 0, ("", -1)
    while True:
        with begin(engine, write=True) as connection:
            beyond = tuple_(*_KEY) > tuple_(*last)
            rows = connection.execute(wanted.where(beyond).order_by(*_KEY).limit(_BATCH)).all()
            if not rows:
                return filled
            last = (rows[-1].search_id, rows[-1].birth)
            known = [
                {"of_search": row.search_id, "of_birth": row.birth, **columns}
                for row in rows
                if (columns := _columns(row.graph)) is not None
            ]
            if known:
                connection.execute(change, known)
            filled += len(known)


def _columns(text: str) -> dict[str, object] | None:
    try:
        return graph_columns(Graph.from_json_text(text))
    except EvosearchError:
        return None
