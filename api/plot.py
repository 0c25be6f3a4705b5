"""Figures of a run for notebooks, as Plotly's.

They are the dashboard's: they draw what `api.charts` answers the page with, and ``scores`` what a
candidate's page shows of its seeds. Further objectives, which the page lists as numbers, are read
from the search's state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from api.charts.measure import common_objective, gain_measure
from api.charts.scatter import AXES
from evosearch.confirm import leader, ranked
from evosearch.errors import ConfigError
from evosearch.objectives import SEPARATOR, Objective

if TYPE_CHECKING:
    from api.rest.chart_schemas import ScatterView
    from api.run import Run

BASELINE, FRONT, OTHERS, LEADER = "#7a7a7a", "#1f6feb", "#b8c4d4", "#d1491b"
MAX_POINTS = 5000
SETS = ("proposals", "survivors", "front")
PLACES = {
    "evaluated": "evaluated candidates", "hours": "hours", "steps": "training steps",
    "gpu_hours": "GPU-hours",
}  # fmt: skip
"""What a search's course is drawn against -> its title."""
_RELATIVE = {"step_time": "step time, BN-ReLU = 1", "memory": "memory moved, BN-ReLU = 1"}


def _figure(**layout: Any) -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as err:
        raise ConfigError("figures need plotly", hint="pip install plotly") from err
    return go.Figure(layout={"template": "plotly_white", "margin": {"t": 40}, **layout})


def front(run: Run, x: str | None = None, y: str | None = None) -> Any:
    """Evaluated candidates, front, leader and baselines in two coordinates.

    ``x``, ``y``: an anchor, an anchor's further objective such as ``tiny-gpt#parameters``, or a
    quantity of the dashboard's: gain, step_time, live_nodes, memory, mean_score, age. By default
    the first two coordinates, or live nodes and score where there is only one. What the dashboard
    can draw is what it draws, in the objectives' own units.

    Raises:
        ConfigError: there is no such coordinate.
    """
    goals = {name: goal for name, (goal, _) in run.config.coordinates.items()}
    names = list(goals)
    second = y or (names[1] if len(names) > 1 and x is None else names[0])
    first = x or (names[0] if second != names[0] else "live_nodes")
    for name in (first, second):
        if name not in goals and name not in AXES:
            expected = ", ".join([*names, *AXES])
            raise ConfigError("no such coordinate", expected=expected, got=repr(name)[:60])
    shown = _figure(
        title=f"front of {run.id}", xaxis_title=_title(run, first, goals),
        yaxis_title=_title(run, second, goals),
    )  # fmt: skip
    further = [name for name in (first, second) if SEPARATOR in name]
    parts, known = _by_state(run, first, second) if further else _by_charts(run, first, second)
    formulas = run.charts.formulas(run.info, [birth for part in parts.values() for birth in part])
    for (label, points), color in zip(parts.items(), (OTHERS, FRONT, LEADER), strict=True):
        shown.add_scatter(
            x=[one[0] for one in points.values()], y=[one[1] for one in points.values()],
            text=[f"{birth}: {formulas.get(birth) or ''}" for birth in points],
            mode="markers", name=label, marker={"color": color, "size": 9},
            hovertemplate="%{text}<br>%{x}, %{y}",
        )  # fmt: skip
    shown.add_scatter(
        x=[at[0] for at in known.values()], y=[at[1] for at in known.values()], text=[*known],
        mode="markers+text", textposition="top center", name="baselines",
        marker={"color": BASELINE, "symbol": "x", "size": 9},
    )  # fmt: skip
    if first in ("step_time", "memory"):
        shown.update_xaxes(type="log")
    return shown


Points = dict[int, tuple[float, float]]


def _by_charts(
    run: Run, x: str, y: str
) -> tuple[dict[str, Points], dict[str, tuple[float, float]]]:
    """Points of the dashboard's figure by what they are, and its baselines."""
    first, second = (one if one in AXES else f"score.{one}" for one in (x, y))
    shown = run.charts.scatter(run.info, first, second, MAX_POINTS)
    across, up = (_unit(run, one) for one in (x, y))
    parts: dict[str, Points] = {"evaluated": {}, "front": {}, "leader": {}}
    rows = zip(shown.births, shown.x, shown.y, shown.on_front, strict=True)
    for birth, one, other, on_front in rows:
        point = across(one), up(other)
        parts["front" if on_front else "evaluated"][birth] = point
        if birth == shown.leader:
            parts["leader"][birth] = point
    known = {one.name: (across(one.x), up(one.y)) for one in shown.baselines
             if one.x is not None and one.y is not None}  # fmt: skip
    return parts, known


def _by_state(run: Run, x: str, y: str) -> tuple[dict[str, Points], dict[str, tuple[float, float]]]:
    """The same with further objectives, which the dashboard's figure does not know.

    Raises:
        ConfigError: one of the two is a quantity of that figure.
    """
    from api.progress import baseline_rows

    state, axes = run.state, (x, y)
    if set(axes) & set(AXES):
        raise ConfigError(
            "a further objective is drawn against another score", got=f"{x} and {y}",
            expected=", ".join(state.config.coordinates),
        )  # fmt: skip
    across, up = (_unit(run, one) for one in axes)
    best = leader(state)
    parts: dict[str, Points] = {"evaluated": {}, "front": {}, "leader": {}}
    for birth in ranked(state)[:MAX_POINTS]:
        means = state.members[birth].means()
        parts["front" if birth in state.front.members else "evaluated"][birth] = (
            across(means[x]), up(means[y])
        )  # fmt: skip
        if birth == best:
            parts["leader"][birth] = across(means[x]), up(means[y])
    rows = [(row.label, row.mean(x), row.mean(y)) for row in baseline_rows(state)]
    known = {label: (across(one), up(other)) for label, one, other in rows
             if one is not None and other is not None}  # fmt: skip
    return parts, known


def _unit(run: Run, name: str) -> Callable[[float], float]:
    """From what is computed with to what is shown."""
    if name in run.config.coordinates:
        return run.config.objective(name).value
    factor, _ = _axis(run, name)
    return lambda value: factor * value


def gain(run: Run, x: str = "step_time", y: str = "gain") -> Any:
    """Candidates and baselines, as a rule gain over the better baseline against cost.

    ``x``, ``y``: gain, step_time, live_nodes, memory, mean_score, age, ``score.ANCHOR`` or
    ``gain.ANCHOR``; times and memory are relative to BN-ReLU. Hollow points are provisional.

    Raises:
        ConfigError: there is no such quantity.
    """
    shown = run.charts.scatter(run.info, x, y, MAX_POINTS)
    (across, x_title), (up, y_title) = (_axis(run, name) for name in (x, y))
    figure = _figure(title=f"{y_title} against {x_title}: {run.id}", xaxis_title=x_title,
                     yaxis_title=y_title)  # fmt: skip
    figure.update_xaxes(type="log" if shown.x_log else "linear")
    formulas = run.charts.formulas(run.info, shown.births)
    for confirmed, label in ((False, "provisional"), (True, "confirmed")):
        rows = [row for row, one in enumerate(shown.confirmed) if one == confirmed]
        figure.add_scatter(
            x=[across * shown.x[row] for row in rows], y=[up * shown.y[row] for row in rows],
            text=[f"{shown.births[row]}: {formulas.get(shown.births[row]) or ''}" for row in rows],
            error_y={"type": "data", "visible": confirmed, "thickness": 1, "color": OTHERS,
                     "array": [up * (shown.margin[row] or 0.0) for row in rows]},
            mode="markers", name=label, hovertemplate="%{text}<br>%{x}, %{y}",
            marker={"size": 9, "symbol": "circle" if confirmed else "circle-open",
                    "color": [_color(shown, row) for row in rows]},
        )  # fmt: skip
    known = [one for one in shown.baselines if one.x is not None and one.y is not None]
    figure.add_scatter(
        x=[across * (one.x or 0.0) for one in known], y=[up * (one.y or 0.0) for one in known],
        text=[one.name for one in known], mode="markers+text", textposition="top center",
        name="baselines", marker={"color": BASELINE, "symbol": "diamond", "size": 10},
    )  # fmt: skip
    if y.startswith("gain"):
        figure.add_hline(y=0.0, line={"dash": "dash", "color": BASELINE})
    return figure


def progress(run: Run, against: str = "evaluated") -> Any:
    """The leader's gain on each anchor and the mean, with the hypervolume beneath.

    Of the confirmed; before there are any, of whoever was highest with one seed.

    ``against``: evaluated, hours, steps or gpu_hours.

    Raises:
        ConfigError: it is none of these.
    """
    if against not in PLACES:
        raise ConfigError("no such axis", expected=", ".join(PLACES), got=repr(against)[:60])
    shown = run.charts.progress(run.info, 400)
    leads = shown.leader or shown.provisional  # before anything is confirmed
    factor, unit = gain_measure(common_objective(run.config))
    figure = _figure(
        title=f"progress of {run.id}", xaxis={"title": PLACES[against], "anchor": "y2"},
        yaxis={"title": f"leader's gain, {unit}", "domain": [0.32, 1.0]},
        yaxis2={"title": "hypervolume", "domain": [0.0, 0.24]},
    )  # fmt: skip
    places = [getattr(one, against) for one in (*leads, *shown.hypervolume, shown.now)]
    led, volumes = places[: len(leads)], places[len(leads) :]
    for place, anchor in enumerate(shown.anchors):
        figure.add_scatter(
            x=led, y=[factor * one.gains[place] for one in leads], name=anchor,
            mode="lines", line={"shape": "hv", "width": 1},
        )  # fmt: skip
    figure.add_scatter(
        x=led, y=[factor * one.gain for one in leads], name="mean", mode="lines+markers",
        line={"shape": "hv", "color": LEADER},
    )  # fmt: skip
    figure.add_scatter(
        x=volumes, y=[one.value for one in (*shown.hypervolume, shown.now)], name="hypervolume",
        mode="lines", yaxis="y2", line={"shape": "hv", "color": FRONT},
    )  # fmt: skip
    return figure


def funnel(run: Run) -> Any:
    """How many came how far: one bar a stage, with its share of the stage before."""
    bars = run.charts.funnel(run.info).bars
    figure = _figure(title=f"funnel of {run.id}", xaxis_title="graphs", xaxis_type="log")
    figure.add_bar(
        x=[max(one.count, 0.5) for one in bars], y=[one.stage for one in bars],
        text=[f"{one.count:,}" + ("" if one.share is None else f", {one.share:.1%}")
              for one in bars],
        orientation="h", marker_color=FRONT,
        hovertext=[f"{one.meaning}; {one.worker_seconds:.0f} s on workers" for one in bars],
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    return figure


def throughput(run: Run, bins: int = 60) -> Any:
    """Outcomes in equal bins of time, and the workers that were busy."""
    shown = run.charts.throughput(run.info, bins)
    figure = _figure(
        title=f"throughput of {run.id}", barmode="stack", yaxis_title="outcomes",
        yaxis2={"title": "workers busy", "overlaying": "y", "side": "right", "rangemode": "tozero"},
    )  # fmt: skip
    for name, color in (("evaluated", FRONT), ("rejected", OTHERS), ("failed", LEADER)):
        figure.add_bar(x=shown.starts, y=getattr(shown, name), name=name, marker_color=color)
    figure.add_scatter(
        x=shown.starts, y=shown.busy, name="workers busy", mode="lines", yaxis="y2",
        line={"color": BASELINE},
    )  # fmt: skip
    return figure


def scores(run: Run, births: Sequence[int] | None = None) -> Any:
    """Every seed's score of the front (or these candidates) beside the baselines, per anchor."""
    from api.progress import baseline_rows, score_row

    state = run.state
    chosen = sorted(state.front.members) if births is None else list(births)
    rows = [*(score_row(state, one) for one in chosen), *baseline_rows(state)]
    shown = _figure(title=f"scores of {run.id}")
    for name in state.config.anchor_names:
        goal = state.config.objective(name)
        labels = [row.label for row in rows for _ in row.scores.get(name, ())]
        values = [goal.value(one) for row in rows for one in row.scores.get(name, ())]
        shown.add_scatter(x=labels, y=values, mode="markers", name=f"{name}: {goal.label}")
    shown.update_xaxes(type="category")
    return shown


def parallel(run: Run, most: int = 300) -> Any:
    """Parallel coordinates of the front and the highest candidates: cost, size, scores and gain.

    One line a candidate, coloured where it is on the front. ``most``: candidates of one axis.
    """
    names = ["step_time", "live_nodes", *(f"score.{one}" for one in run.config.anchor_names)]
    rows: dict[int, dict[str, float]] = {}
    front: set[int] = set()
    for name in names:
        shown = run.charts.scatter(run.info, name, "gain", most)
        for place, birth in enumerate(shown.births):
            row = rows.setdefault(birth, {"gain": shown.y[place]})
            row[name] = shown.x[place]
            if shown.on_front[place]:
                front.add(birth)
    whole = {birth: row for birth, row in rows.items() if len(row) == len(names) + 1}
    figure = _figure(title=f"candidates of {run.id}")
    figure.update_layout(margin={"t": 80, "b": 40})
    figure.add_parcoords(
        dimensions=[
            {"label": title, "values": [of(row[name]) for row in whole.values()]}
            for name, of, title in (_coordinate(run, one) for one in (*names, "gain"))
        ],
        line={"color": [float(birth in front) for birth in whole], "cmin": 0.0, "cmax": 1.0,
              "colorscale": [[0.0, OTHERS], [1.0, FRONT]]},
        ids=[str(birth) for birth in whole],
    )  # fmt: skip
    return figure


def _coordinate(run: Run, name: str) -> tuple[str, Callable[[float], float], str]:
    """A quantity's name, how its values are shown, and its title."""
    kind, _, anchor = name.partition(".")
    if kind == "score":
        goal = run.config.objective(anchor)
        return name, goal.value, f"{anchor}: {goal.label}"
    return name, _unit(run, name), _axis(run, name)[1]


def population(run: Run, members: int = 2000) -> Any:
    """The population: age, in outcomes since a member's own, against gain over the baseline.

    Against the mean score while no gain is known. What is older than the population is no parent.
    """
    shown = run.charts.ages(run.info, members)
    known = all(one.gain is not None for one in shown.members)
    factor, title = _axis(run, "gain") if known else (1.0, "mean score")
    figure = _figure(
        title=f"population of {run.id}: {shown.size} members", xaxis_title="age, outcomes since",
        yaxis_title=title,
    )  # fmt: skip
    formulas = run.charts.formulas(run.info, [one.birth for one in shown.members])
    for on_front, label, color in ((False, "others", OTHERS), (True, "front", FRONT)):
        mine = [one for one in shown.members if one.on_front == on_front]
        figure.add_scatter(
            x=[one.age for one in mine],
            y=[factor * (one.gain or 0.0) if known else one.score for one in mine],
            text=[f"{one.birth}: {formulas.get(one.birth) or ''}" for one in mine],
            mode="markers", name=label, hovertemplate="%{text}<br>%{x}, %{y}",
            marker={"size": 8, "symbol": "diamond" if on_front else "circle", "color": color},
        )  # fmt: skip
    return figure


def primitives(run: Run, of: str = "survivors", bins: int = 24) -> Any:
    """Shares of layers that use each primitive, over births: shades, in per cent.

    ``of``: proposals, survivors or front.

    Raises:
        ConfigError: it is none of these.
    """
    if of not in SETS:
        raise ConfigError("no such set", expected=", ".join(SETS), got=repr(of)[:60])
    shown = run.charts.primitive_shares(run.info, bins)
    rows = shown.rows[::-1]  # the first one on top
    figure = _figure(title=f"primitives of the {of} of {run.id}", xaxis_title="birth")
    figure.add_heatmap(
        x=shown.births, y=[row.primitive for row in rows],
        z=[[None if one is None else 100 * one for one in getattr(row, of)] for row in rows],
        colorscale=[[0.0, "#ffffff"], [1.0, FRONT]], zmin=0.0, colorbar={"ticksuffix": " %"},
        hovertemplate="%{y}<br>from birth %{x}: %{z:.0f} %<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(type="category", nticks=max(1, len(rows)))
    return figure


def _axis(run: Run, name: str) -> tuple[float, str]:
    """What a quantity's values are multiplied by, and its title."""
    if name.startswith("gain"):
        factor, unit = gain_measure(common_objective(run.config))
        return factor, f"{name.replace('.', ' on ')} over the better baseline, {unit}"
    return 1.0, _RELATIVE.get(name, name.replace("_", " ").replace(".", " on "))


def _color(shown: ScatterView, row: int) -> str:
    if shown.births[row] == shown.leader:
        return LEADER
    return FRONT if shown.on_front[row] else OTHERS


def _title(run: Run, name: str, goals: dict[str, Objective]) -> str:
    return f"{name}: {goals[name].label}" if name in goals else _axis(run, name)[1]
