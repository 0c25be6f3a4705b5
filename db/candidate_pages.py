"""Pages of candidates by filter and order, stable while candidates come in.

A cursor is the place of the last row in the order (its sort value and birth), so that rows which
come in meanwhile shift nothing. Every order has an index; a filter that has none looks at so many
candidates in the order and no more, so that a page costs the same whatever the search holds.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, select, tuple_, union_all

from db.candidate_filter import Conditions, Wanted
from db.candidate_orders import SORTS, Part, parts_of, scored
from db.engine import begin
from db.gain_scale import GainScales
from db.schema import candidates
from db.schema_service import stars
from db.sql_store import SqlStore
from evosearch.errors import ConfigError

__all__ = ["COLUMNS", "EXAMINED", "SORTS", "CandidatePages", "Wanted"]

COLUMNS = (
    "birth", "state", "origin", "formula", "live_nodes", "mean_score", "scores", "seeds",
    "on_front", "batch_independent", "causal_safe", "pointwise", "audit", "audit_passed",
    "duplicate_of", "rejection_code", "rejection_detail", "failure_cause", "failure_detail",
    "note", "digest", "fingerprint", "worker", "seconds", "attempts", "step_time",
    "queued_at", "finished_at", "properties",
)  # fmt: skip
"""What a list shows of a candidate; the graph is shown one at a time."""

EXAMINED = 3000
"""Candidates that one page looks at for a filter without an index; then it ends, full or not."""


class CandidatePages:
    """Pages and streams of one store's candidates."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine
        self.gains = GainScales(store)
        self._postgresql = store.engine.dialect.name == "postgresql"

    def page(
        self, search_id: str, wanted: Wanted, limit: int, cursor: str | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Some rows, and the cursor of the next page (None after the last one).

        A page of a filter that few candidates pass may be short, or empty, before the last one.

        Raises:
            ConfigError: the sort is unknown, or the cursor is none that this order gave out.
        """
        if scored(wanted.sort) and wanted.states:  # what has a score is evaluated, nothing else is
            if "evaluated" not in wanted.states:
                return [], None
            wanted = replace(wanted, states=())
        scale = self.gains.of(search_id)
        asked = Conditions(search_id, wanted, scale, postgresql=self._postgresql)
        place = None if cursor is None else _place(wanted, cursor)
        with begin(self._engine) as connection:
            parts = parts_of(connection, search_id, wanted, scale, asked)
            filtered = bool(asked.others or (wanted.states and not parts[0].of_state))
            depth = None if asked.few else EXAMINED if filtered else limit + 1
            looked = _looked_at(search_id, wanted, parts, depth, place)
            rows = connection.execute(_page(search_id, wanted, asked, looked, limit)).mappings()
            found = list(rows)
            after = found[limit - 1] if len(found) > limit else None
            if after is None and filtered and depth is not None:
                last = _ordered(select(looked.c.sort_key, looked.c.birth), wanted, looked)
                after = connection.execute(last.offset(depth - 1).limit(1)).mappings().first()
        shown = [self._plain(row, scale) for row in found[:limit]]
        return shown, None if after is None else _cursor(wanted, after["sort_key"], after["birth"])

    def stream(self, search_id: str, wanted: Wanted, chunk: int = 500) -> Iterator[dict[str, Any]]:
        """All rows, page by page: no transaction stays open while a client reads."""
        cursor: str | None = None
        while True:
            rows, cursor = self.page(search_id, wanted, chunk, cursor)
            yield from rows
            if cursor is None:
                return

    def _plain(self, row: Any, scale: Any) -> dict[str, Any]:
        found = {name: row[name] for name in COLUMNS}
        for name in ("scores", "properties"):
            found[name] = json.loads(found[name]) if found[name] else None
        told = scale and scale.gain(row["birth"], row["mean_score"], row["seeds"])
        found["gain"] = told and told._asdict()
        found["starred"] = bool(row["starred"])
        found["gain_seeds"] = scale.seeds(row["birth"], row["seeds"]) if scale and told else 0
        return found


def _looked_at(
    search_id: str, wanted: Wanted, parts: list[Part], depth: int | None,
    place: tuple[float, int] | None,
) -> Any:  # fmt: skip
    """The first ``depth`` candidates beyond the place in the order: birth and sort key."""
    found = []
    for part in parts:
        query = select(part.birth.label("birth"), part.key.label("sort_key")).where(
            part.table.c.search_id == search_id, *part.conditions
        )
        if place is not None:
            query = query.where(*_beyond(wanted, part, place))
        if depth is not None:
            turned = [one.desc() if wanted.descending else one.asc() for one in part.order]
            query = query.order_by(*turned).limit(depth)
        found.append(query.subquery())
    if len(found) == 1:
        return found[0]
    united = union_all(*(select(one.c.birth, one.c.sort_key) for one in found)).subquery()
    first = _ordered(select(united.c.birth, united.c.sort_key), wanted, united)
    return first.limit(depth).subquery()


def _page(
    search_id: str, wanted: Wanted, asked: Conditions, looked: Any, limit: int
) -> Select[Any]:
    given = exists().where(stars.c.search_id == search_id, stars.c.birth == candidates.c.birth)
    columns = (candidates.c[name] for name in COLUMNS)
    query = select(*columns, given.label("starred"), looked.c.sort_key).join_from(
        looked, candidates,
        and_(candidates.c.search_id == search_id, candidates.c.birth == looked.c.birth),
    )  # fmt: skip
    conditions = list(asked.others)
    if wanted.states:
        conditions.append(candidates.c.state.in_(wanted.states))
    return _ordered(query.where(*conditions), wanted, looked).limit(limit + 1)


def _ordered(query: Select[Any], wanted: Wanted, looked: Any) -> Select[Any]:
    keys = (looked.c.sort_key, looked.c.birth)
    return query.order_by(*(one.desc() if wanted.descending else one.asc() for one in keys))


def _beyond(
    wanted: Wanted, part: Part, place: tuple[float, int]
) -> Iterator[ColumnElement[bool]]:  # fmt: skip
    value, birth = place
    if part.near is not None:  # what the key is computed from, so that the index begins there
        column, shift = part.near
        bound = value + shift
        yield column <= bound + _SLACK if wanted.descending else column >= bound - _SLACK
    if part.key is part.birth:
        yield part.birth < birth if wanted.descending else part.birth > birth
        return
    mine, theirs = tuple_(part.key, part.birth), tuple_(value, birth)
    yield mine < theirs if wanted.descending else mine > theirs


_SLACK = 1e-9


def _cursor(wanted: Wanted, value: Any, birth: int) -> str:
    data = json.dumps([wanted.sort, wanted.descending, value, birth]).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _place(wanted: Wanted, cursor: str) -> tuple[float, int]:
    bad = ConfigError(
        "bad cursor", expected="the one of the last page, with the same order",
        got=repr(cursor)[:60],
    )  # fmt: skip
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        sort, descending, value, birth = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError) as err:
        raise bad from err
    numbers = type(birth) is int and type(value) in (int, float)
    if not numbers or (sort, descending) != (wanted.sort, wanted.descending):
        raise bad
    if not (0 <= birth < 2**63 and math.isfinite(value) and abs(value) < 2**63):
        raise bad
    return value, birth
