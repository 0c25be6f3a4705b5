"""The language of candidate filters: ``batch_independent and live_nodes <= 6``.

A grammar of its own, with its own parser: nothing is evaluated and no text of a request reaches a
database. This file must not know how a filter is applied.

    filter     = term { "or" term }
    term       = factor { "and" factor }
    factor     = "not" factor | "(" filter ")" | comparison
    comparison = name [ ( "<" | "<=" | ">" | ">=" | "=" | "==" | "!=" ) value ]
               | name "in" "(" value { "," value } ")"
    value      = number | 'text' | true | false
    name       = property, or score.ANCHOR
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

from evosearch.errors import EvosearchError

MAX_CHARACTERS = 1000
MAX_DEPTH = 20
MAX_COMPARISONS = 50

Value = float | str | bool
Kind = Literal["number", "text", "flag"]

PROPERTIES: dict[str, Kind] = {
    "birth": "number",
    "outcome": "number",
    "state": "text",
    "origin": "text",
    "live_nodes": "number",
    "mean_score": "number",
    "seeds": "number",
    "seconds": "number",
    "step_time": "number",
    "gain": "number",
    "gain_low": "number",
    "audit": "flag",
    "on_front": "flag",
    "batch_independent": "flag",
    "causal_safe": "flag",
    "pointwise": "flag",
    "mixes_batch": "flag",
    "mixes_channels": "flag",
    "mixes_positions": "flag",
    "scale_invariant": "flag",
    "shift_invariant": "flag",
    "symmetry": "text",
    "bounded": "flag",
    "monotone": "text",
    "parameters_per_channel": "number",
    "flops": "number",
    "bytes_moved": "number",
    "duplicate_of": "number",
    "rejection_code": "text",
    "rejected_by": "text",
    "failure_cause": "text",
    "worker": "text",
}
"""What may stand in a filter besides ``score.ANCHOR``, which is a number.

``origin``: random, mutation or enqueued (by a person, or by ``space.start_from``).
``outcome``: number of the event that told an evaluated candidate's scores; others have none.
``step_time``: a training step's time beside the search's first baseline, 1.3 for 30 % more.
``gain``: mean score over that of the better baseline; ``gain_low``: the bound of its interval.
``rejected_by``: who threw a rejected candidate out: controller (a refused formula), signal,
surrogate, quality, stability, hurdle or training (anything else while it was trained).
"""

OPERATORS = ("<=", ">=", "==", "!=", "<", ">", "=")


class WhereError(EvosearchError):
    """A filter that cannot be read; ``position`` is a 0-based character offset."""

    def __init__(self, what: str, position: int, **context: str | None) -> None:
        self.position = position
        super().__init__(what, where=f"character {position + 1} of where", **context)


@dataclass(frozen=True, slots=True)
class Compare:
    """A property against values; several only for ``in``. ``op``: <, <=, >, >=, ==, !=, in."""

    name: str
    op: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True where the inner filter is false."""

    inner: Filter


@dataclass(frozen=True, slots=True)
class Both:
    """True where all (``and``), or any (``or``), of the parts are."""

    op: Literal["and", "or"]
    parts: tuple[Filter, ...]


Filter = Compare | Not | Both


def parse_where(text: str) -> Filter:
    """The filter that the text says.

    Raises:
        WhereError: it says none; the position is that of the first thing that does not fit.

    Example:
        >>> parse_where("live_nodes <= 6 and not on_front").op
        'and'
    """
    if len(text) > MAX_CHARACTERS:
        raise WhereError(
            "the filter is too long", MAX_CHARACTERS,
            expected=f"at most {MAX_CHARACTERS} characters", got=str(len(text)),
        )  # fmt: skip
    reader = _Reader(text)
    found = reader.either(0)
    if reader.kind != "end":
        reader.fail("and, or, or the end")
    return found


def where_terms(text: str) -> list[str]:
    """What a filter joins with ``and`` outside brackets, in its own words; else the whole.

    Example:
        >>> where_terms("pointwise and (bounded or live_nodes <= 4)")
        ['pointwise', '(bounded or live_nodes <= 4)']
    """
    terms, start, depth = list[str](), 0, 0
    for kind, token, position in _tokens(text):
        if kind == "mark":
            depth += {"(": 1, ")": -1}.get(token, 0)
        elif kind == "key" and not depth and token == "or":
            return [text.strip()]
        elif kind == "key" and not depth and token == "and":
            terms.append(text[start:position].strip())
            start = position + len(token)
    return [*terms, text[start:].strip()]


_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)
    |(?P<text>'[^']*'|"[^"]*")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)?)
    |(?P<mark><=|>=|==|!=|[<>=(),]))""",
    re.VERBOSE | re.ASCII,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "true", "false"})


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    place = 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None:
            start = place + len(text[place:]) - len(text[place:].lstrip())
            raise WhereError("unknown character", start, got=repr(text[start]))
        group = str(found.lastgroup)
        token = found.group(group)
        is_key = group == "word" and token in _KEYWORDS
        yield "key" if is_key else group, token, found.start(group)
        place = found.end()
    yield "end", "", len(text)


class _Reader:
    """One pass over the tokens; each method reads one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._count = 0
        self.kind, self.token, self.position = next(self._tokens)

    def fail(self, expected: str) -> NoReturn:
        raise WhereError(
            "the filter cannot be read", self.position, expected=expected,
            got=repr(self.token[:30]) if self.kind != "end" else "the end",
        )  # fmt: skip

    def _next(self) -> None:
        self.kind, self.token, self.position = next(self._tokens)

    def _take(self, kind: str, token: str) -> bool:
        if (self.kind, self.token) != (kind, token):
            return False
        self._next()
        return True

    def either(self, depth: int) -> Filter:
        parts = [self.both(depth)]
        while self._take("key", "or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Both("or", tuple(parts))

    def both(self, depth: int) -> Filter:
        parts = [self.factor(depth)]
        while self._take("key", "and"):
            parts.append(self.factor(depth))
        return parts[0] if len(parts) == 1 else Both("and", tuple(parts))

    def factor(self, depth: int) -> Filter:
        if depth >= MAX_DEPTH:
            raise WhereError(
                "nested too deeply", self.position, expected=f"at most {MAX_DEPTH} levels"
            )
        if self._take("key", "not"):
            return Not(self.factor(depth + 1))
        if self._take("mark", "("):
            inner = self.either(depth + 1)
            if not self._take("mark", ")"):
                self.fail("a closing bracket")
            return inner
        return self._comparison()

    def _comparison(self) -> Compare:
        if self.kind != "word":
            self.fail("a property, not, or a bracket")
        self._count += 1
        if self._count > MAX_COMPARISONS:
            raise WhereError(
                "too many comparisons", self.position, expected=f"at most {MAX_COMPARISONS}"
            )
        name, kind = self.token, self._property()
        self._next()
        if self._take("key", "in"):
            return Compare(name, "in", self._list(kind))
        if self.kind == "mark" and self.token in OPERATORS:
            op = "==" if self.token == "=" else self.token
            if kind != "number" and op not in ("==", "!="):
                self.fail(f"= or !=, for {name} has no order")
            self._next()
            return Compare(name, op, (self._value(kind),))
        if kind != "flag":
            self.fail("a comparison such as <= 6")
        return Compare(name, "==", (True,))

    def _property(self) -> Kind:
        if self.token.startswith("score.") and len(self.token) <= 70:
            return "number"
        if self.token not in PROPERTIES:
            self.fail("one of " + ", ".join([*PROPERTIES, "score.ANCHOR"]))
        return PROPERTIES[self.token]

    def _list(self, kind: Kind) -> tuple[Value, ...]:
        if not self._take("mark", "("):
            self.fail("a bracket with values")
        values = [self._value(kind)]
        while self._take("mark", ","):
            values.append(self._value(kind))
        if not self._take("mark", ")"):
            self.fail("a comma or a closing bracket")
        return tuple(values)

    def _value(self, kind: Kind) -> Value:
        value: Value
        if kind == "number" and self.kind == "number":
            value = float(self.token)
            if not math.isfinite(value) or len(self.token) > 40:
                self.fail("a finite number")
        elif kind == "text" and self.kind == "text":
            value = self.token[1:-1]
        elif kind == "flag" and self.kind == "key" and self.token in ("true", "false"):
            value = self.token == "true"
        else:
            self.fail({"number": "a number", "text": "a quoted text",
                       "flag": "true or false"}[kind])  # fmt: skip
        self._next()
        return value
