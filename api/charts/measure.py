"""What the scores of a search mean, and gains as people read them; nothing else turns a score.

Of a gain higher is better whatever the objective's direction: 0.05 bit/char better is a gain.
"""

from __future__ import annotations

from api.rest.chart_schemas import ObjectiveView
from evosearch.config import SearchConfig
from evosearch.gain import Gain
from evosearch.objectives import ACCURACY, Objective


def objectives_of(config: SearchConfig) -> dict[str, ObjectiveView]:
    """Coordinate -> its objective: the anchors, and ``anchor#name`` for further ones."""
    return {
        name: ObjectiveView(
            name=goal.name, unit=goal.unit, direction=goal.direction, scale=scale_of(goal),
            label=goal.label,
        )
        for name, (goal, _) in config.coordinates.items()
    }  # fmt: skip


def common_objective(config: SearchConfig) -> Objective | None:
    """What all anchors measure; None where they differ."""
    goals = [anchor.objective for anchor in config.task.anchors]
    return goals[0] if goals and all(one == goals[0] for one in goals) else None


def scale_of(goal: Objective) -> float:
    """How much of the unit counts as one."""
    return abs(goal.value(1.0))


def gain_measure(goal: Objective | None) -> tuple[float, str]:
    """What a gain is multiplied by, and the unit that it is in then: points for shares."""
    if goal is None:
        return 1.0, "score"
    if goal.unit == "%" or _is_plain(goal):
        return 100.0, "points"
    return scale_of(goal), goal.unit or goal.name


def told(gain: Gain, goal: Objective | None) -> str:
    """A gain, such as ``+1.4 ± 0.6 points`` of a share, or ``+0.050 ± 0.020 bit/char``."""
    factor, unit = gain_measure(goal)
    digits = 1 if unit == "points" else 3
    margin = "" if gain.high is None else f" ± {factor * (gain.high - gain.value):.{digits}f}"
    value = f"{factor * gain.value:+.{digits}f}".replace("-", "\u2212")
    return f"{value}{margin} {unit}"


def meaning(goal: Objective | None) -> str:
    """The objective in words, in front of a comma; nothing for the plain accuracy."""
    return "" if goal is None or _is_plain(goal) else f"; {goal.label}"


def _is_plain(goal: Objective) -> bool:
    """Whether it is the accuracy as a share, which people read in points."""
    return goal.name == ACCURACY.name and not goal.unit
