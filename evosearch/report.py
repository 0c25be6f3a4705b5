"""The final report: what the leader is worth on ``final``, by which nothing was chosen.

Computed once from the state at the end of a search and stored as an event; command line, page and
files only print it. Scores are those of `evosearch.objectives`: in each one's scale, higher is
better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from evosearch import odds
from evosearch.records import Evaluation
from evosearch.state import State
from evosearch.stats import (
    Interval,
    Rights,
    best_of,
    false_rejection_rate,
    holm,
    p_against_best,
    p_value,
    paired_bootstrap,
)
from evosearch.streams import stream
from evosearch.surrogate import calibration
from primitives.catalog import CATALOG
from primitives.digest import digest
from primitives.errors import FormulaError
from primitives.fingerprint import fingerprint
from primitives.graph import Graph
from primitives.printer import format_formula
from primitives.relatives import catalog_identities

KINDS = ("proposals", "new_functions", "evaluated", "on_front")
"""What is counted of each operator."""


def formula_of(graph: Graph) -> str:
    """The graph's formula, or its JSON where the formula would be too long to print."""
    try:
        return format_formula(graph)
    except FormulaError:
        return graph.to_json_text()


def known_as(graph: Graph) -> str | None:
    """The name of the catalog layer that this graph equals in function, if any."""
    mine, behaviour = digest(graph), fingerprint(graph)
    for name in CATALOG:
        known = catalog_identities(name)
        if known.digest == mine or known.behaviour == behaviour:
            return name
    return None


def audited_rate(state: State) -> Interval | None:
    """The signal check's audited false-rejection rate with its 95 % interval."""
    return false_rejection_rate(
        audited=state.audit.audited,
        wrong=state.audit.wrongly_rejected,
        passed=state.audit.passed_quality,
        share=state.config.checks.signal.audit_share,
    )


def operator_yields(state: State) -> dict[str, dict[str, int]]:
    """Where proposals came from, and what came of them.

    From ``random``, an operator, or two as ``a+b``; ``bred+a`` is an edit of functions that were
    looked at, and ``again`` are runners-up that were looked at once more. A new function is one
    that no candidate had at that time. ``on_front`` counts the members of the present front.
    """
    on_front = Counter(state.members[birth].label for birth in state.front.members)
    return {
        label: {
            "proposals": found.proposals,
            "new_functions": found.new,
            "evaluated": found.evaluated,
            "on_front": on_front[label],
        }
        for label, found in sorted(
            state.operators.items(), key=lambda item: (-item[1].evaluated, item[0])
        )
    }


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one operator (or ``random``, or another origin) brought, alone or with others."""

    proposals: int
    new_functions: int
    evaluated: int
    on_front: int

    @property
    def new_share(self) -> float:
        """New functions per proposal."""
        return self.new_functions / self.proposals if self.proposals else 0.0

    @property
    def survivor_share(self) -> float:
        """Candidates that came through all checks, per proposal."""
        return self.evaluated / self.proposals if self.proposals else 0.0


def contributions(yields: Mapping[str, Mapping[str, int]]) -> dict[str, Contribution]:
    """`operator_yields` by operator: who took part in a proposal of two edits is counted for each.

    So the counts add up to more than there are; the ratios are each operator's own.
    """
    found: dict[str, Counter[str]] = {}
    for label, row in yields.items():
        for name in dict.fromkeys(label.split("+")):
            found.setdefault(name, Counter()).update(row)
    made = {name: Contribution(**{key: row[key] for key in KINDS}) for name, row in found.items()}
    return dict(sorted(made.items(), key=lambda item: (-item[1].evaluated, item[0])))


def lineage(state: State, birth: int) -> list[dict[str, Any]]:
    """The candidate and its evaluated ancestors, youngest first, each with its formula."""
    found: dict[int, dict[str, Any]] = {}
    waiting = [birth]
    while waiting:
        number = waiting.pop()
        member = state.members.get(number)
        if member is None or number in found:
            continue
        found[number] = {
            "birth": number, "origin": member.origin, "parents": list(member.parents),
            "formula": formula_of(member.graph),
        }  # fmt: skip
        waiting += member.parents
    return [found[number] for number in sorted(found, reverse=True)]


def final_report(state: State) -> dict[str, Any]:
    """The report as plain JSON data."""
    rate = audited_rate(state)
    report: dict[str, Any] = {
        "evaluated": state.evaluated,
        "remeasured": state.remeasured,
        "duplicates": state.duplicates,
        "proposals": state.next_birth,
        "hypervolume": state.hypervolume,
        "front": sorted(state.front.members),
        "false_rejection_rate": None if rate is None else rate._asdict(),
        "audited": state.audit.audited,
        "surrogate": calibration(state) if state.config.surrogate.enabled else None,
        "odds": odds.calibration(state) if state.config.evolution.choose_of > 1 else None,
        "operators": operator_yields(state),
        "notes": list(state.notes),
        "objectives": {a.name: a.objective.model_dump(mode="json")
                       for a in state.config.task.anchors},
        "leader": None,
        "verdict": "no candidate was evaluated",
    }  # fmt: skip
    if not state.chosen:
        if state.notes:
            report["verdict"] += f": {state.notes[-1]}"
        return report
    report["leader"] = _leader(state, state.chosen[0])
    rights = final_rights(state)
    if rights is None:
        report["verdict"] = f"not confirmed: {_unread(state)}"
        return report
    report.update(_comparison(state, rights))
    known = report["leader"]["known_as"]
    if known:
        report["verdict"] += f"; the leader equals {known} in function and is no discovery"
    return report


def _leader(state: State, birth: int) -> dict[str, Any]:
    member = state.members[birth]
    fresh: dict[str, list[float]] = {}
    for purpose, evaluation in state.results[f"c{birth}"]:
        if purpose == "confirm":
            fresh.setdefault(evaluation.anchor, []).append(evaluation.score)
    return {
        "birth": birth,
        "formula": formula_of(member.graph),
        "graph": member.graph.to_json(),
        "known_as": known_as(member.graph),
        "provisional": {anchor: scores[0] for anchor, scores in member.scores.items()},
        "confirmed": {anchor: float(np.mean(scores)) for anchor, scores in fresh.items()},
        "confirmed_seeds": min((len(scores) for scores in fresh.values()), default=0),
    }


def final_rights(state: State) -> dict[str, Rights] | None:
    """Subject key -> (anchors, seeds, images) share of right draws.

    None if there is no seed that leader and rivals all have on every anchor.
    """
    return rights_of(_finals(state), state.config.anchor_names)


def _finals(state: State) -> dict[str, dict[str, dict[int, Evaluation]]]:
    """Key of the leader and each rival -> anchor -> seed -> what it read on ``final``."""
    keys = [f"c{state.chosen[0]}", *state.config.confirmation.rivals]
    found: dict[str, dict[str, dict[int, Evaluation]]] = {key: {} for key in keys}
    for key in keys:
        for purpose, evaluation in state.results.get(key, ()):
            if purpose == "final":
                found[key].setdefault(evaluation.anchor, {})[evaluation.seed] = evaluation
    return found


def _unread(state: State) -> str:
    """Why what was read on ``final`` cannot be compared."""
    found = _finals(state)
    if not any(found.values()):
        return "the search ended without reading final"
    names = dict(zip(found, ["the leader", *state.config.confirmation.rivals], strict=True))
    lacking = [
        f"{names[key]} on {anchor}"
        for key, read in found.items() for anchor in state.config.anchor_names if anchor not in read
    ]  # fmt: skip
    if lacking:
        return f"no training on final succeeded of {', '.join(lacking)}"
    return "of the trainings on final that succeeded no seed is common to leader and rivals"


def rights_of(
    found: Mapping[str, Mapping[str, Mapping[int, Evaluation]]], anchors: Sequence[str]
) -> dict[str, Rights] | None:
    """Key -> (anchors, seeds, images) share of right draws, of the seeds that all have.

    ``found``: key -> anchor -> seed -> evaluation on ``final``. None if there is no such seed.
    """
    rows = [one.get(anchor, {}) for one in found.values() for anchor in anchors]
    seeds = sorted(set.intersection(*(set(row) for row in rows)))
    if not seeds:
        return None
    counted = [e for row in rows for e in row.values() if e.correct and e.score > 0.0]
    uncounted = any(not e.correct and not e.diverged for row in rows for e in row.values())
    if uncounted or len({len(one.correct) for one in counted}) != 1:
        # A user's own metric has no rows: then seeds alone are drawn, of scores as they are.
        return {
            key: np.array([[[one[anchor][seed].score] for seed in seeds] for anchor in anchors])
            for key, one in found.items()
        }
    images = len(counted[0].correct)
    right = sum(int(digit) for digit in counted[0].correct)
    draws = round(right / (counted[0].score * images))

    def share(evaluation: Evaluation) -> list[float]:
        if evaluation.diverged:  # at chance on every image
            return [evaluation.score] * images
        return [int(digit) / draws for digit in evaluation.correct]

    return {
        key: np.array([[share(one[anchor][seed]) for seed in seeds] for anchor in anchors])
        for key, one in found.items()
    }


class Tests(NamedTuple):
    """p of the leader's differences: above the better rival of each anchor, or below every one."""

    anchors: tuple[float, ...]
    """Each alone, corrected for the number of anchors (Holm)."""
    mean: float


def final_tests(state: State, rights: Mapping[str, Rights]) -> Tests:
    """The paired test over seeds and images of what was read on ``final``; NaN for one seed."""
    ours = rights[f"c{state.chosen[0]}"]
    theirs = [rights[name] for name in state.config.confirmation.rivals]
    each = [p_against_best(ours[[i]], [one[[i]] for one in theirs]) for i in range(len(ours))]
    return Tests(tuple(holm(each)), p_against_best(ours, theirs))


def _comparison(state: State, rights: Mapping[str, Rights]) -> dict[str, Any]:
    """Differences of the leader to each rival, and to the better of them per anchor."""
    settings = state.config.confirmation
    ours, theirs = rights[f"c{state.chosen[0]}"], {name: rights[name] for name in settings.rivals}
    strongest, places = best_of(list(theirs.values()))
    seed = int(stream(state.config.seed, "report", 0).random() * 2**31)
    means = {name: values.mean(axis=(1, 2)) for name, values in theirs.items()}
    names = list(theirs)

    def against(rival: Rights) -> tuple[list[Interval], Interval]:
        return paired_bootstrap(
            ours, rival, resamples=settings.resamples, level=settings.level, seed=seed
        )

    each, overall = against(strongest)
    by_rival = {name: against(values) for name, values in theirs.items()}
    rows = [
        {
            "anchor": anchor,
            "objective": state.config.objective(anchor).model_dump(mode="json"),
            "leader": float(ours[i].mean()),
            **{name: float(values[i]) for name, values in means.items()},
            "better_rival": names[places[i]],
            "difference": each[i]._asdict(),
        }
        for i, anchor in enumerate(state.config.anchor_names)
    ]
    return {
        "final": {
            "seeds": ours.shape[1],
            "images": ours.shape[2],
            "level": settings.level,
            "layers_judged": 1 + len(names),
            "anchors": rows,
            "mean_difference": overall._asdict(),
            "mean_difference_to": {n: by_rival[n][1]._asdict() for n in names},
            "rates": _rates(state),
        },
        "verdict": _verdict(overall, each, final_tests(state, rights), alpha=1.0 - settings.level),
    }


def _rates(state: State) -> dict[str, dict[str, float]]:
    rates: dict[str, dict[str, float]] = {}
    for key in (f"c{state.chosen[0]}", *state.config.confirmation.rivals):
        for purpose, evaluation in state.results[key]:
            if purpose == "final":
                rates.setdefault(key, {})[evaluation.anchor] = evaluation.learning_rate
    return rates


def _verdict(overall: Interval, each: list[Interval], tests: Tests, *, alpha: float) -> str:
    """By the test, for a bootstrap over a few seeds is too narrow to decide."""
    if np.isnan(tests.mean):
        return "no verdict: one seed on final tells nothing"
    where = "on the mean of the anchors" if len(each) > 1 else "on its anchor"
    shown = tests.mean < alpha
    p = p_value(tests.mean)
    told = f"p {p}" if p.startswith("<") else f"p = {p}"
    if shown and overall.value > 0.0:
        if len(each) > 1:
            pairs = zip(each, tests.anchors, strict=True)
            wins = sum(one.value > 0.0 and alone < alpha for one, alone in pairs)
            told += f"; {wins} of {len(each)} anchors alone, after correction"
        return f"better: above the better rival {where} ({told})"
    if shown:
        return f"not better: worse than every rival {where} ({told})"
    return f"not better: no difference to the better rival shown {where} ({told})"
