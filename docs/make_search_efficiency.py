"""Writes docs/search-efficiency.md from the studies' results.

    python -m docs.make_search_efficiency

Reads ``table.json`` of `tests.benchmarks.study_table` and, where it is there, ``search.json`` of
`tests.benchmarks.study_search`; every figure of the page comes from them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("search-efficiency.md")
PICTURES = Path(__file__).with_name("pictures")
RESULTS = Path(__file__).parents[1] / "tests" / "benchmarks" / "results"
WANTED = {"random": 1 / 3, "paper": 1 / 2}
RIVAL_NAMES = {"random": "random search", "paper": "the paper's algorithm"}
MEASURES = {"steps": "training steps", "seconds": "seconds of a worker"}

HEAD = """# How much training the search saves

Three searches with the same checks on the same task: the default, the paper's aging evolution,
and random search. Every training step counts, those of rejected and audited candidates too. What a
search is worth at a moment is the hypervolume of the front that it would return then, on seeds that
it never saw. The question is how soon the default has what a rival has at the end of the budget.
"""


def page(folder: Path = RESULTS) -> str:
    """The whole page."""
    parts = [HEAD.strip()]
    table = _read(folder, "table")
    parts.append("\n".join(on_table(table)))
    if (folder / "search.json").exists():
        parts.append("\n".join(on_real_runs(_read(folder, "search"))))
    return "\n\n".join(parts) + "\n"


def _read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def on_table(result: Mapping[str, Any]) -> Iterator[str]:
    """The tabular benchmark: the two rivals, then every ingredient."""
    about, options, found = result["table"], result["options"], result["summary"]
    searches = found["default"]["searches"]
    yield from ("## On a tabular benchmark", "")
    yield (
        f"{about['functions']:,} functions of at most {about['nodes']} live nodes of "
        f"{', '.join(f'`{name}`' for name in about['primitives'])}, each trained before with "
        f"{about['seeds']} seeds ([what a table is](table.md)); {searches} searches a variant, "
        f"{options['steps']:,} training steps each, {options['held_out']} seed held out. "
        f"{100 * found['default']['outside_share']:.1f} % of the candidates were outside the table."
    )
    yield ""
    yield from verdict_rows(found)
    yield ""
    yield "![Hypervolume on held-out seeds over training steps](pictures/table_steps.svg)"
    yield ""
    yield "### Every ingredient"
    yield ""
    yield (
        "The default without one ingredient, or with another one: what each needs to reach what "
        "the paper's algorithm has at the end, as a share of what that spent, and its own end."
    )
    yield ""
    yield "| variant | training steps | seconds | hypervolume at the end | evaluated |"
    yield "|---|---|---|---|---|"
    for name, one in found.items():
        against = one["against"].get("paper")
        cells = [share(against[axis]["share"]) for axis in MEASURES] if against else ["", ""]
        value = number(one["hypervolume"], 5)
        yield f"| {name} | {' | '.join(cells)} | {value} | {number(one['evaluated'], 0)} |"


def verdict_rows(found: Mapping[str, Any]) -> Iterator[str]:
    """What the default needs to reach each rival's end, with the bar and the verdict."""
    yield "| to reach the end of | in | share of what it spent | wanted | reached by | |"
    yield "|---|---|---|---|---|---|"
    for rival, most in WANTED.items():
        against = found["default"]["against"].get(rival)
        if against is None:
            continue
        for axis, name in MEASURES.items():
            one = against[axis]
            value = one["share"]["value"]
            met = "met" if value is not None and value <= most else "missed"
            yield (
                f"| {RIVAL_NAMES[rival]} | {name} | {share(one['share'])} | {most:.2f} | "
                f"{100 * one['reached_by']:.0f} % | {met} |"
            )


def on_real_runs(result: Mapping[str, Any]) -> Iterator[str]:
    """Real searches on a data set that nothing was tuned on, and the unseen network."""
    found = result["summary"]
    yield from ("## In real runs", "")
    yield (
        f"{found['default']['searches']} searches a variant on {result['dataset']}, which nothing "
        f"was tuned on, with the quickstart's micro networks and {result['budget']:,} training "
        f"steps each; fronts are judged by {result['held_out_seeds']} held-out seeds."
    )
    yield ""
    yield from verdict_rows(found)
    yield ""
    yield "![Hypervolume on held-out seeds over training steps](pictures/search_steps.svg)"
    unseen = result["unseen_network"]
    if "three_minus_one" not in unseen:
        return
    yield from ("", "## One network or three", "")
    yield (
        "The paper's claim: layers that are searched on several networks at once carry over "
        "better. Leaders of searches on one network and on all three, with the same training "
        "steps, in a plain stack of convolutions that no search saw; accuracy over BN-ReLU's, in "
        "points, mean and 95 % interval over searches."
    )
    yield ""
    yield "| searched on | over BN-ReLU in the unseen network |"
    yield "|---|---|"
    for name in (name for name in unseen if name == "default" or name.endswith(" alone")):
        label = "all three" if name == "default" else name.removesuffix(" alone")
        yield f"| {label} | {points(unseen[name])} |"
    yield f"| three minus the mean of one | {points(unseen['three_minus_one'])} |"


def share(one: Mapping[str, float | None]) -> str:
    """A median with its interval; what is not reached is said so."""
    value, low, high = (
        "not reached" if one[name] is None else f"{one[name]:.2f}"
        for name in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def number(one: Mapping[str, float | None], digits: int) -> str:
    """A median with its interval."""
    value, low, high = (f"{one[name] or 0.0:,.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def points(one: Mapping[str, float]) -> str:
    """A difference of accuracies in points, with its interval."""
    value, low, high = (100 * one[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    TARGET.write_text(page(), encoding="utf-8")
    for name in ("table_steps", "search_steps"):
        if (RESULTS / f"{name}.svg").exists():
            shutil.copy(RESULTS / f"{name}.svg", PICTURES / f"{name}.svg")


if __name__ == "__main__":
    main()
