"""The tables of a re-ranking, for the terminal and for a report; they show a stored result.

Nothing is computed anew here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.reporting.blocks import Block, Section, Table, Text
from api.reporting.drawings import differences, dot
from api.reporting.scores import Columns, as_values, drawn, heads, with_interval, with_mean
from api.text import changed, goal_of, heading
from evosearch.objectives import Objective
from evosearch.stats import Interval, p_value

TITLE = "Re-ranking: the top layers and every baseline on a longer task"
HEAD = "re-ranking"
ENOUGH_SEEDS = 10


def rerank_section(reranks: Sequence[Mapping[str, Any]]) -> Section:
    """The section of all re-rankings of a search: results, and how far the others have come."""
    blocks: list[Block] = []
    for one in reranks:
        blocks += rerank_blocks(one["result"]) if "result" in one else [_progress(one)]
    return Section(TITLE, tuple(blocks))


def _progress(one: Mapping[str, Any]) -> Text:
    return Text(
        f"Re-ranking {one['plan']} is not at its end: {one['ended']} of {one['trials']} trials "
        f"have ended on select, {one['finals']} of {one['jobs']} trainings were read on final."
    )


def rerank_blocks(result: Mapping[str, Any]) -> list[Block]:
    """Verdict, then the tables of each data set, then what a reader has to know."""
    blocks: list[Block] = [Text(f"Verdict of {HEAD} {result['plan']}: {result['verdict']}.", True)]
    for place, table in enumerate(result["tables"], 1):
        name = f"rerank-{result['plan']}-{place}"
        blocks += [_scores(result, table, name), _comparisons(result, table, f"{name}-verdicts")]
        if len(table["anchors"]) > 1:
            blocks.append(_each_anchor(result, table, f"{name}-anchors"))
        if table.get("missing_baselines"):
            gone = ", ".join(table["missing_baselines"])
            blocks.append(
                Text(
                    f"Note: {gone} has no number in {table['name']}, so the better baseline is one "
                    "of the others, and nobody is called better or worse."
                )
            )
    blocks += [Text(f"Note: {line}.") for line in notes(result)]
    return blocks


def notes(result: Mapping[str, Any]) -> list[str]:
    """What the tables do not say."""
    shown = ", ".join(f"{count} layers on that of {name}"
                      for name, count in result["judged"].items())  # fmt: skip
    lines = [f"the split final has judged, in all that this search and its re-rankings read, "
             f"{shown or 'none'}; {result['reads']} reads are of this one"]  # fmt: skip
    for key, layer in result["layers"].items():
        if layer["candidate"] and layer["known_as"]:
            lines.append(f"candidate {key[1:]} equals {layer['known_as']} in function and is no "
                         "discovery")  # fmt: skip
    if result["seeds"] < ENOUGH_SEEDS:
        lines.append(f"with {result['seeds']} seeds the bootstrap's intervals are too narrow; the "
                     "test allows for it, and needs larger differences")  # fmt: skip
    lines += [
        f"images of {table['dataset']} are trained on as they are, for the search's crops and "
        "flips were made for images of another size"
        for table in result["tables"]
        if table.get("whole")
    ]
    if result.get("versions"):
        told = ", ".join(f"{name} {one}" for name, one in result["versions"].items())
        lines.append(f"trained with {told}")
    edge = result["at_the_edge"]
    if edge:
        some = ", ".join(edge[:4]) + (f" and {len(edge) - 4} more" if len(edge) > 4 else "")
        lines.append(f"the best rate is the lowest or highest that was tried for {some}; one "
                     "beyond it may be better")  # fmt: skip
    for name, why in result["failures"].items():
        lines.append(f"failed: {name}: {why}")
    return lines


def _label(result: Mapping[str, Any], key: str) -> str:
    return f"candidate {key[1:]}" if result["layers"][key]["candidate"] else key


def _goals(table: Mapping[str, Any]) -> dict[str, Objective]:
    return {name: goal_of(one["objective"]) for name, one in table["anchors"].items()}


def _columns(table: Mapping[str, Any]) -> Columns:
    """Anchors with the size of the network, and their mean."""
    sizes = {name: one["size"] for name, one in table["anchors"].items()}
    goals = _goals(table)
    each = [
        (heading(name, goal) + ("" if sizes[name] is None else f" {sizes[name]}"), goal)
        for name, goal in goals.items()
    ]
    return with_mean(each)


def _scores(result: Mapping[str, Any], table: Mapping[str, Any], name: str) -> Table:
    columns = _columns(table)
    rows, found = [], {}
    for key, row in table["rows"].items():
        every = [*map(row["anchors"].get, table["anchors"]), row["mean"]]
        found[_label(result, key)] = [_interval(one) for one in every]
        cells = [_cell(one, goal) for one, (_, goal) in zip(every, columns, strict=True)]
        rates = " / ".join(
            f"{row['rates'][a]:g}" if a in row["rates"] else "-" for a in table["anchors"]
        )
        rows.append((_label(result, key), result["layers"][key]["formula"], *cells, rates))
    over = "seeds and images" if table["images"] > 1 else "seeds alone, for the metric has no rows"
    rates_tried = ", ".join(f"{rate:g}" for rate in result["rates"])
    return Table(
        name,
        f"{table['name']}: final, {table['seeds']} fresh seeds, {result['steps']} steps",
        ("layer", "formula", *heads(columns), "rate"), tuple(rows), left=frozenset({0, 1}),
        svg=drawn(f"Scores on final of {table['name']}", found, columns),
        caption=f"{100 * result['level']:g} % intervals, bootstrap over {over}. Each row at the "
        f"learning rate that was best for it on select, of {rates_tried} with "
        f"{_seeds(result['tune_seeds'])}.",
    )  # fmt: skip


def _comparisons(result: Mapping[str, Any], table: Mapping[str, Any], name: str) -> Table:
    goals, columns = _goals(table), _columns(table)
    mean = columns[-1][1]
    rows, bold, found = [], set[int](), {}
    for key, one in table["comparisons"].items():
        if "difference" not in one:
            blanks = ["-"] * (len(goals) + 4)
            rows.append((_label(result, key), *blanks, one["verdict"]))
            continue
        if one["verdict"] == "better":
            bold.add(len(rows))
        cells = [changed(one["anchors"][anchor], goal) for anchor, goal in goals.items()]
        cells.insert(0, " / ".join(one["better_baseline"][anchor] for anchor in goals))
        cells.append(changed(one["difference"], mean))
        every = [*(one["anchors"][anchor] for anchor in goals), one["difference"]]
        found[_label(result, key)] = [_interval(each) for each in every]
        tests = (p_value(one["p"]), p_value(one["p_corrected"]))
        rows.append((_label(result, key), *cells, *tests, one["verdict"]))
    return Table(
        name, f"{table['name']}: each candidate minus the better baseline of each anchor",
        ("layer", "better baseline", *heads(columns), "p", "corrected", "verdict"),
        tuple(rows),
        svg=drawn("Candidate minus the better baseline", found, columns, zero=True),
        left=frozenset({0, 1, len(goals) + 5}), bold=frozenset(bold),
        caption="p of the mean difference: paired over seeds and images, both taken as drawn; of "
        "a candidate below the better baseline the largest p over all baselines, for it is worse "
        "where it is below each of them; "
        f"corrected for {len(table['comparisons'])} candidates (Holm), not for the number of "
        "tables.",
    )  # fmt: skip


def _each_anchor(result: Mapping[str, Any], table: Mapping[str, Any], name: str) -> Table:
    """The same anchor by anchor; results of earlier versions have no test of one."""
    rows: list[tuple[str, ...]] = []
    bold, shown = set[int](), []
    for key, one in table["comparisons"].items():
        for anchor, goal in _goals(table).items() if "difference" in one else ():
            found = one["anchors"][anchor]
            if found.get("verdict") == "better":
                bold.add(len(rows))
            tests = (p_value(found.get("p")), p_value(found.get("p_corrected")))
            shown.append((f"{_label(result, key)}, {anchor}", as_values(_interval(found), goal)))
            rows.append((_label(result, key), anchor, one["better_baseline"][anchor],
                         changed(found, goal), *tests, found.get("verdict", "-")))  # fmt: skip
    return Table(
        name, f"{table['name']}: each candidate on each anchor alone",
        ("layer", "anchor", "better baseline", "difference", "p", "corrected", "verdict"),
        tuple(rows), left=frozenset({0, 1, 2, 6}), bold=frozenset(bold),
        svg=differences("Candidate minus the better baseline of each anchor", shown),
        caption="The same test on one anchor, corrected for "
        f"{len(table['comparisons'])} candidates (Holm) and not for the number of anchors: better "
        "on all of them is a claim, better on one of them is a look.",
    )  # fmt: skip


def _interval(found: Mapping[str, Any] | None) -> Interval:
    if found is None:
        return dot(None)
    return Interval(*(found[name] for name in Interval._fields))


def _cell(found: Mapping[str, float] | None, goal: Objective) -> str:
    return "-" if found is None else with_interval(Interval(**found), goal)


def _seeds(count: int) -> str:
    return "another seed" if count == 1 else f"{count} other seeds"
