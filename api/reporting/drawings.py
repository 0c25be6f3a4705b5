"""Three plain pictures of a table's numbers: bars from zero, differences with their intervals, and
panels side by side, one for each column.

Each row has its label on the left; bars and differences have their number in words on the right,
and each panel has its own scale below, so that a picture alone can be read. Nothing is computed
here but lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from evosearch.stats import Interval

_LABEL, _SIDE, _VALUE, _STEP, _TOP = 210, 330, 170, 22, 12
_WIDTH = _LABEL + _SIDE + _VALUE
_PANEL, _GAP = 150, 14
LONGEST = 32
"""Signs of a label; the table has all of it."""
_INK, _BAR, _GREY = "#111827", "#2563eb", "#9ca3af"


class Bar(NamedTuple):
    """A row: its label, the length of its bar, and the number in words."""

    label: str
    value: float
    told: str


def bars(title: str, rows: Sequence[Bar]) -> str:
    """The SVG of rows from zero to the largest; their values are not negative."""
    most = max((row.value for row in rows), default=0.0) or 1.0
    parts: list[str] = []
    for place, row in enumerate(rows):
        y, length = _TOP + place * _STEP, _SIDE * row.value / most
        parts += _label(y, row.label)
        parts.append(
            f'<rect x="{_LABEL}" y="{y + 3}" width="{length:.1f}" height="{_STEP - 7}" '
            f'fill="{_BAR}"/>'
        )
        parts.append(_text(_LABEL + length + 6, y + 15, row.told))
    return _svg(title, len(rows), parts)


def counts(title: str, rows: Sequence[tuple[str, int]]) -> str:
    """The SVG of counts, whose bars grow with the number of digits."""
    return bars(title, [Bar(name, math.log10(1 + number), f"{number:,}") for name, number in rows])


def differences(title: str, rows: Sequence[tuple[str, Interval]]) -> str:
    """The SVG of differences with their intervals around a line at zero; NaN is left out."""
    scale = _Scale.of([one for _, one in rows], _LABEL, _SIDE, zero=True)
    parts = [_zero(scale, len(rows))]
    for place, (label, one) in enumerate(rows):
        y = _TOP + place * _STEP
        parts += _label(y, label)
        if not math.isfinite(one.value):
            continue
        told = f"{one.value:+.3f}"
        if math.isfinite(one.low):
            told += f" [{one.low:+.3f}, {one.high:+.3f}]"
        parts += _mark(scale, y, one)
        parts.append(_text(_LABEL + _SIDE + 6, y + 15, told))
    return _svg(title, len(rows), parts)


def dot(value: float | None) -> Interval:
    """A value without an interval; NaN, which is not drawn, where there is none."""
    return Interval(math.nan if value is None else value, math.nan, math.nan)


def panels(
    title: str, labels: Sequence[str], columns: Sequence[tuple[str, Sequence[Interval]]], *,
    zero: bool = False,
) -> str:  # fmt: skip
    """The SVG of a table of numbers: a panel for each column, a row for each label.

    ``columns``: heading, and values with their intervals in the order of the labels; NaN is left
    out. ``zero``: the panels hold differences, around a line at zero.
    """
    parts: list[str] = []
    for place, label in enumerate(labels, 1):
        parts += _label(_TOP + place * _STEP, label)
    for number, (head, found) in enumerate(columns):
        left = _LABEL + number * (_PANEL + _GAP)
        scale = _Scale.of(found, left, _PANEL, zero=zero)
        bottom = _TOP + (len(labels) + 1) * _STEP
        parts += [
            _text(left + _PANEL / 2, _TOP + 12, _cut(head, 24), "middle"),
            f'<rect x="{left}" y="{_TOP + _STEP - 2}" width="{_PANEL}" '
            f'height="{len(labels) * _STEP + 2}" fill="none" stroke="{_GREY}"/>',
            _text(left, bottom + 14, f"{scale.low:.3g}"),
            _text(left + _PANEL, bottom + 14, f"{scale.high:.3g}", "end"),
        ]
        if zero:
            parts.append(_zero(scale, len(labels), top=_TOP + _STEP))
        for place, one in enumerate(found, 1):
            if math.isfinite(one.value):
                parts += _mark(scale, _TOP + place * _STEP, one)
    width = _LABEL + len(columns) * (_PANEL + _GAP)
    return _svg(title, len(labels) + 2, parts, width)


class _Scale(NamedTuple):
    """Where values from ``low`` to ``high`` stand: ``side`` wide, from ``left`` on."""

    low: float
    high: float
    left: float
    side: float

    @classmethod
    def of(cls, found: Sequence[Interval], left: float, side: float, *, zero: bool) -> _Scale:
        """The scale that holds all ends, and zero where that is wanted."""
        ends = [end for one in found for end in one if math.isfinite(end)]
        if zero or not ends:
            ends.append(0.0)
        low, high = min(ends), max(ends)
        room = 0.04 * (high - low) or 0.04 * abs(high) or 1.0
        return cls(low - room, high + room, left, side)

    def x_of(self, value: float) -> float:
        return self.left + self.side * (value - self.low) / (self.high - self.low)


def _zero(scale: _Scale, rows: int, top: float = _TOP) -> str:
    x = scale.x_of(0.0)
    return (
        f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + rows * _STEP}" '
        f'stroke="{_GREY}" stroke-dasharray="4 4"/>'
    )


def _mark(scale: _Scale, y: float, one: Interval) -> Iterator[str]:
    """A dot at the value, on a line from end to end of its interval if it has one."""
    if math.isfinite(one.low):
        yield (
            f'<line x1="{scale.x_of(one.low):.1f}" y1="{y + 11}" x2="{scale.x_of(one.high):.1f}" '
            f'y2="{y + 11}" stroke="{_BAR}" stroke-width="2"/>'
        )
    yield f'<circle cx="{scale.x_of(one.value):.1f}" cy="{y + 11}" r="4" fill="{_BAR}"/>'


def _label(y: float, label: str) -> Iterator[str]:
    yield _text(_LABEL - 8, y + 15, _cut(label, LONGEST), "end")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_INK}">{escape(text)}</text>'
    )


def _svg(title: str, rows: int, parts: Sequence[str], width: float = _WIDTH) -> str:
    height = 2 * _TOP + rows * _STEP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
    )
    ground = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *parts, "</svg>", ""])
