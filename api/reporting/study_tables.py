"""The tables of a report's own trainings: what each part of the layer is worth, and how far it
holds. Differences are paired by seed; intervals are Student's over seeds. Shown are values in the
objective's unit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from api.reporting.blocks import Block, Section, Table, Text
from api.reporting.drawings import differences, dot
from api.reporting.scores import as_values, together
from api.reporting.studies import LEADER, Study
from api.text import changed, heading, shown
from evosearch.objectives import ACCURACY, Objective
from evosearch.report import formula_of
from evosearch.stats import Interval, paired_interval

INTERVALS = (
    "Mean over anchors on select, with seeds of the study's own: on those that chose the leader it "
    "would be flattered. Differences are paired by seed, with 95 % intervals "
    "(Student's, over seeds); they are many looks, and none of them is corrected for the others."
)
TITLES = {
    "knock-out": "Knock-out: what each node is worth",
    "robustness": "Robustness: learning rate, batch size, depth",
    "transfer": "Transfer: anchors and data that the search never used",
}


_RATES = {
    "robustness": "All layers have the same learning rate in a row: compare a layer's best rates, "
    "not the rows, to say which layer is better.",
    "transfer": "All layers have the task's learning rate, at which a layer that was not tuned for "
    "it may look worse than it is; `evosearch rerank` tunes each layer's rate in each row.",
}


def study_section(study: Study) -> Section:
    """The section of one study."""
    table = _knocked_out(study) if study.name == "knock-out" else _beside_rivals(study)
    blocks: list[Block] = [table]
    blocks += [
        Text(f"Failed: {layer}, {', '.join(row)}: {cause}")
        for (row, layer), cause in study.failed.items()
    ]
    return Section(TITLES[study.name], tuple(blocks))


def _knocked_out(study: Study) -> Table:
    goal = _goal(study, ("nothing", ""))
    whole = study.by_seed(("nothing", ""), LEADER)
    rows = [("(the leader)", "", "", *_scored(whole, None, goal))]
    ranked = []
    for (node, by), part in study.parts.items():
        found = study.by_seed((node, by), LEADER)
        lost = None if part.fault else _difference(found, whole)
        cells = ("no layer", part.fault) if part.fault else _scored(found, whole, goal)
        order = -np.inf if lost is None else lost.value
        ranked.append((order, (node, by, formula_of(part.graph), *cells), lost))
    ranked.sort(key=lambda one: one[0])
    rows += [row for _, row, _ in ranked]
    drawn = [
        (f"{row[0]} by {row[1]}", as_values(found, goal))
        for _, row, found in ranked if found is not None
    ]  # fmt: skip
    return Table(
        "knock-out", f"the leader without each of its nodes, {len(whole)} seeds",
        (*study.head, "what is left", heading("score", goal), "difference to the leader"),
        tuple(rows),
        left=frozenset({0, 1, 2}), bold=frozenset({0}), caption=INTERVALS,
        svg=differences(
            heading("What the leader's score is without each of its nodes", goal), drawn
        ),
    )  # fmt: skip


def _beside_rivals(study: Study) -> Table:
    layers = list(dict.fromkeys(trial.layer for trial in study.trials))
    names = list(dict.fromkeys(trial.row for trial in study.trials))
    goals = {row: _goal(study, row) for row in names}
    together_in = together(list(goals.values()))
    named = any(goal != ACCURACY for goal in goals.values())
    rows, drawn = [], []
    for row in names:
        found = {layer: study.by_seed(row, layer) for layer in layers}
        cells, gain = _compared(found, goals[row])
        if gain is not None:
            drawn.append((", ".join(row), as_values(gain, together_in)))
        rows.append((*row, *([goals[row].label] if named else []), *cells))
    count = len(study.head) + named
    return Table(
        study.name, "leader and rivals in other settings",
        (*study.head, *(["values are"] if named else []), *layers, "better rival",
         "leader minus it"),
        tuple(rows),
        left=frozenset({*range(count), count + len(layers)}),
        caption=f"{INTERVALS} {_RATES[study.name]}",
        svg=differences(heading("The leader minus the better rival", together_in), drawn),
    )  # fmt: skip


def _compared(
    found: Mapping[str, dict[int, float]], goal: Objective
) -> tuple[list[str], Interval | None]:
    """The cells of a row of leader and rivals, and the leader's gain over the better of these."""
    means = {layer: float(np.mean(list(one.values()))) for layer, one in found.items() if one}
    cells = [shown(means.get(layer), goal) for layer in found]
    known = [name for name in found if name != LEADER and name in means]
    if LEADER not in means or not known:
        return [*cells, "-", "-"], None
    better = max(known, key=lambda name: means[name])
    gain = _difference(found[LEADER], found[better])
    return [*cells, better, _shown(gain, goal)], gain


def _goal(study: Study, row: tuple[str, ...]) -> Objective:
    """What the numbers of a row are values of."""
    task = next(trial.jobs[0].task for trial in study.trials if trial.row == row)
    return together([anchor.objective for anchor in task.anchors])


def _scored(
    found: dict[int, float], whole: dict[int, float] | None, goal: Objective
) -> tuple[str, str]:
    if not found:
        return "-", "-"
    mean = shown(float(np.mean(list(found.values()))), goal)
    return mean, "" if whole is None else _shown(_difference(found, whole), goal)


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> Interval:
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return dot(None)
    return paired_interval(np.array([ours[seed] - theirs[seed] for seed in seeds]))


def _shown(found: Interval, goal: Objective) -> str:
    if np.isnan(found.low):
        return goal.change(found.value)
    return changed(found._asdict(), goal)
