"""Draws the pictures of `docs/concepts.md` from real layers, counts and searches.

``python -m docs.make_concepts`` writes them all; the search of the third takes minutes. Each has a
ground of its own, so that it reads on light and dark pages alike.
"""

from __future__ import annotations

import json
import math
import re
from html import escape
from pathlib import Path

import evosearch as es
from evosearch.state import State
from primitives.picture import to_svg

HERE = Path(__file__).parent
FOLDER = HERE / "pictures"
RESULTS = HERE.parent / "tests" / "benchmarks" / "results" / "quickstart.json"
INK, QUIET, LINE, BLUE, PALE, RED = (
    "#111827", "#4b5563", "#d1d5db", "#1f6feb", "#dbe7fb", "#c2410c",
)  # fmt: skip
STYLE = (
    f"text{{font:13px sans-serif;fill:{INK}}}.quiet{{fill:{QUIET};font-size:12px}}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.strong{font-weight:bold}"
)


def picture(width: int, height: int, title: str, parts: list[str]) -> str:
    """The SVG text of these parts on a light ground."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><style>{STYLE}</style><title>{escape(title)}</title>'
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff" stroke="{LINE}"/>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def layer() -> str:
    """EvoNorm-S0 as the product draws it, on a ground."""
    drawn = to_svg(es.layer_graph("evonorm-s0"), "EvoNorm-S0: x * sigmoid(v1 * x) / std_group(x)")
    return re.sub(r"(</title>)", r'\1\n<rect class="ground" width="100%" height="100%" rx="8"/>',
                  drawn).replace("<style>", "<style>.ground{fill:#fff;stroke:#d1d5db}")  # fmt: skip


def flow() -> str:
    """How many candidates come how far, by the first of the quickstart's recorded searches."""
    told = json.loads(RESULTS.read_text())
    run, confirmed = told["runs"][0], told["config"]["confirmation"]["top"]
    stages = [
        ("proposed", run["proposals"], "mutation, random, enqueued", "microseconds"),
        ("chosen", run["queued"], "limits, structure, where, seen before?, odds",
         "milliseconds"),
        ("trained to the end", run["evaluated"], "signal, stability, quality, hurdles",
         "a second and more"),
        ("confirmed", confirmed, "fresh seeds on select", "trainings"),
        ("read on final", 1, "the leader, beside its rivals", "trainings"),
    ]  # fmt: skip
    left, wide, row = 150, 380, 58
    most = math.log10(stages[0][1]) + 0.35
    parts = []
    for place, (name, count, by, cost) in enumerate(stages):
        y = 22 + row * place
        size = wide * (math.log10(count) + 0.35) / most
        if place:
            parts.append(text(left + 4, y - 8, f"↓ {by}", "quiet"))
            parts.append(text(735, y - 8, f"each: {cost}", "quiet end"))
        parts.append(
            f'<rect x="{left}" y="{y}" width="{size:.1f}" height="26" rx="3" fill="{BLUE}"/>'
        )
        parts.append(text(left - 10, y + 18, name, "end strong"))
        parts.append(text(left + size + 8, y + 18, f"{count:,}"))
    note = (
        f"quickstart, seed {run['seed']}: {run['duplicates_not_trained']} more equalled an earlier "
        "function and were not trained; bars by the logarithm"
    )
    parts.append(text(735, 22 + row * len(stages) - 14, note, "quiet end"))
    return picture(750, 24 + row * len(stages), "from a proposal to the front", parts)


def aging(state: State) -> str:
    """Evaluated candidates in the order of their outcomes: who is a parent at the end."""
    members = [one for one in state.members.values() if one.evaluated]
    goal = state.config.objective(state.config.anchor_names[0])
    value = {one.birth: goal.value(one.means()[state.config.anchor_names[0]]) for one in members}
    low, high = min(value.values()), max(value.values())
    alive, front = set(state.population), state.front.members
    width, left, top, bottom = 750, 64, 44, 300

    def at(place: int) -> float:
        return left + 12 + place * (width - left - 40) / (len(members) - 1)

    def up(birth: int) -> float:
        return bottom - 12 - (value[birth] - low) / (high - low) * (bottom - top - 24)

    places = {one.birth: place for place, one in enumerate(members)}
    first = min(places[birth] for birth in alive)
    edge = (at(first) + at(first - 1)) / 2
    parts = [
        f'<rect x="{edge:.1f}" y="{top}" width="{width - 20 - edge:.1f}" height="{bottom - top}" '
        f'fill="{PALE}" rx="4"/>',
        text((edge + width - 20) / 2, top - 10, f"population: the last {len(alive)}", "mid strong"),
        text((left + edge) / 2, top - 10, "dropped by age, however good", "mid quiet"),
    ]
    for one in members:
        x, y = at(places[one.birth]), up(one.birth)
        for parent in one.parents if one.birth in alive else ():
            if parent in places:
                parts.append(
                    f'<line x1="{at(places[parent]):.1f}" y1="{up(parent):.1f}" x2="{x:.1f}" '
                    f'y2="{y:.1f}" stroke="{QUIET}" stroke-opacity="0.35"/>'
                )
    for one in members:
        x, y = at(places[one.birth]), up(one.birth)
        fill = BLUE if one.birth in alive else "#ffffff"
        ring = RED if one.birth in front else BLUE if one.birth in alive else QUIET
        thick = 3 if one.birth in front else 1.2
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{ring}" '
            f'stroke-width="{thick}"/>'
        )
    parts += [
        f'<line x1="{left}" y1="{bottom}" x2="{width - 20}" y2="{bottom}" stroke="{QUIET}"/>',
        f'<line x1="{left}" y1="{top}" x2="{left}" y2="{bottom}" stroke="{QUIET}"/>',
        text(left - 8, bottom - 8, "lower", "end quiet"),
        text(left - 8, top + 16, "higher", "end quiet"),
        text((left + width) / 2, bottom + 20,
             "evaluated, in the order of outcomes; upwards: accuracy", "mid quiet"),
        text((left + width) / 2, bottom + 40,
             "filled: may become a parent; lines: from parent to child; red ring: on the front",
             "mid quiet"),
    ]  # fmt: skip
    return picture(width, bottom + 54, "population by age", parts)


def searched() -> State:
    """A small search that repeats bit for bit: 60 candidates, a population of 20."""
    settings = {
        "task.steps": 40, "task.anchors": [{"name": "resnet", "width": 4}], "task.batch_size": 32,
        "evolution.population_size": 20, "checks.quality.steps": 15,
        "checks.stability.enabled": False,
    }  # fmt: skip
    run = es.search(["resnet"], settings=settings, budget=60, confirm=False, pool="inline",
                    db="memory:", show=False)  # fmt: skip
    return run.state


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    made = {"layer": layer(), "flow": flow(), "aging": aging(searched())}
    for name, drawn in made.items():
        (FOLDER / f"{name}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
