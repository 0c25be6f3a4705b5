"""The tables of scores: on the split ``final``, and on ``select`` beside every baseline.

Scores are shown as values in their objective's own unit, each with its interval and with how many
seeds it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from api.progress import baseline_rows, front_rows
from api.reporting.blocks import Table
from api.reporting.drawings import dot, panels
from api.reporting.gather import Facts
from api.text import changed, goal_of, heading, shown
from evosearch.confirm import ranked
from evosearch.gain import margins, mean_margins
from evosearch.objectives import ACCURACY, Objective
from evosearch.report import final_rights, final_tests, formula_of
from evosearch.stats import Interval, p_value, paired_bootstrap
from evosearch.streams import evaluation_seed, stream

TOP = 10

Columns = Sequence[tuple[str, Objective]]
"""Columns of scores: the heading, and what the values are."""


def with_interval(found: Interval, goal: Objective) -> str:
    """A mean score with its interval, as values."""
    value, low, high = as_values(found, goal)
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def as_values(found: Interval, goal: Objective) -> Interval:
    """A score, or a difference of scores, as one of values, with its ends in order."""
    low, high = sorted((goal.value(found.low), goal.value(found.high)))
    return Interval(goal.value(found.value), low, high)


def drawn(title: str, rows: Mapping[str, Sequence[Interval]], columns: Columns,
          *, zero: bool = False) -> str:  # fmt: skip
    """The picture of scores: layer -> one of each column; ``zero``: they are differences."""
    found = [
        (head, [as_values(one[place], goal) for one in rows.values()])
        for place, (head, goal) in enumerate(columns)
    ]
    return panels(title, list(rows), found, zero=zero)


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
    columns = with_mean(headed([row["anchor"] for row in final["anchors"]], goals))
    found: dict[str, list[Interval]] = {}
    for key, values in rights.items():
        each, overall = paired_bootstrap(
            values, np.zeros_like(values), resamples=settings.resamples, level=settings.level,
            seed=number,
        )  # fmt: skip
        label = f"candidate {key[1:]} (leader)" if key == f"c{state.chosen[0]}" else key
        found[label] = [*each, overall]
    rows = [(label, *_told(one, columns)) for label, one in found.items()]
    rows.append(
        ("leader minus the better rival",
         *(changed(row["difference"], goal)
           for row, goal in zip(final["anchors"], goals, strict=True)),
         changed(final["mean_difference"], together(goals)))
    )  # fmt: skip
    tests = final_tests(state, rights)
    rows.append(("p of that difference", *map(p_value, tests.anchors), p_value(tests.mean)))
    over = "seeds and images" if final["images"] > 1 else "seeds alone, for the metric has no rows"
    return Table(
        "final", f"final: {final['seeds']} seeds, read once", ("layer", *heads(columns)),
        tuple(rows), bold=frozenset({0, len(rows) - 2}),
        svg=drawn(f"Scores on final, {100 * settings.level:g} % intervals", found, columns),
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
    columns = with_mean(headed(names, goals))
    rows: list[tuple[str, ...]] = []
    found: dict[str, list[Interval]] = {}
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
        found[label] = _spread(facts, scores, seeds)
        rows.append((label, formula_of(member.graph), *_told(found[label], columns), str(seeds)))
    for name in samples.baseline_means():
        kept = _control(facts, name)
        scores, seeds = [float(np.mean(one)) for one in kept], min(map(len, kept))
        found[name] = _spread(facts, scores, seeds)
        rows.append((name, "", *_told(found[name], columns), str(seeds)))
    return Table(
        "select", "select: top layers and every baseline",
        ("layer", "formula", *heads(columns), "seeds"), tuple(rows), left=frozenset({0, 1}),
        bold=frozenset(bold), svg=drawn("Scores on select, 95 % intervals", found, columns),
        caption="Layers by the fresh seeds of the confirmation alone, and baselines by the same "
        "seeds where they have them; ~ has none, and its score is the mean of all its seeds in "
        "the search, the one that chose it included. Who "
        "stands on top was chosen with the help of these scores. Intervals (95 %) from the spread "
        "over seeds of all layers, pooled by anchor; one learning rate.",
    )  # fmt: skip


def front_scores(facts: Facts) -> Table | None:
    """The front in all its coordinates, further objectives too, beside every baseline."""
    state = facts.state
    front, known = front_rows(state), baseline_rows(state)
    if not front:
        return None
    goals = {name: goal for name, (goal, _) in state.config.coordinates.items()}
    columns = headed(goals, goals.values())
    values = {row.label: [dot(row.mean(name)) for name in goals] for row in (*front, *known)}
    rows = [
        (f"{row.label}{' (leader)' if row.is_leader else ''}", row.formula,
         *(shown(row.mean(name), goal, digits=4) for name, goal in goals.items()), str(row.seeds))
        for row in (*front, *known)
    ]  # fmt: skip
    return Table(
        "front", "the Pareto front in all coordinates, and every baseline",
        ("layer", "formula", *heads(columns), "seeds"), tuple(rows), left=frozenset({0, 1}),
        bold=frozenset(place for place, row in enumerate(front) if row.is_leader), folded=True,
        svg=drawn("The Pareto front and every baseline", values, columns),
        caption="No layer of the front is worse in one coordinate without being better in another. "
        "Means of all seeds on select, the one that chose the layer included, so candidates may be "
        "flattered where baselines are not.",
    )  # fmt: skip


def _control(facts: Facts, name: str) -> list[list[float]]:
    """A baseline's scores by anchor: those of the confirmation's seeds, before it all there are."""
    config, rows = facts.state.config, facts.samples.baselines[name]
    wanted = {evaluation_seed(config.seed, "confirm", i) for i in range(config.confirmation.seeds)}
    same = [[score for seed, score in one.items() if seed in wanted] for one in rows]
    return same if all(same) else [list(one.values()) for one in rows]


def headed(names: Iterable[str], goals: Iterable[Objective]) -> Columns:
    """A column for each coordinate."""
    return [(heading(name, goal), goal) for name, goal in zip(names, goals, strict=True)]


def with_mean(columns: Columns) -> Columns:
    """The columns of anchors, and one of their mean."""
    return [*columns, ("mean", together([goal for _, goal in columns]))]


def heads(columns: Columns) -> list[str]:
    """Their headings alone."""
    return [head for head, _ in columns]


def together(goals: list[Objective]) -> Objective:
    """The unit of a mean over anchors; values in several units have none, scores have."""
    return goals[0] if all(goal == goals[0] for goal in goals) else ACCURACY


def _spread(facts: Facts, scores: list[float], seeds: int) -> list[Interval]:
    """The scores and their mean, with intervals from the spread over seeds of all layers."""
    noise, many = facts.samples.noise(), np.array([float(seeds)])
    wide = margins(noise, many[:, None], np.full(len(scores), np.inf))[0]
    mean, whole = float(np.mean(scores)), float(mean_margins(noise, many)[0])
    every = [*zip(scores, wide, strict=True), (mean, whole)]
    return [Interval(value, value - margin, value + margin) for value, margin in every]


def _told(found: Sequence[Interval], columns: Columns) -> list[str]:
    return [with_interval(one, goal) for one, (_, goal) in zip(found, columns, strict=True)]
