"""Comparisons of searches by their paths: how much each spends to be as good as another.

A path is a list of points (training steps, seconds, hypervolume on held-out seeds), one per change;
after its last point a search stays as it is. A row is what a study keeps of one search:
``variant``, ``seed``, ``path``, ``budget`` (of steps), and at the end ``steps``, ``seconds``,
``hypervolume``.
Pure functions; nothing is searched here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evosearch.stats import paired_interval
from tests.benchmarks.chart import Band
from tests.benchmarks.rivals import KINDS, RIVALS, WANTED

Row = Mapping[str, Any]
AXES = ("steps", "seconds")
GRID = 60
RESAMPLES = 2000
ANYTHING = 1e-12
"""A hypervolume above 0."""
DEFAULT = "default"


def reached(path: Sequence[Sequence[float]], level: float, axis: int, *, stays: bool) -> float:
    """Where along an axis (0 steps, 1 seconds) the path comes to the level; infinite if never.

    ``stays``: for good, else for the first time.
    """
    if level <= 0.0:
        return 0.0
    at = math.inf
    for point in path:
        if point[2] >= level:
            if at == math.inf:
                at = float(point[axis])
            if not stays:
                return at
        else:
            at = math.inf
    return at


def along(row: Row) -> float:
    """The mean hypervolume that a search has over the training steps of its budget."""
    points = [(step, value) for step, _, value in row["path"] if step < row["budget"]]
    ends = [*(step for step, _ in points[1:]), row["budget"]]
    pieces = zip(points, ends, strict=True) if points else ()
    return sum((end - at) * value for (at, value), end in pieces) / float(row["budget"])


def over_default(rows: Sequence[Row], variant: str) -> dict[str, float] | None:
    """How much more hypervolume the variant has along its way than the default, seed by seed.

    A share of the default's mean, with Student's interval (95 %) of the mean of differences;
    ``seeds``: those that both searched. None where these are fewer than two, or for the default.
    """
    defaults = {row["seed"]: row for row in rows if row["variant"] == DEFAULT}
    mine = {row["seed"]: row for row in rows if row["variant"] == variant}
    seeds = [seed for seed in mine if seed in defaults]
    theirs = np.array([along(defaults[seed]) for seed in seeds])
    if variant == DEFAULT or len(seeds) < 2 or not theirs.any():
        return None
    ours = np.array([along(mine[seed]) for seed in seeds])
    found = paired_interval((ours - theirs) / float(theirs.mean()))
    return {"seeds": len(seeds), **{k: round(v, 6) for k, v in found._asdict().items()}}


def median(values: Sequence[float]) -> dict[str, float | None]:
    """Median with its bootstrap interval; None stands for infinity (the level is not reached).

    The upper of two middle values, so that an infinity never mixes with a number.
    """
    found = np.sort(np.asarray(values, dtype=float))
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.choice(found, size=(RESAMPLES, len(found))), axis=1)[:, len(found) // 2]
    low, high = np.sort(drawn)[[int(0.025 * RESAMPLES), int(0.975 * RESAMPLES) - 1]]
    finite = {"value": found[len(found) // 2], "low": low, "high": high}
    return {name: round(float(v), 6) if math.isfinite(v) else None for name, v in finite.items()}


def compare(rows: Sequence[Row], rival: str, variant: str) -> dict[str, Any]:
    """What the variant needs to have the rival's last hypervolume, seed by seed.

    ``seeds``: those compared. ``nothing_to_reach``: seeds left out, for the rival ended at 0 there.
    By axis, medians: ``needed`` and ``share`` (of all that the rival spent) until it has as much
    *and keeps it*; ``first_touch``: the share until it has as much for the first time;
    ``of_rivals_own``: ``needed`` over what the rival had spent when it first had as much;
    ``reached_by``: the share of seeds that come there for good. Without a seed there are no axes.
    ``share_of_all``: by axis, the share over all seeds; on those that are left out above until the
    variant's front is worth anything, which is more than the rival has there.
    """
    theirs = {row["seed"]: row for row in rows if row["variant"] == rival}
    ours = {row["seed"]: row for row in rows if row["variant"] == variant}
    both = sorted(theirs.keys() & ours.keys())
    seeds = [seed for seed in both if theirs[seed]["hypervolume"] > 0.0]
    found: dict[str, Any] = {"seeds": len(seeds), "nothing_to_reach": len(both) - len(seeds),
                             "share_of_all": {}}  # fmt: skip
    for axis, name in enumerate(AXES) if both else ():
        ends = {seed: theirs[seed][name] for seed in both}
        levels = {seed: theirs[seed]["hypervolume"] or ANYTHING for seed in both}
        until = {seed: reached(ours[seed]["path"], levels[seed], axis, stays=True) for seed in both}
        found["share_of_all"][name] = median([until[seed] / ends[seed] for seed in both])
        if not seeds:
            continue
        touches, of_theirs = [], []
        for seed in seeds:
            touch = reached(ours[seed]["path"], levels[seed], axis, stays=False)
            first = reached(theirs[seed]["path"], levels[seed], axis, stays=False)
            touches.append(touch / ends[seed])
            of_theirs.append(until[seed] / first)
        needed = [until[seed] for seed in seeds]
        found[name] = {
            "needed": median(needed), "share": median([until[seed] / ends[seed] for seed in seeds]),
            "first_touch": median(touches), "of_rivals_own": median(of_theirs),
            "reached_by": sum(map(math.isfinite, needed)) / len(seeds),
        }  # fmt: skip
    return found


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Variant -> its hypervolume at the end, its costs, and what it needs to reach each rival.

    ``exhausted``: searches that found nothing new before their budget was spent; their path counts
    as flat from there on. ``ended_at_nothing``: searches whose front was worth nothing.
    """
    return {variant: summary_of(rows, variant) for variant in dict.fromkeys(map(_variant, rows))}


def summary_of(rows: Sequence[Row], variant: str) -> dict[str, Any]:
    """One variant's part of the `summary`; some of the rows are its."""
    variants = {_variant(row) for row in rows}
    some = [row for row in rows if row["variant"] == variant]
    asked = sum(row["asked"] for row in some)
    return {
        "searches": len(some),
        "hypervolume": median([row["hypervolume"] for row in some]),
        "evaluated": median([row["evaluated"] for row in some]),
        "new_functions": median([row["asked"] for row in some]),
        "proposals": median([row["proposals"] for row in some]),
        "seconds": median([row["seconds"] for row in some]),
        "controller_seconds": median([row.get("controller_seconds", 0.0) for row in some]),
        "exhausted": sum(row["exhausted"] for row in some),
        "ended_at_nothing": sum(row["hypervolume"] <= 0.0 for row in some),
        "outside_share": sum(row["outside"] for row in some) / max(1, asked),
        "fresh_seeds": sum(row.get("fresh_seeds", 0) for row in some),
        "fresh_seeds_refused": sum(row.get("fresh_seeds_refused", 0) for row in some),
        "over_default": over_default(rows, variant),
        "against": {one: compare(rows, one, variant) for one in RIVALS if one in variants},
    }


def targets(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Kind -> axis -> the hardest rival of the kind, and whether the default meets the target.

    The hardest is the one of whose spending the default needs the largest share; ``seeds``,
    ``nothing_to_reach`` and ``share_of_all`` are its. ``unmeasured``: rivals of the kind that were
    not searched for, or gave nothing to reach on any seed.
    """
    judged: dict[str, dict[str, Any]] = {}
    for kind, rivals in KINDS.items():
        against = found.get(DEFAULT, {}).get("against", {})
        known = [one for one in rivals if against.get(one, {}).get("seeds")]
        judged[kind] = {"unmeasured": [one for one in rivals if one not in known]}
        for axis in AXES if known else ():
            needed, hardest = max(
                (_or_never(against[one][axis]["share"]["value"]), one) for one in known
            )
            judged[kind][axis] = {
                "hardest": hardest, "share": against[hardest][axis]["share"],
                "wanted": WANTED[kind], "met": needed <= WANTED[kind],
                **{one: against[hardest][one] for one in ("seeds", "nothing_to_reach")},
                "share_of_all": against[hardest]["share_of_all"][axis],
            }  # fmt: skip
    return judged


def _or_never(value: float | None) -> float:
    return math.inf if value is None else value


def bands(rows: Sequence[Row], axis: int) -> dict[str, list[Band]]:
    """Variant -> quartiles of the hypervolume over seeds, along an axis of the paths.

    A line ends where the first of its searches has spent its budget, for what would follow nobody
    knows; one that was exhausted before stays as it is.
    """
    found: dict[str, list[Band]] = {}
    ends = {variant: _end(rows, variant, axis) for variant in dict.fromkeys(map(_variant, rows))}
    last = max(ends.values())
    for variant, end in ends.items():
        grid = np.linspace(0.0, end, max(2, round(GRID * end / last))) if last else np.zeros(1)
        paths = [row["path"] for row in rows if row["variant"] == variant]
        values = np.array([_along(path, axis, grid) for path in paths])
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        found[variant] = [Band(*one) for one in zip(grid, low, middle, high, strict=True)]
    return found


def _variant(row: Row) -> str:
    return str(row["variant"])


def _end(rows: Sequence[Row], variant: str, axis: int) -> float:
    """Where the variant's line ends; seconds where all searches were exhausted: the last one's."""
    some = [row for row in rows if row["variant"] == variant]
    if AXES[axis] == "steps":
        return float(some[0]["budget"])
    spent = [float(row["seconds"]) for row in some if not row["exhausted"]]
    return min(spent) if spent else max(float(row["seconds"]) for row in some)


def _along(path: Sequence[Sequence[float]], axis: int, grid: Any) -> Any:
    """The hypervolume at each place of the grid; 0 before the first point."""
    if not path:
        return np.zeros(len(grid))
    places = np.searchsorted([point[axis] for point in path], grid, side="right") - 1
    values = np.array([point[2] for point in path])
    return np.where(places >= 0, values[np.maximum(places, 0)], 0.0)
