"""Charts as SVG text, to look at a benchmark's figures: lines, and bands over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 70, 210, 40, 50
COLOURS = ("#1b6ca8", "#c8553d", "#2f7d4f", "#7a4fa3", "#a07a00", "#3d8f8f", "#8c4a6b", "#555555")

Lines = Mapping[str, Mapping[float, float]]
"""Name -> x -> y; all x and y are positive."""


class Band(NamedTuple):
    """A point of a line with its range."""

    x: float
    low: float
    middle: float
    high: float


def write_chart(path: Path, title: str, x_name: str, y_name: str, lines: Lines) -> None:
    """Write the lines with a legend over two logarithmic axes; each point is marked."""
    xs = [x for line in lines.values() for x in line]
    ys = [y for line in lines.values() for y in line.values()]
    low, high = _decades(ys)
    first, last = math.log10(min(xs)), math.log10(max(xs))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - first) / (last - first or 1.0)
        up = (math.log10(y) - low) / (high - low)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_text(LEFT, 22, title, size=15), _text(LEFT, HEIGHT - 12, x_name)]
    parts.append(_text(8, TOP - 8, y_name))
    for power in range(low, high + 1):
        _, y = at(xs[0], 10.0**power)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{10.0**power:g}", anchor="end"))
    for x in sorted(set(xs)):
        across, _ = at(x, 10.0**low)
        parts.append(_text(across, HEIGHT - BOTTOM + 18, f"{x:,.0f}", anchor="middle"))
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        points = [at(x, y) for x, y in sorted(line.items())]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(_text(WIDTH - RIGHT + 14, TOP + 18 * index + 8, name, colour=colour))
    _write(path, parts)


def write_bands(
    path: Path, title: str, x_name: str, y_name: str, lines: Mapping[str, Sequence[Band]]
) -> None:
    """Write the lines with a legend over two plain axes from zero; ranges are shaded."""
    last = max(one.x for line in lines.values() for one in line) or 1.0
    top = max(one.high for line in lines.values() for one in line) or 1.0

    def at(x: float, y: float) -> str:
        across = LEFT + x / last * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [_text(LEFT, 22, title, size=15), _text(LEFT, HEIGHT - 12, x_name)]
    parts.append(_text(8, TOP - 8, y_name))
    for part in range(5):
        x, y = at(last * part / 4, top * part / 4).split(",")
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, float(y) + 4, f"{top * part / 4:.3g}", anchor="end"))
        below = HEIGHT - BOTTOM + 18
        parts.append(_text(float(x), below, f"{last * part / 4:,.0f}", anchor="middle"))
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        edge = [at(one.x, one.low) for one in line] + [at(one.x, one.high) for one in line[::-1]]
        middle = " ".join(at(one.x, one.middle) for one in line)
        dashes = "" if index < len(COLOURS) else ' stroke-dasharray="5 3"'
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{colour}" opacity="0.08"/>')
        parts.append(f'<polyline points="{middle}" fill="none" stroke="{colour}"{dashes}/>')
        parts.append(_text(WIDTH - RIGHT + 14, TOP + 18 * index + 8, name, colour=colour))
    _write(path, parts)


def _write(path: Path, parts: Sequence[str]) -> None:
    body = "\n".join(parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" '
        f'fill="white"/>\n{body}\n</svg>\n'
    )


def _decades(values: list[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = "#222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
