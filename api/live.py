"""The view of a running search: a live picture at a terminal, plain lines elsewhere.

Only snapshots are drawn: the live picture refreshes in a thread of its own, which must not touch
the search's state.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.progress import Progress
from api.tables import funnel_text, score_table
from api.text import count, duration
from evosearch.objectives import ACCURACY

REFRESH_SECONDS = 0.5
LINE_SECONDS = 10.0
FRONT_ROWS = 12
OTHER_LINES = 16
"""Lines of a picture besides the rows of its table."""

PHASES = {
    "search": "searching",
    "confirm": "confirming: fresh seeds",
    "tune": "confirming: learning rates",
    "final": "confirming: reading final",
    "done": "done",
}


class View(Protocol):
    """What shows a search while it runs."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def due(self) -> bool:
        """Whether it is time for the next snapshot."""

    def show(self, progress: Progress) -> None:
        """Show the snapshot."""


def make_view(console: Console) -> View:
    """The live picture at a terminal, else plain lines."""
    return LiveView(console) if console.is_terminal else LineView(console)


class LineView:
    """One line about every ten seconds, and one at each change of phase."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = float("-inf")
        self._phase = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def due(self) -> bool:
        return True

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < LINE_SECONDS and progress.phase == self._phase:
            return
        self._last, self._phase = now, progress.phase
        self._console.print(progress_line(progress), soft_wrap=True, markup=False, highlight=False)


class LiveView:
    """A picture that is drawn anew in place; what remains on the screen is the last one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._since = self._last = time.monotonic()
        self._live = Live(
            console=console, refresh_per_second=4, get_renderable=self._draw, transient=True
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, err, trace)

    @property
    def due(self) -> bool:
        return self._progress is None or time.monotonic() - self._last >= REFRESH_SECONDS

    def show(self, progress: Progress) -> None:
        self._progress, self._last = progress, time.monotonic()

    def _draw(self) -> RenderableType:
        if self._progress is None:
            return Text("starting the workers ...")
        age = time.monotonic() - self._last
        return picture(self._progress, age, height=self._console.height)


def progress_line(progress: Progress) -> str:
    """The snapshot in one line."""
    parts = [
        PHASES.get(progress.phase, progress.phase),
        f"{progress.evaluated} of {progress.target} evaluated",
        f"{count(progress.proposals)} proposed ({count(progress.proposals_per_second)}/s)",
        f"front {len(progress.front)}",
        f"hypervolume {progress.hypervolume:.4g}",
    ]
    if progress.front:
        best = progress.front[0]
        mark = "provisional" if best.seeds == 1 else f"{best.seeds} seeds"
        means = " / ".join(
            progress.goals.get(anchor, ACCURACY).text(best.mean(anchor) or 0.0)
            for anchor in progress.anchors
        )
        parts.append(f"leader {means} ({mark})")
    if progress.failures:
        parts.append(f"failures {sum(progress.failures.values())}")
    return ", ".join(parts) + f"; {duration(progress.seconds_left)} left"


def picture(progress: Progress, age: float = 0.0, height: int = 40) -> RenderableType:
    """The snapshot as a picture of 80 columns that fits the height as far as it can.

    ``age``: seconds since the snapshot was taken.
    """
    left = progress.seconds_left
    head = Text.assemble(
        (f"search {progress.search_id}", "bold"),
        f" ({progress.preset})  {PHASES.get(progress.phase, progress.phase)}",
        f"  {duration(progress.elapsed + age)} here",
        "" if left is None else f", about {duration(max(0.0, left - age))} left",
    )
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=1.0, completed=progress.share, width=30),
        f"{progress.evaluated} of {progress.target} evaluated",
        f"{count(progress.evaluations_per_hour)}/h",
        f"{progress.pending} waiting",
    )
    rates = Text(
        f"{count(progress.proposals)} proposals, {count(progress.proposals_per_second)}/s; "
        f"front of {len(progress.front)}, hypervolume {progress.hypervolume:.4g}; "
        + (
            "failures: " + ", ".join(f"{k} {v}" for k, v in sorted(progress.failures.items()))
            if progress.failures
            else "no failures"
        )
    )
    room = height - OTHER_LINES - len(progress.baselines)
    rows = progress.front[: max(1, min(FRONT_ROWS, room))]
    title = "front" if len(rows) == len(progress.front) else f"front, first {len(rows)}"
    scores = score_table(
        rows, progress.baselines, progress.anchors, title=title, short=True,
        goals=progress.goals or None,
    )  # fmt: skip
    return Group(head, bar, rates, funnel_text(progress.funnel), Text(), scores)
