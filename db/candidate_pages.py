"""Pages of candidates by filter and order, stable while candidates come in.

A cursor is the place of the last row in the order (its sort value and birth), so that rows which
come in meanwhile shift nothing. Filters come as parsed trees and bound values; no text of a
request becomes SQL.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    Float,
    Select,
    Text,
    and_,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)

from db.engine import begin
from db.gain_scale import GainScales, unknown
from db.schema import candidates
from db.sql_store import SqlStore
from db.step_time import step_time
from evosearch.errors import ConfigError
from evosearch.where import PROPERTIES, Both, Compare, Filter, Not

SORTS = (
    "birth", "mean_score", "live_nodes", "seconds", "seeds", "finished_at", "step_time", "gain",
    "gain_low",
)  # fmt: skip
"""Columns that a page may be ordered by, besides ``score.ANCHOR``.

``gain`` and ``gain_low``: over the better baseline, and its lower bound; the mean score has the
same order before a baseline is trained.
"""

COLUMNS = (
    "birth", "state", "origin", "formula", "live_nodes", "mean_score", "scores", "seeds",
    "on_front", "batch_independent", "causal_safe", "pointwise", "audit", "audit_passed",
    "duplicate_of", "rejection_code", "rejection_detail", "failure_cause", "failure_detail",
    "note", "digest", "fingerprint", "worker", "seconds", "queued_at", "finished_at", "properties",
)  # fmt: skip
"""What a list shows of a candidate; the graph is shown one at a time."""


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which candidates, and in what order. ``stages``: rejection codes; ``text``: in formulas.

    ``births``: only these, however many they are; all where it is None.
    """

    states: Sequence[str] = ()
    stages: Sequence[str] = ()
    text: str = ""
    scores: tuple[tuple[str, float], ...] = ()
    where: Filter | None = None
    sort: str = "birth"
    descending: bool = True
    births: Sequence[int] | None = None


class CandidatePages:
    """Pages and streams of one store's candidates."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine
        self.gains = GainScales(store)
        self._json = store.engine.dialect.name == "postgresql"

    def page(
        self, search_id: str, wanted: Wanted, limit: int, cursor: str | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Some rows, and the cursor of the next page (None after the last one).

        Raises:
            ConfigError: the sort is unknown, or the cursor is none that this order gave out.
        """
        key = self._key(search_id, wanted.sort)
        order = [key.desc(), candidates.c.birth.desc()]
        if not wanted.descending:
            order = [key.asc(), candidates.c.birth.asc()]
        query = select(*(candidates.c[name] for name in COLUMNS), key.label("sort_key"))
        query = query.where(
            candidates.c.search_id == search_id, *self._conditions(search_id, wanted)
        )
        if wanted.sort != "birth":
            query = query.where(key.is_not(None))
        if cursor is not None:
            query = query.where(self._beyond(wanted, key, cursor))
        with begin(self._engine) as connection:
            rows = connection.execute(query.order_by(*order).limit(limit + 1)).mappings().all()
        scale = self.gains.of(search_id)
        found = [_plain(row) for row in rows[:limit]]
        for row in found:
            told = scale and scale.gain(row["birth"], row["mean_score"], row["seeds"])
            row["gain"] = told and told._asdict()
            row["gain_seeds"] = scale.seeds(row["birth"], row["seeds"]) if scale and told else 0
        if len(rows) <= limit:
            return found, None
        last = rows[limit - 1]
        return found, _cursor(wanted, last["sort_key"], last["birth"])

    def stream(self, search_id: str, wanted: Wanted, chunk: int = 500) -> Iterator[dict[str, Any]]:
        """All rows, page by page: no transaction stays open while a client reads."""
        cursor: str | None = None
        while True:
            rows, cursor = self.page(search_id, wanted, chunk, cursor)
            yield from rows
            if cursor is None:
                return

    def _key(self, search_id: str, sort: str) -> ColumnElement[Any]:
        if sort.startswith("score."):
            return self._score(sort.removeprefix("score."))
        if sort not in SORTS:
            raise ConfigError(
                "unknown order", expected=", ".join((*SORTS, "score.ANCHOR")), got=repr(sort)[:60]
            )
        if sort == "finished_at":  # a moment cannot stand in a cursor; the order is the same
            return candidates.c.outcome_seq
        if sort == "step_time":
            return step_time(self._engine, search_id)
        if sort in ("gain", "gain_low"):
            return self._gain(search_id, sort, candidates.c.mean_score)
        return candidates.c[sort]

    def _gain(
        self, search_id: str, name: str, otherwise: ColumnElement[float]
    ) -> ColumnElement[float]:
        scale = self.gains.of(search_id)
        if scale is None:
            return otherwise
        return scale.value() if name == "gain" else scale.low()

    def _score(self, anchor: str) -> ColumnElement[float]:
        found: ColumnElement[float] = self._within(candidates.c.scores)[anchor].as_float()
        return found

    def _within(self, column: ColumnElement[Any]) -> Any:
        """A column of JSON text, to be looked into by name."""
        return cast(column, JSON) if self._json else type_coerce(column, JSON)

    def _property(self, name: str) -> ColumnElement[Any]:
        """A column, or a fact inside the candidate's properties."""
        if name in candidates.c:
            return candidates.c[name]
        fact = self._within(candidates.c.properties)[name]
        kind = {"flag": fact.as_boolean, "number": fact.as_float, "text": fact.as_string}
        found: ColumnElement[Any] = kind[PROPERTIES[name]]()
        return found

    def _conditions(self, search_id: str, wanted: Wanted) -> Iterator[ColumnElement[bool]]:
        if wanted.births is not None:
            yield candidates.c.birth.in_(self._listed(wanted.births))
        if wanted.states:
            yield candidates.c.state.in_(wanted.states)
        if wanted.stages:
            yield candidates.c.rejection_code.in_(wanted.stages)
        if wanted.text:
            yield candidates.c.formula.contains(wanted.text, autoescape=True)
        for anchor, least in wanted.scores:
            yield self._score(anchor) >= least
        if wanted.where is not None:
            yield self._filter(search_id, wanted.where)

    def _listed(self, births: Sequence[int]) -> Select[tuple[int]]:
        """The births as a table of one bound value: a database takes only so many of them."""
        text = literal(json.dumps(list(births)), Text)
        if self._json:
            column = func.json_array_elements_text(cast(text, JSON)).table_valued("value").c.value
            return select(cast(column, BigInteger))
        return select(func.json_each(text).table_valued("value").c.value)

    def _filter(self, search_id: str, tree: Filter) -> ColumnElement[bool]:
        """The tree as a condition that is never NULL, so that ``not`` is its complement."""
        match tree:
            case Not(inner):
                return not_(self._filter(search_id, inner))
            case Both(op, parts):
                joined = [self._filter(search_id, part) for part in parts]
                return and_(*joined) if op == "and" else or_(*joined)
            case Compare(name, op, values):
                column = self._column(search_id, name)
                return func.coalesce(_compare(column, op, values), False, type_=Boolean)

    def _column(self, search_id: str, name: str) -> ColumnElement[Any]:
        if name.startswith("score."):
            return self._score(name.removeprefix("score."))
        if name == "step_time":
            return step_time(self._engine, search_id)
        if name in ("gain", "gain_low"):
            return self._gain(search_id, name, unknown())
        return self._property(name)

    def _beyond(self, wanted: Wanted, key: ColumnElement[Any], cursor: str) -> ColumnElement[bool]:
        value, birth = _place(wanted, cursor)
        if wanted.sort == "birth":
            same: ColumnElement[bool] = candidates.c.birth < birth
            return same if wanted.descending else candidates.c.birth > birth
        if wanted.descending:
            return or_(key < value, and_(key == value, candidates.c.birth < birth))
        return or_(key > value, and_(key == value, candidates.c.birth > birth))


def _compare(column: ColumnElement[Any], op: str, values: tuple[Any, ...]) -> ColumnElement[bool]:
    if all(isinstance(value, float) for value in values):
        column = cast(column, Float)
    found: ColumnElement[bool]
    found = column.in_(values) if op == "in" else _OPERATORS[op](column, values[0])
    return found


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


def _plain(row: Any) -> dict[str, Any]:
    found = {name: row[name] for name in COLUMNS}
    for name in ("scores", "properties"):
        found[name] = json.loads(found[name]) if found[name] else None
    return found
