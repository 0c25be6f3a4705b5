"""Tables of the command line: scores, funnel, report, lists; they print what others computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from api.progress import FunnelRow, ScoreRow
from api.reporting.blocks import Table as Block
from api.text import changed, cost, count, goal_of, heading, shown
from evosearch.objectives import ACCURACY, Objective
from evosearch.ports import SearchInfo
from evosearch.report import contributions

PROVISIONAL = "~ provisional: one seed on select"


def table(title: str = "", *, caption: str = "") -> Table:
    """An empty table in the house's look; titles are left-aligned and no markup is read."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, title_justify="left", caption_justify="left")
    made.title = Text(title, style="bold") if title else None
    made.caption = Text(caption, style="dim") if caption else None
    return made


def block_table(block: Block) -> Table:
    """A report's table as the terminal shows it."""
    made = table(block.title, caption=block.caption)
    for place, head in enumerate(block.head):
        made.add_column(
            head, justify="left" if place in block.left else "right", overflow="fold",
            ratio=2 if place in block.left else None,
        )  # fmt: skip
    for place, cells in enumerate(block.rows):
        made.add_row(*map(Text, cells), style="bold" if place in block.bold else None)
    return made


def score_table(
    rows: Sequence[ScoreRow],
    baselines: Sequence[ScoreRow],
    anchors: Sequence[str],
    *,
    title: str = "front",
    short: bool = False,
    goals: Mapping[str, Objective] | None = None,
) -> Table:
    """Layers beside baselines: scores on ``select`` per anchor, and how many seeds they have.

    ``short`` cuts formulas to one line instead of folding them. ``goals``: coordinate -> what its
    scores mean; further objectives stand in columns of their own.
    """
    means = dict.fromkeys(anchors, ACCURACY) if goals is None else goals
    made = table(title, caption=PROVISIONAL if any(row.seeds == 1 for row in rows) else "")
    made.add_column("", justify="right", no_wrap=True)
    made.add_column("formula", overflow="ellipsis" if short else "fold", no_wrap=short, ratio=1)
    for anchor, goal in means.items():
        width = 7 if short else 14
        made.add_column(
            heading(anchor, goal), justify="right", overflow="fold", min_width=6, max_width=width
        )
    made.add_column("seeds", justify="right")
    for row in (*rows, *baselines):
        known = row in baselines
        scores = [shown(row.mean(a), goal, provisional=row.seeds == 1)
                  for a, goal in means.items()]  # fmt: skip
        label = ("" if known else row.label) + ("*" if row.is_leader else "")
        made.add_row(
            label,
            Text(row.label if known else row.formula),
            *scores,
            str(row.seeds),
            style="dim" if known else "bold" if row.is_leader else None,
        )
    return made


def funnel_text(rows: Sequence[FunnelRow]) -> Text:
    """The funnel as running text, for where a table takes too many lines."""
    words = []
    for row in rows:
        runs = "" if row.seen is None else f" of {count(row.seen)} runs"
        spent = "" if row.seconds is None else f" ({cost(row.seconds)})"
        words.append(f"{row.stage} {count(row.rejected)}{runs}{spent}")
    return Text.assemble(("rejected: ", "bold"), ", ".join(words) or "nothing yet")


def funnel_table(rows: Sequence[FunnelRow]) -> Table:
    """What each check threw out, and at what cost."""
    made = table("funnel")
    made.add_column("check")
    for name in ("runs", "rejected", "cost"):
        made.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        seen = "" if row.seen is None else count(row.seen)
        made.add_row(row.stage, seen, count(row.rejected), cost(row.seconds))
    return made


def yield_table(rows: Mapping[str, Mapping[str, int]]) -> Table:
    """What random graphs and each operator contributed, most evaluated first.

    ``rows``: by the edits made, of which ``a+b`` counts for both.
    """
    made = table("where candidates came from", caption="each: a proposal; two edits count for both")
    made.add_column("operator")
    for name in ("proposals", "new functions", "each", "evaluated", "each", "on the front"):
        made.add_column(name, justify="right", no_wrap=True)
    for name, one in contributions(rows).items():
        made.add_row(
            name, count(one.proposals), count(one.new_functions), f"{one.new_share:.3f}",
            count(one.evaluated), f"{one.survivor_share:.4f}", count(one.on_front),
        )  # fmt: skip
    return made


def searches_table(infos: Iterable[SearchInfo]) -> Table:
    """All searches, one a line."""
    made = table()
    for name in ("id", "title", "status", "started (UTC)"):
        made.add_column(name)
    made.add_column("evaluated", justify="right")
    made.add_column("hypervolume", justify="right")
    for info in infos:
        made.add_row(
            info.id,
            Text(info.title),
            info.status,
            f"{info.created_at:%Y-%m-%d %H:%M}",
            str(info.evaluated),
            f"{info.hypervolume:.4g}",
        )
    return made


def final_table(final: dict[str, Any]) -> Table:
    """The leader beside its rivals on ``final``, per anchor and in the mean."""
    rivals = list(final["mean_difference_to"])
    level = f"{100 * final['level']:g} %"
    made = table(
        f"final: {final['seeds']} seeds"
        + (f", {final['images']} images" if final["images"] > 1 else "")
        + ", read once",
        caption=f"{final['layers_judged']} layers were judged on this split; "
        f"differences to the better rival, {level} intervals",
    )
    if final["images"] == 1:
        made.caption = Text("this metric has no rows: intervals are over seeds alone", style="dim")
    made.add_column("anchor")
    for name in ("leader", *rivals):
        made.add_column(name, justify="right", overflow="fold")
    made.add_column(f"difference [{level}]", justify="right", no_wrap=True)
    rows = final["anchors"]
    goals = [goal_of(row.get("objective")) for row in rows]
    for row, goal in zip(rows, goals, strict=True):
        scores = [shown(row[name], goal) for name in ("leader", *rivals)]
        made.add_row(heading(row["anchor"], goal), *scores, changed(row["difference"], goal))
    if any(goal != goals[0] for goal in goals):
        # Values in several units have no mean; scores have.
        goals = [ACCURACY]
    goal = goals[0]
    means = [sum(row[name] for row in rows) / len(rows) for name in ("leader", *rivals)]
    made.add_section()
    cells = [shown(one, goal) for one in means]
    made.add_row("mean", *cells, changed(final["mean_difference"], goal), style="bold")
    for name in rivals:
        blanks = [""] * (1 + len(rivals))
        made.add_row(f"  to {name}", *blanks, changed(final["mean_difference_to"][name], goal))
    return made
