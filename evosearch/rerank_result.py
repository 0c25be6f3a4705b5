"""What a re-ranking found: means and intervals on ``final``, a corrected test, and plain verdicts.

Rows of one data set make a table of their own, apart for what the search trained on and for what it
never used. Each candidate is compared with the better baseline of each anchor, so that it has to
beat the best of them everywhere; it is worse only where it is below every baseline, for the best of
several is above its own worth by chance, and equals would seem worse than it. p-values, of the mean
over anchors and of each anchor alone, are corrected for the number of candidates. Where a baseline
has no number nobody is called better or worse. Pure functions from evaluations to plain JSON data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from evosearch.records import Evaluation
from evosearch.report import rights_of
from evosearch.rerank import Layer, Plan, Setting, row_key
from evosearch.stats import Interval, Rights, best_of, holm, p_against_best, paired_bootstrap
from evosearch.streams import stream

BETTER, WORSE, NEITHER = "better", "worse", "no difference shown"
ONE_SEED, MISSING = "one seed tells nothing", "not comparable: a row is missing"
UNPROVED = "not shown: a baseline is missing"
"""Better or worse than the baselines that have a number, where another one has none."""

Finals = Mapping[str, Mapping[int, Evaluation]]
"""Row -> seed -> evaluation on ``final``."""


def word(difference: float, p: float, level: float) -> str:
    """The plain verdict of a comparison; ``p`` corrected, ``level`` of the interval (0.95)."""
    if np.isnan(p):
        return ONE_SEED
    if p >= 1.0 - level:
        return NEITHER
    return BETTER if difference > 0.0 else WORSE


def result_of(
    plan: Plan, rates: Mapping[str, float], finals: Finals, failures: Mapping[str, str]
) -> dict[str, Any]:
    """The result as plain JSON data.

    ``rates``: row -> the rate that was best for it on ``select``. ``failures``: row -> why it has
    no number.
    """
    ordered = sorted(plan.settings, key=lambda one: (not one.searched, one.dataset))
    tables = [
        _table(plan, list(settings), rates, finals)
        for _, settings in groupby(ordered, key=lambda one: (one.searched, one.dataset))
    ]
    verdicts = {
        layer.key: {table["name"]: table["comparisons"][layer.key]["verdict"] for table in tables}
        for layer in plan.layers if layer.graph is not None
    }  # fmt: skip
    return {
        "search": plan.search,
        "plan": plan.key,
        "steps": plan.task.steps,
        "seeds": len(plan.final_seeds),
        "tune_seeds": len(plan.tune_seeds),
        "rates": list(plan.rates),
        "level": plan.level,
        "versions": dict(plan.versions),
        "layers": {
            layer.key: {"formula": layer.formula, "known_as": layer.known_as,
                        "candidate": layer.graph is not None}
            for layer in plan.layers
        },
        "tables": tables,
        "verdicts": verdicts,
        "verdict": _verdict(plan, tables),
        "failures": dict(failures),
        "at_the_edge": edges(plan, rates),
    }  # fmt: skip


def edges(plan: Plan, rates: Mapping[str, float]) -> list[str]:
    """Rows whose best rate is the lowest or highest that was tried, where there are three or more.

    Another one beyond it may be better still.
    """
    if len(plan.rates) < 3:
        return []
    ends = (min(plan.rates), max(plan.rates))
    return [row for row, rate in rates.items() if rate in ends]


def _table(
    plan: Plan, settings: Sequence[Setting], rates: Mapping[str, float], finals: Finals
) -> dict[str, Any]:
    """Every layer on the anchors of one data set."""
    first = settings[0]
    anchors = [setting.anchor.name for setting in settings]
    found = {
        layer.key: {setting.anchor.name: finals.get(row_key(layer, setting), {})
                    for setting in settings}
        for layer in plan.layers
    }  # fmt: skip
    whole = {key: by_anchor for key, by_anchor in found.items() if all(by_anchor.values())}
    rights = (rights_of(whole, anchors) or {}) if whole else {}
    some = next(iter(rights.values()), np.zeros((0, 0, 0)))
    return {
        "name": f"{'search' if first.searched else 'transfer'}: {first.dataset}",
        "dataset": first.dataset,
        "searched": first.searched,
        "whole": first.whole,
        "anchors": {
            one.anchor.name: {"size": one.anchor.size if one.sized else None,
                              "objective": one.anchor.objective.model_dump(mode="json")}
            for one in settings
        },
        "seeds": some.shape[1],
        "images": some.shape[2],
        "rows": {
            layer.key: _row(plan, layer, settings, rights.get(layer.key), rates)
            for layer in plan.layers
        },
        "comparisons": _comparisons(plan, anchors, rights),
        "missing_baselines": [one.key for one in _baselines(plan) if one.key not in rights],
    }  # fmt: skip


def _baselines(plan: Plan) -> list[Layer]:
    return [layer for layer in plan.layers if layer.graph is None]


def _row(
    plan: Plan, layer: Layer, settings: Sequence[Setting], rights: Rights | None,
    rates: Mapping[str, float],
) -> dict[str, Any]:  # fmt: skip
    names = {setting.anchor.name: row_key(layer, setting) for setting in settings}
    mine = {anchor: rates[key] for anchor, key in names.items() if key in rates}
    if rights is None:
        return {"mean": None, "anchors": {}, "rates": mine}
    each, overall = _bootstrap(plan, rights, np.zeros_like(rights))
    return {
        "mean": overall._asdict(),
        "anchors": {name: one._asdict() for name, one in zip(names, each, strict=True)},
        "rates": mine,
    }


def _comparisons(
    plan: Plan, anchors: Sequence[str], rights: Mapping[str, Rights]
) -> dict[str, dict[str, Any]]:
    """Each candidate against the better baseline of each anchor.

    Nobody is called better, or worse than all, where a baseline has no number.
    """
    candidates = [layer.key for layer in plan.layers if layer.graph is not None]
    baselines = [one.key for one in _baselines(plan) if one.key in rights]
    complete = len(baselines) == len(_baselines(plan))
    made: dict[str, dict[str, Any]] = {key: {"verdict": MISSING} for key in candidates}
    ranked = [key for key in candidates if key in rights]
    if not baselines or not ranked:
        return made
    strongest, places = best_of([rights[name] for name in baselines])
    better = [baselines[place] for place in places]
    # Corrected for all that were chosen, also those that failed: they were looked at too.
    failed = len(candidates) - len(ranked)
    ours, theirs = ({key: rights[key] for key in keys} for keys in (ranked, baselines))
    tested = _tested(ours, theirs, failed)
    alone = [_tested(_only(ours, at), _only(theirs, at), failed) for at in range(len(anchors))]

    def said(difference: float, p: float) -> str:
        found = word(difference, p, plan.level)
        return UNPROVED if found in (BETTER, WORSE) and not complete else found

    for key in ranked:
        each, overall = _bootstrap(plan, rights[key], strongest)
        p, corrected = tested[key]
        made[key] = {
            "better_baseline": dict(zip(anchors, better, strict=True)),
            "difference": overall._asdict(),
            "anchors": {
                name: {**one._asdict(), "p": _finite(by[key][0]),
                       "p_corrected": _finite(by[key][1]), "verdict": said(one.value, by[key][1])}
                for name, one, by in zip(anchors, each, alone, strict=True)
            },
            "p": _finite(p),
            "p_corrected": _finite(corrected),
            "verdict": said(overall.value, corrected),
        }  # fmt: skip
    return made


def _only(rights: Mapping[str, Rights], at: int) -> dict[str, Rights]:
    """The same of one anchor."""
    return {key: one[[at]] for key, one in rights.items()}


def _tested(
    ours: Mapping[str, Rights], baselines: Mapping[str, Rights], failed: int
) -> dict[str, tuple[float, float]]:
    """Candidate -> its p, and p corrected for them all and so many that failed."""
    theirs = list(baselines.values())
    found = {key: p_against_best(one, theirs) for key, one in ours.items()}
    corrected = holm([*found.values(), *[1.0] * failed])
    return {key: (p, by) for (key, p), by in zip(found.items(), corrected, strict=False)}


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _bootstrap(plan: Plan, ours: Rights, theirs: Rights) -> tuple[list[Interval], Interval]:
    seed = int(stream(plan.task.steps, "report", 1).random() * 2**31)
    return paired_bootstrap(
        ours, theirs, resamples=plan.resamples, level=plan.level, seed=seed
    )  # fmt: skip


def _verdict(plan: Plan, tables: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: who is better where, what holds up elsewhere, and what was not tried."""
    main = tables[0]
    compared = main["comparisons"].values()
    count = len(compared)
    many = f"after correction for {count} candidates" if count > 1 else "one candidate"
    alpha = f"p < {1.0 - plan.level:.3g}, {many}"
    winners = [key for key, one in main["comparisons"].items() if one["verdict"] == BETTER]
    if all(one["verdict"] == MISSING for one in compared):
        return "no verdict: no candidate can be compared with a baseline"
    if all(one["verdict"] in (MISSING, ONE_SEED) for one in compared):
        return "no verdict: one seed tells nothing; ask for more with --seeds"
    anchors = list(main["anchors"])
    where = f"the mean of {len(anchors)} anchors" if len(anchors) > 1 else anchors[0]
    on = f"on {main['dataset']}, {where}"
    gone = ", ".join(main["missing_baselines"])
    if any(one["verdict"] == UNPROVED and one["difference"]["value"] > 0.0 for one in compared):
        return f"no verdict: {gone} has no number {on}, and may be the better baseline ({alpha})"
    untried = "".join(f"; {what}" for what in _untried(plan, tables))
    if not winners:
        fewer = f"; {gone} has no number" if gone else ""
        told = f"not better: no candidate beats the better baseline {on} ({alpha})"
        return f"{told}{untried}{fewer}"
    shown = ", ".join(key.removeprefix("c") for key in winners)
    told = f"better: candidate {shown} beats the better baseline {on} ({alpha})"
    if len(anchors) > 1:
        alone = [main["comparisons"][key]["anchors"].values() for key in winners]
        won = [f"{sum(one['verdict'] == BETTER for one in each)} of {len(each)}" for each in alone]
        told += f"; on its own it is better on {', '.join(won)} anchors"
    others = tables[1:]
    if others:
        held = [
            f"{sum(one['comparisons'][key]['verdict'] == BETTER for one in others)} of "
            f"{len(others)}" for key in winners
        ]  # fmt: skip
        which = "transfers" if main["searched"] else "other transfers"
        told += f"; of the {which} it is better in {', '.join(held)}"
    return told + untried


def _untried(plan: Plan, tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader would take for granted and this re-ranking did not do."""
    found = []
    if not tables[0]["searched"]:
        found.append("all of it is transfer, and the search's own task was not trained")
    elif len(tables) == 1:
        found.append("no transfer was trained")
    elif len({table["dataset"] for table in tables}) == 1:
        found.append("no data but the search's were trained on")
    if len(plan.rates) == 1:
        found.append(f"no learning rate was chosen, for {plan.rates[0]:g} alone was tried")
    return found
