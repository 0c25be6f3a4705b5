"""What choosing the highest of many scores does to them: search score against fresh seeds.

A candidate that one lucky seed brought to the top falls when it is measured again; a baseline was
not chosen by its score and does not. The plot shows how far. Points are scores, of which higher is
better; axes and table show the values in the objective's unit, worse ones first.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

from api.reporting.blocks import Picture, Table
from api.reporting.gather import Facts
from api.reporting.scores import together
from api.text import changed, heading, shown
from evosearch.gain import mean_margins
from evosearch.objectives import Objective
from evosearch.stats import Interval, mean_interval
from evosearch.streams import evaluation_seed

_SIDE, _LEFT, _BOTTOM, _TOP = 360, 66, 46, 14
_WIDTH = _LEFT + _SIDE + 120
_LINE = 13
"""Of a label."""
NAMED = _SIDE // _LINE
"""Points with a label, baselines and the leader first; the table has all."""
_COLORS = {"candidate": "#2563eb", "leader": "#b91c1c", "baseline": "#6b7280"}


@dataclass(frozen=True, slots=True)
class Point:
    """Mean scores over anchors: of the first seed, and of the fresh ones with their margin."""

    label: str
    kind: str
    first: float
    fresh: float
    margin: float
    seeds: int


def points(facts: Facts, best: int | None) -> list[Point]:
    """Candidates that have fresh seeds on ``select``, then the baselines that have."""
    anchors, found = facts.state.config.anchor_names, []
    begun = evaluation_seed(facts.state.config.seed, "search", 0)
    noise = facts.samples.noise()
    rows: list[tuple[str, str, list[list[float]]]] = []
    for birth, member in facts.state.members.items():
        if member.evaluated and member.seeds > 1:
            kind = "leader" if birth == best else "candidate"
            rows.append((str(birth), kind, [member.scores[anchor] for anchor in anchors]))
    for name, by_anchor in facts.samples.baselines.items():
        if all(begun in one for one in by_anchor):
            others = [[score for seed, score in one.items() if seed != begun] for one in by_anchor]
            scores = [[one[begun], *rest] for one, rest in zip(by_anchor, others, strict=True)]
            rows.append((name, "baseline", scores))
    for label, kind, scores in rows:
        seeds = min(len(one) for one in scores) - 1
        if seeds < 1:
            continue
        found.append(
            Point(
                label, kind, float(np.mean([one[0] for one in scores])),
                float(np.mean([np.mean(one[1:]) for one in scores])),
                float(mean_margins(noise, np.array([float(seeds)]))[0]), seeds,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (one.kind == "baseline", -one.fresh))


def flattery(found: list[Point]) -> Interval | None:
    """Mean of first minus fresh score over the candidates, with its 95 % interval."""
    falls = [one.first - one.fresh for one in found if one.kind != "baseline"]
    if len(falls) < 2:
        return None
    return mean_interval(np.array(falls), level=0.95, seed=0)


def unit(facts: Facts) -> Objective:
    """What a mean over the anchors is a value of."""
    return together([facts.state.config.objective(one) for one in facts.state.config.anchor_names])


def picture(found: list[Point], goal: Objective) -> Picture:
    """The plot with its numbers; below the line is what became worse."""
    fall = flattery(found)
    told = ""
    if fall is not None:
        change = {"value": -fall.value, "low": -fall.high, "high": -fall.low}
        told = (
            f"From the first seed to the fresh ones candidates changed by {changed(change, goal)} "
            "in the mean (95 %, bootstrap over candidates, given these seeds: where the first one "
            "is an easy or a hard one for all, the baselines show it too). "
        )
    data = Table(
        "winners-curve", "search score and fresh seeds",
        ("layer", "kind", heading("search score", goal), "fresh seeds' mean", "margin",
         "fresh seeds"),
        tuple(
            (one.label, one.kind, shown(one.first, goal, digits=4),
             shown(one.fresh, goal, digits=4),
             "-" if np.isnan(one.margin) else f"{abs(goal.value(one.margin)):.4f}", str(one.seeds))
            for one in found
        ),
        left=frozenset({0, 1}), folded=True,
    )  # fmt: skip
    return Picture(
        "winners-curve", "Winner's curve: what one seed promised and what fresh seeds gave",
        _svg(found, goal), data,
        told + "Mean over anchors on select, worse values to the left and below. On the line "
        "nothing was flattered, and a baseline was chosen by no seed; bars are 95 % intervals from "
        "the spread over seeds of all layers, pooled.",
    )  # fmt: skip


def _svg(found: list[Point], goal: Objective) -> str:
    ends = [end for one in found for end in (
        one.first, one.fresh, one.fresh - np.nan_to_num(one.margin),
        one.fresh + np.nan_to_num(one.margin))]  # fmt: skip
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.01
    low, high = low - room, high + room

    def x_of(value: float) -> float:
        return _LEFT + _SIDE * (value - low) / (high - low)

    def y_of(value: float) -> float:
        return _TOP + _SIDE * (high - value) / (high - low)

    height = _TOP + _SIDE + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="11" '
        'fill="#111827">',
        "<title>Winner's curve</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" '
        'stroke="#9ca3af"/>',
        f'<line x1="{x_of(low):.1f}" y1="{y_of(low):.1f}" x2="{x_of(high):.1f}" '
        f'y2="{y_of(high):.1f}" stroke="#9ca3af" stroke-dasharray="4 4"/>',
    ]
    for tick in _ticks(low, high):
        parts += [
            f'<text x="{x_of(tick):.1f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">'
            f"{goal.value(tick):g}</text>",
            f'<text x="{_LEFT - 6}" y="{y_of(tick) + 4:.1f}" text-anchor="end">'
            f"{goal.value(tick):g}</text>",
        ]
    parts += [
        f'<text x="{_LEFT + _SIDE / 2}" y="{height - 8}" text-anchor="middle">'
        f"{escape(heading('search score', goal))}, the seed that chose it</text>",
        f'<text transform="translate(14 {_TOP + _SIDE / 2}) rotate(-90)" text-anchor="middle">'
        "mean of fresh seeds</text>",
    ]
    named = sorted(found, key=lambda one: one.kind == "candidate")[:NAMED]
    heights = _apart([y_of(one.fresh) - 5 for one in named])
    at_label = {one.label: y for one, y in zip(named, heights, strict=True)}
    for one in reversed(found):
        x, y, color = x_of(one.first), y_of(one.fresh), _COLORS[one.kind]
        if not np.isnan(one.margin):
            top, bottom = y_of(one.fresh + one.margin), y_of(one.fresh - one.margin)
            parts.append(
                f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" '
                f'stroke="{color}" stroke-opacity="0.5"/>'
            )
        mark = (
            f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"/>'
            if one.kind == "baseline"
            else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{color}"/>'
        )
        parts.append(mark)
        if one.label not in at_label:
            continue
        aside = at_label[one.label]
        parts += [f'<text x="{_LEFT + _SIDE + 8}" y="{aside:.1f}" fill="{color}">'
                        f"{escape(one.label)}</text>",
                  f'<line x1="{x + 5:.1f}" y1="{y:.1f}" x2="{_LEFT + _SIDE + 6}" '
                  f'y2="{aside - 4:.1f}" stroke="{color}" stroke-opacity="0.25"/>',
                  ]  # fmt: skip
    return "\n".join([*parts, "</svg>", ""])


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between the two."""
    power = 10.0 ** np.floor(np.log10(high - low))
    step = next(s for s in (0.2, 0.25, 0.5, 1.0, 2.0) if (high - low) / (s * power) < 7) * power
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [float(round(one * step, 6)) for one in range(first, last + 1)]


def _apart(heights: list[float]) -> list[float]:
    """Heights of labels, moved no further than needed for none to cover another."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    found = list(heights)
    for before, place in pairwise(order):
        found[place] = max(found[place], found[before] + _LINE)
    below = float(_TOP + _SIDE)
    for place in reversed(order):  # back up where they would leave the plot
        found[place] = min(found[place], below)
        below = found[place] - _LINE
    return found
