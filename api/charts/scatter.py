"""Candidates against two quantities: at most so many points, the rest as a histogram."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import Floats, Ledger
from api.charts.standing import Standing, baseline_step_times, standing_of, step_times, title_of
from api.rest.chart_schemas import BaselinePoint, Histogram, ScatterView
from evosearch.errors import ConfigError
from primitives.catalog import CATALOG

BINS = (64, 48)
AXES = ("gain", "step_time", "live_nodes", "memory", "mean_score", "age")
"""Quantities of a chart's axis, besides ``score.ANCHOR``, ``score.ANCHOR#NAME``, ``gain.ANCHOR``.

``step_time`` and ``memory`` (bytes moved, by count) are relative to BN-ReLU.
"""
COSTS = ("step_time", "live_nodes", "memory", "age")
"""Quantities of which less is better; of all others more is."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Values (n,) of the evaluated candidates, their margins, and the baselines' values."""

    values: Floats
    margin: Floats | None
    baselines: dict[str, float]


def axis_of(ledger: Ledger, standing: Standing | None, name: str) -> Axis:
    """A quantity of the evaluated candidates; NaN where it is unknown.

    Raises:
        ConfigError: there is no such quantity in this search.
    """
    rows, means = ledger.members(), ledger.samples.baseline_means()
    kind, _, anchor = name.partition(".")
    if kind == "score" and anchor in ledger.further:
        return Axis(np.array(ledger.further[anchor])[rows], None, {})
    if anchor and anchor not in ledger.anchors:
        known = ", ".join((*ledger.anchors, *ledger.further))
        raise ConfigError("no such anchor or objective", expected=known, got=anchor[:90])
    place = ledger.anchors.index(anchor) if anchor else slice(None)
    scores = ledger.score_matrix()[rows]
    match kind, bool(anchor):
        case "gain", with_anchor:
            return _gain(ledger, standing, place if with_anchor else None)
        case "score", True:
            return Axis(scores[:, place], None, {n: float(one[place]) for n, one in means.items()})
        case "mean_score", False:
            return Axis(scores.mean(axis=1), None, {n: float(v.mean()) for n, v in means.items()})
        case "live_nodes", False:
            nodes = {n: _catalog_nodes(n) for n in means if n in CATALOG}
            return Axis(ledger.column("nodes")[rows].astype(float), None, nodes)
        case "memory", False:
            base = _catalog_bytes("bn-relu")
            moved = {n: _catalog_bytes(n) / base for n in means if n in CATALOG}
            return Axis(ledger.column("bytes")[rows] / base, None, moved)
        case "step_time", False:
            return Axis(step_times(ledger)[rows], None, _times(ledger))
        case "age", False:
            return Axis(ledger.column("outcome")[rows].astype(float), None, {})
    expected = ", ".join((*AXES, "score.ANCHOR", "gain.ANCHOR"))
    raise ConfigError("unknown quantity", expected=expected, got=repr(name)[:60])


def _gain(ledger: Ledger, standing: Standing | None, place: object) -> Axis:
    if standing is None:
        return Axis(np.full(len(ledger.members()), np.nan), None, {})
    better = standing.baseline.means
    every = ledger.samples.baseline_means().items()
    if isinstance(place, int):
        known = {name: float(means[place] - better[place]) for name, means in every}
        return Axis(standing.each[:, place], standing.margin[:, place], known)
    known = {name: float((means - better).mean()) for name, means in every}
    return Axis(standing.mean, standing.overall, known)


def _times(ledger: Ledger) -> dict[str, float]:
    base = baseline_step_times(ledger, next(iter(ledger.samples.step_times), ""))
    if base is None:
        return {}
    found = {name: baseline_step_times(ledger, name) for name in ledger.samples.step_times}
    return {name: float((one / base).mean()) for name, one in found.items() if one is not None}


@cache
def _catalog_nodes(name: str) -> float:
    from primitives.structure import analyse

    return float(analyse(CATALOG[name].graph).live_nodes)


@cache
def _catalog_bytes(name: str) -> float:
    from primitives.properties import properties

    return properties(CATALOG[name].graph).bytes_moved


def scatter(
    ledger: Ledger,
    x_name: str,
    y_name: str,
    most: int,
    within: NDArray[np.bool_] | None = None,
) -> ScatterView:
    """The chart. What has no value on both axes is not on it.

    ``within``: which evaluated candidates are wanted; all where it is None.
    """
    standing = standing_of(ledger)
    x, y = axis_of(ledger, standing, x_name), axis_of(ledger, standing, y_name)
    rows = ledger.members()
    on_front = np.isin(ledger.column("birth")[rows], np.array(list(ledger.entered), dtype=np.int64))
    seeds = ledger.seed_counts()[rows]
    whole = np.isfinite(x.values) & np.isfinite(y.values)
    if within is not None:
        whole &= within
    stairs = _stairs(whole, x.values, y.values, low_x=x_name in COSTS, low_y=y_name in COSTS)
    marked = on_front | (seeds > 1)
    marked[stairs] = True
    kept = _kept(whole, y.values, marked, most)
    rest = np.flatnonzero(whole & ~np.isin(np.arange(len(rows)), kept))
    margin = np.full(len(rows), np.nan) if y.margin is None else y.margin
    lead = ledger.leader()
    # Made without validation: the lists are long, and numpy made them.
    return ScatterView.model_construct(
        x_name=x_name, y_name=y_name, x_log=x_name in ("step_time", "memory"),
        births=ledger.column("birth")[rows][kept].tolist(),
        x=_short(x.values[kept]), y=_short(y.values[kept]),
        margin=_known(_rounded(margin[kept], 4)),
        seeds=seeds[kept].tolist(), confirmed=(seeds[kept] > 1).tolist(),
        on_front=on_front[kept].tolist(),
        baselines=[
            BaselinePoint(name=title_of(n), x=x.baselines.get(n), y=y.baselines.get(n))
            for n in sorted(x.baselines.keys() | y.baselines.keys())
        ],
        rest=_histogram(x.values[rest], y.values[rest], x_log=x_name in ("step_time", "memory")),
        stairs=ledger.column("birth")[rows][stairs].tolist(), low_x=x_name in COSTS,
        low_y=y_name in COSTS, leader=None if lead is None else lead.birth, shown=len(kept),
        total=int(whole.sum()),
    )  # fmt: skip


def _kept(
    whole: NDArray[np.bool_], y: Floats, marked: NDArray[np.bool_], most: int
) -> NDArray[np.int64]:
    """Places of the points that are drawn one by one: the marked ones, then the highest."""
    known = np.flatnonzero(whole)
    order = np.lexsort((-y[known], ~marked[known]))
    return np.sort(known[order[:most]])


def _stairs(
    whole: NDArray[np.bool_], x: Floats, y: Floats, *, low_x: bool, low_y: bool
) -> NDArray[np.int64]:
    """Places of the front of the two quantities, along x from the better end."""
    known = np.flatnonzero(whole)
    across, up = (x if low_x else -x)[known], (y if low_y else -y)[known]
    order = np.lexsort((up, across))
    best = np.minimum.accumulate(up[order])
    better = np.concatenate(([True], best[1:] < best[:-1]))[: len(order)]
    return np.asarray(known[order[better]])


def _known(values: Floats) -> list[float | None]:
    """Values, None where they are NaN."""
    if np.isfinite(values).all():
        every: list[float | None] = values.tolist()
        return every
    return [None if one != one else one for one in values.tolist()]


def _histogram(x: Floats, y: Floats, *, x_log: bool) -> Histogram | None:
    if not len(x):
        return None
    across = np.log10(x) if x_log else x
    counts, x_edges, y_edges = np.histogram2d(across, y, bins=BINS)
    return Histogram(
        x_edges=_short(10**x_edges if x_log else x_edges), y_edges=_short(y_edges),
        counts=counts.astype(int).tolist(), total=len(x),
    )  # fmt: skip


def _short(values: Floats) -> list[float]:
    """Values to six digits, which is more than a chart shows."""
    rounded: list[float] = _rounded(values, 6).tolist()
    return rounded


def _rounded(values: Floats, digits: int) -> Floats:
    """Values to so many significant digits; a power of ten above 0 is divided by exactly."""
    sizes = np.where((values == 0) | ~np.isfinite(values), 1.0, np.abs(values))
    places = digits - 1 - np.floor(np.log10(sizes)).astype(int)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    return np.asarray(np.round(values * up / down) / up * down)
