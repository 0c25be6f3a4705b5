"""Writes the statistics of the shipped table into docs/table.md.

    python -m docs.make_table

Reads ``tests/benchmarks/results/table_figures.json``, which is what ``evosearch bench table show
TABLE --json`` says. Where there is no such file, the page names what is not measured yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("table.md")
FIGURES = Path(__file__).parents[1] / "tests" / "benchmarks" / "results" / "table_figures.json"
BEGIN, END = "<!-- statistics: written by make_table.py -->", "<!-- end of statistics -->"


def statistics(found: Mapping[str, Any]) -> Iterator[str]:
    """What the shipped table holds, from what ``bench table show --json`` says."""
    if not found:
        yield (
            "Not measured yet: how many functions beat BN-ReLU and BN-SiLU, the rank correlations "
            "between anchors, and the seeds' noise. `make search-study` builds the table and "
            "writes them here."
        )
        return
    space = found["space"]
    yield (
        f"The table of {space['functions']:,} functions holds {space['in_the_table']:,} with "
        f"{found['seeds']} seeds each; {found['viable']:,} are viable. A search comes to "
        f"{found['uncrowded']['functions']:,} functions, {found['uncrowded']['viable']:,} of them "
        f"viable. Published layers in it: {', '.join(found['published']) or 'none'}."
    )
    yield ""
    yield "| baseline | functions better in the mean of anchors | better on every anchor |"
    yield "|---|---|---|"
    for name, one in found["beats"].items():
        yield f"| {name} | {one['mean']:,} | {one['every_anchor']:,} |"
    yield ""
    yield "Means over the stored seeds; with few seeds some of these functions are only lucky."
    yield ""
    yield "| anchors | rank correlation of viable functions |"
    yield "|---|---|"
    for pair, rho in found["rank_correlation"].items():
        yield f"| {pair} | {'-' if rho is None else f'{rho:.2f}'} |"
    yield ""
    yield (
        "| anchor | functions differ by (sd) | seeds differ by (sd) | "
        "seeds that tell a point apart |"
    )
    yield "|---|---|---|---|"
    for anchor, one in found["noise"].items():
        yield f"| {anchor} | {one['between']:.3f} | {one['noise']:.3f} | {one['seeds']} |"
    yield ""
    for what, one in found["random_proposals"].items():
        if one:
            yield (
                f"Random proposals until half of its {what} are met: {one['half']:,}; nine tenths: "
                f"{one['nine_tenths']:,}; all: {one['all']:,}."
            )


def with_statistics(text: str, found: Mapping[str, Any]) -> str:
    """The table's page with its statistics as they are now."""
    body = "\n".join(statistics(found))
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n\n{body}\n\n{END}", text)


def main() -> None:
    found = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    text = with_statistics(TARGET.read_text(encoding="utf-8"), found)
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
