"""Tables of the command line: scores, funnel, report, lists; they print what others computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from api.progress import FunnelRow, ScoreRow
from api.text import cost, count, interval, score
from evosearch.ports import SearchInfo

PROVISIONAL = "~ provisional: one seed on select"


def table(title: str = "", *, caption: str = "") -> Table:
    """An empty table in the house's look; titles are left-aligned and no markup is read."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, title_justify="left", caption_justify="left")
    made.title = Text(title, style="bold") if title else None
    made.caption = Text(caption, style="dim") if caption else None
    return made


def score_table(
    rows: Sequence[ScoreRow],
    baselines: Sequence[ScoreRow],
    anchors: Sequence[str],
    *,
    title: str = "front",
    short: bool = False,
) -> Table:
    """Layers beside baselines: scores on ``select`` per anchor, and how many seeds they have.

    ``short`` cuts formulas to one line instead of folding them.
    """
    made = table(title, caption=PROVISIONAL if any(row.seeds == 1 for row in rows) else "")
    made.add_column("", justify="right", no_wrap=True)
    made.add_column("formula", overflow="ellipsis" if short else "fold", no_wrap=short, ratio=1)
    for anchor in anchors:
        width = 7 if short else 14
        made.add_column(anchor, justify="right", overflow="fold", min_width=6, max_width=width)
    made.add_column("seeds", justify="right")
    for row in (*rows, *baselines):
        known = row in baselines
        scores = [score(row.mean(a), provisional=row.seeds == 1) for a in anchors]
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
    """What random graphs and each operator contributed, most evaluated first."""
    made = table("where candidates came from")
    made.add_column("operator")
    for name in ("proposals", "new functions", "evaluated", "on the front"):
        made.add_column(name, justify="right", no_wrap=True)
    for label, row in rows.items():
        numbers = (row["proposals"], row["new_functions"], row["evaluated"], row["on_front"])
        made.add_row(label, *(count(number) for number in numbers))
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
        f"final: {final['seeds']} seeds, {final['images']} images, read once",
        caption=f"{final['layers_judged']} layers were judged on this split; "
        f"differences to the better rival, {level} intervals",
    )
    made.add_column("anchor")
    for name in ("leader", *rivals):
        made.add_column(name, justify="right", overflow="fold")
    made.add_column(f"difference [{level}]", justify="right", no_wrap=True)
    for row in final["anchors"]:
        scores = [score(row[name]) for name in ("leader", *rivals)]
        made.add_row(row["anchor"], *scores, interval(row["difference"]))
    rows = final["anchors"]
    means = [sum(row[name] for row in rows) / len(rows) for name in ("leader", *rivals)]
    made.add_section()
    made.add_row("mean", *map(score, means), interval(final["mean_difference"]), style="bold")
    for name in rivals:
        blanks = [""] * (1 + len(rivals))
        made.add_row(f"  to {name}", *blanks, interval(final["mean_difference_to"][name]))
    return made
