"""The tables of scores: on the split ``final``, and on ``select`` beside every baseline.

Scores are shown as values in their objective's own unit, each with its interval and with how many
seeds it has.
"""

from __future__ import annotations

import numpy as np

from api.reporting.blocks import Table
from api.reporting.gather import Facts
from api.text import changed, goal_of, heading
from evosearch.confirm import ranked
from evosearch.gain import margins, mean_margins
from evosearch.objectives import ACCURACY, Objective
from evosearch.report import final_rights, final_tests, formula_of
from evosearch.stats import Interval, p_value, paired_bootstrap
from evosearch.streams import evaluation_seed, stream

TOP = 10


def with_interval(found: Interval, goal: Objective) -> str:
    """A mean score with its interval, as values."""
    low, high = sorted((goal.value(found.low), goal.value(found.high)))
    if np.isnan(low):
        return f"{goal.value(found.value):.3f}"
    return f"{goal.value(found.value):.3f} [{low:.3f}, {high:.3f}]"


def final_scores(facts: Facts) -> Table | None:
    """Leader and rivals on ``final``, and the differences; None before it was read."""
    state = facts.state
    final = (state.report or {}).get("final")
    rights = final_rights(state) if state.chosen else None
    if final is None or rights is None:
        return None
    goals = [goal_of(row.get("objective")) for row in final["anchors"]]
    settings, seed = state.config.confirmation, stream(state.config.seed, "report", 0)
    number = int(seed.random() * 2**31)
    rows = []
    for key, values in rights.items():
        each, overall = paired_bootstrap(
            values, np.zeros_like(values), resamples=settings.resamples, level=settings.level,
            seed=number,
        )  # fmt: skip
        cells = [with_interval(one, goal) for one, goal in zip(each, goals, strict=True)]
        label = f"candidate {key[1:]} (leader)" if key == f"c{state.chosen[0]}" else key
        rows.append((label, *cells, with_interval(overall, together(goals))))
    rows.append(
        ("leader minus the better rival",
         *(changed(row["difference"], goal)
           for row, goal in zip(final["anchors"], goals, strict=True)),
         changed(final["mean_difference"], together(goals)))
    )  # fmt: skip
    tests = final_tests(state, rights)
    rows.append(("p of that difference", *map(p_value, tests.anchors), p_value(tests.mean)))
    over = "seeds and images" if final["images"] > 1 else "seeds alone, for the metric has no rows"
    heads = [
        heading(row["anchor"], goal) for row, goal in zip(final["anchors"], goals, strict=True)
    ]
    return Table(
        "final", f"final: {final['seeds']} seeds, read once", ("layer", *heads, "mean"),
        tuple(rows), bold=frozenset({0, len(rows) - 2}),
        caption=f"{100 * settings.level:g} % intervals, bootstrap over {over}; "
        f"{final['layers_judged']} layers were judged on this split, each at the learning rate "
        "that was best for it on select. p: two-sided, paired over seeds and images; of anchors, "
        f"corrected for their number, {len(goals)} (Holm).",
    )  # fmt: skip


def select_scores(facts: Facts, best: int | None) -> Table:
    """The top layers by fresh seeds (else by the search's one), and all baselines of the run."""
    state, samples = facts.state, facts.samples
    names = state.config.anchor_names
    goals = [state.config.objective(name) for name in names]
    confirmed = samples.confirmed()
    tops = sorted(confirmed, key=lambda one: (-np.mean(confirmed[one]), one))
    tops += [one for one in ranked(state) if one not in confirmed]
    rows: list[tuple[str, ...]] = []
    bold = set[int]()
    for birth in tops[:TOP]:
        member = state.members[birth]
        if birth in confirmed:
            scores, seeds = list(confirmed[birth]), samples.fresh_seeds(birth)
        else:
            means = member.means()
            scores, seeds = [means[name] for name in names], member.seeds
        if birth == best:
            bold.add(len(rows))
        mark = "" if birth in confirmed else "~"
        label = f"{mark}{birth}{' (leader)' if birth == best else ''}"
        rows.append((label, formula_of(member.graph), *_cells(facts, scores, seeds, goals),
                     str(seeds)))  # fmt: skip
    for name in samples.baseline_means():
        kept = _control(facts, name)
        scores, seeds = [float(np.mean(one)) for one in kept], min(map(len, kept))
        rows.append((name, "", *_cells(facts, scores, seeds, goals), str(seeds)))
    heads = [heading(name, goal) for name, goal in zip(names, goals, strict=True)]
    return Table(
        "select", "select: top layers and every baseline",
        ("layer", "formula", *heads, "mean", "seeds"), tuple(rows), left=frozenset({0, 1}),
        bold=frozenset(bold),
        caption="Layers by the fresh seeds of the confirmation alone, and baselines by the same "
        "seeds where they have them; ~ has none, and its score is the mean of all its seeds in "
        "the search, the one that chose it included. Who "
        "stands on top was chosen with the help of these scores. Intervals (95 %) from the spread "
        "over seeds of all layers, pooled by anchor; one learning rate.",
    )  # fmt: skip


def _control(facts: Facts, name: str) -> list[list[float]]:
    """A baseline's scores by anchor: those of the confirmation's seeds, before it all there are."""
    config, rows = facts.state.config, facts.samples.baselines[name]
    wanted = {evaluation_seed(config.seed, "confirm", i) for i in range(config.confirmation.seeds)}
    same = [[score for seed, score in one.items() if seed in wanted] for one in rows]
    return same if all(same) else [list(one.values()) for one in rows]


def together(goals: list[Objective]) -> Objective:
    """The unit of a mean over anchors; values in several units have none, scores have."""
    return goals[0] if all(goal == goals[0] for goal in goals) else ACCURACY


def _cells(facts: Facts, scores: list[float], seeds: int, goals: list[Objective]) -> list[str]:
    count = len(scores)
    noise, many = facts.samples.noise(), np.array([float(seeds)])
    wide = margins(noise, many[:, None], np.full(count, np.inf))[0]
    made = [
        with_interval(Interval(value, value - wide[i], value + wide[i]), goals[i])
        for i, value in enumerate(scores)
    ]
    mean, whole = float(np.mean(scores)), float(mean_margins(noise, many)[0])
    return [*made, with_interval(Interval(mean, mean - whole, mean + whole), together(goals))]
