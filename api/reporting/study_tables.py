"""The tables of a report's own trainings: what each part of the layer is worth, and how far it
holds. Differences are paired by seed; intervals are Student's over seeds.
"""

from __future__ import annotations

import numpy as np

from api.reporting.blocks import Block, Section, Table, Text
from api.reporting.drawings import differences
from api.reporting.studies import LEADER, Study
from evosearch.report import formula_of
from evosearch.stats import Interval, paired_interval

INTERVALS = (
    "Mean score over anchors on select. Differences are paired by seed, with 95 % intervals "
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
    whole = study.by_seed(("nothing", ""), LEADER)
    rows = [("(the leader)", "", "", *_scored(whole, None))]
    ranked = []
    for (node, by), part in study.parts.items():
        found = study.by_seed((node, by), LEADER)
        lost = None if part.fault else _difference(found, whole)
        cells = ("no layer", part.fault) if part.fault else _scored(found, whole)
        order = -np.inf if lost is None else lost.value
        ranked.append((order, (node, by, formula_of(part.graph), *cells), lost))
    ranked.sort(key=lambda one: one[0])
    rows += [row for _, row, _ in ranked]
    drawn = [(f"{row[0]} by {row[1]}", found) for _, row, found in ranked if found is not None]
    return Table(
        "knock-out", f"the leader without each of its nodes, {len(whole)} seeds",
        (*study.head, "what is left", "score", "difference to the leader"), tuple(rows),
        left=frozenset({0, 1, 2}), bold=frozenset({0}), caption=INTERVALS,
        svg=differences("What the leader's score is without each of its nodes", drawn),
    )  # fmt: skip


def _beside_rivals(study: Study) -> Table:
    layers = list(dict.fromkeys(trial.layer for trial in study.trials))
    rivals = layers[1:]
    rows, drawn = [], []
    for row in dict.fromkeys(trial.row for trial in study.trials):
        found = {layer: study.by_seed(row, layer) for layer in layers}
        means = {layer: float(np.mean(list(one.values()))) for layer, one in found.items() if one}
        cells = [f"{means[layer]:.3f}" if layer in means else "-" for layer in layers]
        known = [name for name in rivals if name in means]
        if LEADER in means and known:
            better = max(known, key=lambda name: means[name])
            gain = _difference(found[LEADER], found[better])
            cells += [better, _shown(gain)]
            drawn.append((", ".join(row), gain))
        else:
            cells += ["-", "-"]
        rows.append((*row, *cells))
    count = len(study.head)
    return Table(
        study.name, "leader and rivals in other settings",
        (*study.head, *layers, "better rival", "leader minus it"), tuple(rows),
        left=frozenset({*range(count), count + len(layers)}),
        caption=f"{INTERVALS} {_RATES[study.name]}",
        svg=differences("The leader minus the better rival", drawn),
    )  # fmt: skip


def _scored(found: dict[int, float], whole: dict[int, float] | None) -> tuple[str, str]:
    if not found:
        return "-", "-"
    mean = f"{np.mean(list(found.values())):.3f}"
    return mean, "" if whole is None else _shown(_difference(found, whole))


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> Interval:
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return Interval(float("nan"), float("nan"), float("nan"))
    return paired_interval(np.array([ours[seed] - theirs[seed] for seed in seeds]))


def _shown(found: Interval) -> str:
    if np.isnan(found.low):
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
