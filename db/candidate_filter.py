"""Filters of candidates as conditions: those that an index answers, and all others.

Filters come as parsed trees and bound values; no text of a request becomes SQL. Nothing here reads.
"""

from __future__ import annotations

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
    case,
    cast,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)

from db.gain_scale import GainScale, unknown
from db.schema import candidates, check_runs
from db.schema_service import stars
from evosearch.screen import SCREEN_CODES
from evosearch.where import PROPERTIES, Both, Compare, Filter, Not, Value

ON_FRONT: tuple[ColumnElement[bool], ...] = (candidates.c.on_front, candidates.c.birth >= 0)
"""On the front. That births are not negative is always true; it decides for the front's own index
where a planner without statistics takes any index that begins with the search."""

SURROGATE_CODES = ("unpromising", "outranked")
"""Codes of candidates that the surrogate left untrained; no check ran that threw them out."""
HURDLE_CODE = "hurdle"

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

_WHOLE: dict[str, Callable[[float], int]] = {
    "<": math.ceil, "<=": math.floor, ">": math.floor, ">=": math.ceil,
}  # fmt: skip
"""Comparison -> the whole number that it comes to for whole numbers."""
MOST = 2.0**62


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which candidates, and in what order. ``stages``: rejection codes; ``text``: in formulas.

    ``births``: only these, however many they are; all where it is None.
    ``starred``: only those with, or only those without a reader's star.
    """

    states: Sequence[str] = ()
    stages: Sequence[str] = ()
    text: str = ""
    scores: tuple[tuple[str, float], ...] = ()
    where: Filter | None = None
    sort: str = "birth"
    descending: bool = True
    births: Sequence[int] | None = None
    starred: bool | None = None


class Conditions:
    """What a request asks for, split by what an index can do for it.

    ``few``: conditions that leave few candidates and have an index (the front, births by number).
    ``along``: bounds of what the page is ordered by: it begins or ends there.
    ``others``: what each candidate must be looked at for, states apart.
    """

    def __init__(
        self, search_id: str, wanted: Wanted, scale: GainScale | None, *, postgresql: bool
    ) -> None:
        self._scale, self._postgresql = scale, postgresql
        self.few: list[ColumnElement[bool]] = []
        self.along: list[ColumnElement[bool]] = []
        self.others: list[ColumnElement[bool]] = []
        if wanted.starred is not None:
            given = select(stars.c.birth).where(stars.c.search_id == search_id)
            if wanted.starred:
                self.few.append(candidates.c.birth.in_(given))
            else:
                self.others.append(candidates.c.birth.not_in(given))
        if wanted.births is not None:
            self.few.append(candidates.c.birth.in_(self._listed(wanted.births)))
        for part in _joined(wanted.where):
            narrow = _narrow(part)
            bound = _bound(part) if wanted.sort == "finished_at" else None
            if bound is not None:
                self.along.append(bound)
            elif narrow:
                self.few += narrow
            else:
                self.others.append(self._filter(part))
        if wanted.stages:
            self.others.append(candidates.c.rejection_code.in_(wanted.stages))
        if wanted.text:
            self.others.append(candidates.c.formula.contains(wanted.text, autoescape=True))
        self.others += [self.score(anchor) >= least for anchor, least in wanted.scores]

    def _listed(self, births: Sequence[int]) -> Select[tuple[int]]:
        """The births as a table of one bound value: a database takes only so many of them."""
        text = literal(json.dumps(list(births)), Text)
        if self._postgresql:
            column = func.json_array_elements_text(cast(text, JSON)).table_valued("value").c.value
            return select(cast(column, BigInteger))
        return select(func.json_each(text).table_valued("value").c.value)

    def score(self, anchor: str) -> ColumnElement[float]:
        """The mean score on an anchor, from the candidate's own row."""
        found: ColumnElement[float] = self._within(candidates.c.scores)[anchor].as_float()
        return found

    def _within(self, column: ColumnElement[Any]) -> Any:
        """A column of JSON text, to be looked into by name."""
        return cast(column, JSON) if self._postgresql else type_coerce(column, JSON)

    def _filter(self, tree: Filter) -> ColumnElement[bool]:
        """The tree as a condition that is never NULL, so that ``not`` is its complement."""
        match tree:
            case Not(inner):
                return not_(self._filter(inner))
            case Both(op, parts):
                joined = [self._filter(part) for part in parts]
                return and_(*joined) if op == "and" else or_(*joined)
            case Compare(name, op, values):
                return func.coalesce(_compare(self._column(name), op, values), False, type_=Boolean)

    def _column(self, name: str) -> ColumnElement[Any]:
        if name.startswith("score."):
            return self.score(name.removeprefix("score."))
        if name in ("gain", "gain_low"):
            if self._scale is None:
                return unknown()
            return self._scale.value() if name == "gain" else self._scale.low()
        if name == "outcome":
            return candidates.c.outcome_seq
        if name in candidates.c:
            return candidates.c[name]
        if name == "rejected_by":
            return rejected_by()
        fact = self._within(candidates.c.properties)[name]
        kind = {"flag": fact.as_boolean, "number": fact.as_float, "text": fact.as_string}
        found: ColumnElement[Any] = kind[PROPERTIES[name]]()
        return found


def rejected_by() -> ColumnElement[Any]:
    """Who threw the candidate out, as `evosearch.where` names it; NULL of all but rejected ones."""
    code = candidates.c.rejection_code
    mine = (check_runs.c.search_id == candidates.c.search_id,
            check_runs.c.birth == candidates.c.birth)  # fmt: skip
    thrown = (
        select(check_runs.c.check_name)
        .where(*mine, check_runs.c.code.is_not(None), check_runs.c.audited.is_(False))
        .order_by(check_runs.c.position.desc())
        .limit(1)
        .correlate(candidates)
        .scalar_subquery()
    )
    refused = and_(
        candidates.c.origin == "enqueued", code.in_(list(SCREEN_CODES)),
        ~exists().where(*mine).correlate(candidates),
    )  # fmt: skip
    return case(
        (candidates.c.state != "rejected", None),
        (code == HURDLE_CODE, HURDLE_CODE),
        (code.in_(SURROGATE_CODES), "surrogate"),
        (refused, "controller"),
        else_=func.coalesce(thrown, "training"),
    )


def _joined(tree: Filter | None) -> Iterator[Filter]:
    """Filters that must all hold."""
    if isinstance(tree, Both) and tree.op == "and":
        for part in tree.parts:
            yield from _joined(part)
    elif tree is not None:
        yield tree


def _narrow(tree: Filter) -> list[ColumnElement[bool]]:
    """The comparison, in the form that its index needs; none where it has no index."""
    if not isinstance(tree, Compare):
        return []
    if tree.name == "on_front" and (tree.op, tree.values) == ("==", (True,)):
        return [*ON_FRONT]
    if tree.name == "birth" and tree.op in ("==", "in"):
        return [candidates.c.birth.in_([int(one) for one in tree.values if _is_birth(one)])]
    return []


def _bound(tree: Filter) -> ColumnElement[bool] | None:
    """A bound of the number of the outcome, as whole numbers; None for any other filter."""
    if not isinstance(tree, Compare) or tree.name != "outcome" or tree.op not in _WHOLE:
        return None
    (value,) = tree.values
    number = max(-MOST, min(MOST, float(value)))
    found: ColumnElement[bool]
    found = _OPERATORS[tree.op](candidates.c.outcome_seq, _WHOLE[tree.op](number))
    return found


def _is_birth(value: Value) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) < 2**53


def _compare(column: ColumnElement[Any], op: str, values: tuple[Any, ...]) -> ColumnElement[bool]:
    if all(isinstance(value, float) for value in values):
        column = cast(column, Float)
    found: ColumnElement[bool]
    found = column.in_(values) if op == "in" else _OPERATORS[op](column, values[0])
    return found
