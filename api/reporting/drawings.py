"""Two plain pictures of a table's numbers: bars from zero, and differences with their intervals.

Each row has its label on the left and its number in words on the right, so that a picture alone
can be read. Nothing is computed here but lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from evosearch.stats import Interval

_LABEL, _SIDE, _VALUE, _STEP, _TOP = 210, 330, 170, 22, 12
_WIDTH = _LABEL + _SIDE + _VALUE
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
    ends = [0.0, *(end for _, one in rows for end in one if math.isfinite(end))]
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low) or 1.0
    low, high = low - room, high + room

    def x_of(value: float) -> float:
        return _LABEL + _SIDE * (value - low) / (high - low)

    bottom = _TOP + len(rows) * _STEP
    parts = [
        f'<line x1="{x_of(0.0):.1f}" y1="{_TOP}" x2="{x_of(0.0):.1f}" y2="{bottom}" '
        f'stroke="{_GREY}" stroke-dasharray="4 4"/>'
    ]
    for place, (label, one) in enumerate(rows):
        y = _TOP + place * _STEP
        parts += _label(y, label)
        if not math.isfinite(one.value):
            continue
        told = f"{one.value:+.3f}"
        if math.isfinite(one.low):
            told += f" [{one.low:+.3f}, {one.high:+.3f}]"
            parts.append(
                f'<line x1="{x_of(one.low):.1f}" y1="{y + 11}" x2="{x_of(one.high):.1f}" '
                f'y2="{y + 11}" stroke="{_BAR}" stroke-width="2"/>'
            )
        parts.append(f'<circle cx="{x_of(one.value):.1f}" cy="{y + 11}" r="4" fill="{_BAR}"/>')
        parts.append(_text(_LABEL + _SIDE + 6, y + 15, told))
    return _svg(title, len(rows), parts)


def _label(y: float, label: str) -> Iterator[str]:
    cut = label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
    yield (
        f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end" fill="{_INK}">{escape(cut)}</text>'
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}">{escape(text)}</text>'


def _svg(title: str, rows: int, parts: Sequence[str]) -> str:
    height = 2 * _TOP + rows * _STEP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="11">'
    )
    ground = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *parts, "</svg>", ""])
