"""Figures of a run for notebooks, as Plotly's: front, progress, funnel, scores.

They show what the run's events say, in the objectives' own units; nothing is computed anew here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evosearch.confirm import leader, ranked
from evosearch.errors import ConfigError
from evosearch.objectives import Objective
from evosearch.report import formula_of
from evosearch.state import State

if TYPE_CHECKING:
    from api.run import Run

BASELINE, FRONT, OTHERS, LEADER = "#7a7a7a", "#1f6feb", "#b8c4d4", "#d1491b"
MAX_POINTS = 5000


def _figure(**layout: Any) -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as err:
        raise ConfigError("figures need plotly", hint="pip install plotly") from err
    return go.Figure(layout={"template": "plotly_white", "margin": {"t": 40}, **layout})


def front(run: Run, x: str | None = None, y: str | None = None) -> Any:
    """Evaluated candidates, front, baselines and leader in two coordinates.

    ``x``, ``y``: coordinates such as ``tiny-gpt`` or ``tiny-gpt#parameters``; by default the first
    two, or live nodes and score where there is only one.

    Raises:
        ConfigError: there is no such coordinate.
    """
    state = run.state
    goals = {name: goal for name, (goal, _) in state.config.coordinates.items()}
    names = list(goals)
    second = y or (names[1] if len(names) > 1 and x is None else names[0])
    first = x or (names[0] if second != names[0] else "live_nodes")
    for name in (first, second):
        if name not in goals and name != "live_nodes":
            raise ConfigError(
                "no such coordinate", expected=", ".join([*names, "live_nodes"]), got=repr(name)
            )
    shown = _figure(
        title=f"front of {run.id}", xaxis_title=_title(first, goals),
        yaxis_title=_title(second, goals),
    )  # fmt: skip
    best = leader(state)
    order = ranked(state)[:MAX_POINTS]
    others = [one for one in order if one not in state.front.members]
    for label, births, color in (
        ("evaluated", others, OTHERS),
        ("front", sorted(state.front.members), FRONT),
        ("leader", [best] if best is not None else [], LEADER),
    ):
        shown.add_scatter(
            x=[_value(state, one, first, goals) for one in births],
            y=[_value(state, one, second, goals) for one in births],
            text=[f"{one}: {formula_of(state.members[one].graph)}" for one in births],
            mode="markers", name=label, marker={"color": color, "size": 9},
            hovertemplate="%{text}<br>%{x}, %{y}",
        )  # fmt: skip
    if first in goals:
        _add_baselines(shown, state, first, second, goals)
    return shown


def progress(run: Run) -> Any:
    """The hypervolume against evaluated candidates."""
    from evosearch.events import CandidateEvaluated, JobFinished

    counts, values, evaluated = [0], [0.0], 0
    for entry in run.events():
        event = entry.event
        if isinstance(event, CandidateEvaluated):
            evaluated += 1
        standing = getattr(event, "standing", None)
        if isinstance(event, (CandidateEvaluated, JobFinished)) and standing is not None:
            counts.append(evaluated)
            values.append(standing.hypervolume)
    shown = _figure(
        title=f"progress of {run.id}", xaxis_title="evaluated candidates",
        yaxis_title="hypervolume",
    )  # fmt: skip
    shown.add_scatter(x=counts, y=values, mode="lines", line={"shape": "hv", "color": FRONT})
    return shown


def funnel(run: Run) -> Any:
    """What each check threw out."""
    from api.progress import funnel as rows_of

    rows = rows_of(run.state)
    shown = _figure(title=f"rejections of {run.id}", xaxis_title="rejected", xaxis_type="log")
    shown.add_bar(
        x=[max(row.rejected, 0.5) for row in rows], y=[row.stage for row in rows],
        text=[f"{row.rejected:,}" for row in rows], orientation="h", marker_color=FRONT,
    )  # fmt: skip
    shown.update_yaxes(autorange="reversed")
    return shown


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


def _title(name: str, goals: dict[str, Objective]) -> str:
    return "live nodes" if name == "live_nodes" else f"{name}: {goals[name].label}"


def _value(state: State, birth: int, name: str, goals: dict[str, Objective]) -> float:
    member = state.members[birth]
    if name == "live_nodes":
        return float(len(member.graph.live_ops()))
    return goals[name].value(member.means()[name])


def _add_baselines(
    shown: Any, state: State, first: str, second: str, goals: dict[str, Objective]
) -> None:
    from api.progress import baseline_rows

    rows = [
        (row.label, mean[0], mean[1]) for row in baseline_rows(state)
        if None not in (mean := (row.mean(first), row.mean(second)))
    ]  # fmt: skip
    shown.add_scatter(
        x=[goals[first].value(x) for _, x, _ in rows if x is not None],
        y=[goals[second].value(y) for _, _, y in rows if y is not None],
        text=[label for label, _, _ in rows], mode="markers+text", textposition="top center",
        name="baselines", marker={"color": BASELINE, "symbol": "x", "size": 9},
    )  # fmt: skip
