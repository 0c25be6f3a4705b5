"""The part of docs/search-efficiency.md that tells what each ingredient of the default is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docs.search_figures import number, percent, share
from tests.benchmarks.rivals import INGREDIENTS, OTHERS

SAME_SEEDS = "default, with the seeds of the lines below"


def ingredients(result: Mapping[str, Any]) -> Iterator[str]:
    """One line for each way in which the default may differ from the paper, and for others."""
    found, targets = result["summary"], result["targets"]
    yield from ("### Every ingredient", "")
    yield (
        "The default with the paper's value of one ingredient, or without it, and then with what "
        "is off in it: the share of what the hardest rivals spent that each needs to have their "
        "end for good. *Along the way* is the mean hypervolume over the training steps of the "
        "budget, more or less than the default's with the same seeds, in per cent of its, with "
        "Student's 95 % interval of the mean; of lines that change nothing, one in twenty has an "
        "interval without 0. By it the default is:"
    )
    yield from ("", *what_earns_its_place(found))
    hardest = {kind: one["steps"]["hardest"] for kind, one in targets.items() if "steps" in one}
    same = result["default_with_their_seeds"]
    extra = {SAME_SEEDS: same} if same else {}
    found = {**found, **extra}
    yield ""
    yield from how_far_seconds_tell(found)
    yield (
        f"| variant | {''.join(f'of {rival}: steps | seconds | ' for rival in hardest.values())}"
        "along the way, over the default | hypervolume at the end | evaluated | searches | "
        "exhausted early |"
    )
    yield "|---|" + "---|---|" * len(hardest) + "---|---|---|---|---|"
    rest = "| " * (4 + 2 * len(hardest)) + "|"
    for name in ("default", *extra, *INGREDIENTS, *OTHERS):
        if name in result["left_out"]:
            yield f"| {name} | left out: {result['left_out'][name]} {rest}"
        elif name not in found:
            yield f"| {name} | not measured yet {rest}"
        else:
            one = found[name]
            cells = [
                share(one["against"][rival][axis]["share"], one["against"][rival]["seeds"])
                for rival in hardest.values() for axis in ("steps", "seconds")
            ]  # fmt: skip
            over = one["over_default"]
            cells.append(percent(over) if over else "")
            cells += [number(one["hypervolume"], 5), number(one["evaluated"], 0)]
            yield f"| {name} | {' | '.join(cells)} | {one['searches']} | {one['exhausted']} |"


def how_far_seconds_tell(found: Mapping[str, Any]) -> Iterator[str]:
    """How much the controller's seconds differ between lines that are the same search."""
    same = [
        one["controller_seconds"]["value"] for name in (SAME_SEEDS, *INGREDIENTS, *OTHERS)
        if (one := found.get(name))
        and (not (over := one["over_default"]) or changes_nothing(over))
    ]  # fmt: skip
    if len(same) > 1:
        yield (
            "Lines of fewer searches are to be read beside the default's with their seeds. Seconds "
            "say less than steps here, for the controller's were measured at several times on a "
            f"shared machine: in lines that are the same searches as the default's they are "
            f"{min(same):.1f} to {max(same):.1f}."
        )
        yield ""


def changes_nothing(over: Mapping[str, float]) -> bool:
    """Whether a variant is the default's search with every seed."""
    return over["low"] == over["high"] == 0.0


def what_earns_its_place(found: Mapping[str, Any]) -> Iterator[str]:
    """What the intervals along the way say of the default's ingredients, and of what it lacks."""
    for names, how in ((INGREDIENTS, "without"), (OTHERS, "with")):
        known = {name: found[name]["over_default"] for name in names if name in found}
        told = [name for name, one in known.items() if one]
        idle = [name for name in told if changes_nothing(known[name])]
        worse = [name for name in told if known[name]["high"] < 0.0]
        better = [name for name in told if known[name]["low"] > 0.0]
        if known:
            yield (
                f"- Worse {how}: {'; '.join(worse) or 'none'}. Better {how}: "
                f"{'; '.join(better) or 'none'}. The same with every seed, for nothing comes of it "
                f"within the budget: {'; '.join(idle) or 'none'}. Nothing sure of the other "
                f"{len(known) - len(worse) - len(better) - len(idle)}."
            )
