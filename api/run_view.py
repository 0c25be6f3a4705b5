"""What a run shows: candidates, tables, and progress in a notebook, a terminal, or nowhere.

Numbers are shown as their objective's values, in its unit; nothing is computed anew here. IPython
is used where it is there, and not needed.
"""

from __future__ import annotations

import html
import io
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from evosearch.report import formula_of, known_as
from primitives.graph import Graph

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from api.export import Format
    from api.live import View
    from api.progress import Progress
    from evosearch.state import State

WIDTH = 100


class Candidate:
    """An evaluated layer of a search. ``scores``: coordinate -> mean value in its own unit."""

    def __init__(self, state: State, birth: int) -> None:
        member = state.members[birth]
        self.birth, self.graph, self._state = birth, member.graph, state
        self.origin, self.parents, self.seeds = member.origin, member.parents, member.seeds
        config = state.config
        self.scores = {name: config.objective(name).value(mean)
                       for name, mean in member.means().items()}  # fmt: skip

    @property
    def formula(self) -> str:
        """The layer as formula text."""
        return formula_of(self.graph)

    def module(self, num_features: int, **settings: Any) -> nn.Module:
        """The layer as an ``nn.Module`` for so many channels; settings as of `es.build_layer`."""
        from primitives.module import build_layer

        return build_layer(self.graph, num_features, **settings)

    def explain(self) -> str:
        """What the layer is: formula, behaviour, cost by count, scores, and where it came from."""
        from api.inspect_layer import facts

        lines = [f"{name:20} {value}" for name, value in facts(self.graph).items()]
        known = known_as(self.graph)
        shown = ", ".join(
            f"{name} {self._state.config.objective(name).text(mean)}"
            for name, mean in self._state.members[self.birth].means().items()
        )
        word = "provisional" if self.seeds == 1 else f"{self.seeds} seeds"
        lines.append(f"{'scores on select':20} {shown} ({word})")
        parents = ", ".join(map(str, self.parents))
        lines.append(
            f"{'born':20} {self.birth}, {self.origin}" + (f" of {parents}" if parents else "")
        )
        if known:
            lines.append(f"{'no discovery':20} it equals {known} in function")
        return "\n".join(lines)

    def export(self, path: str | Path, form: Format = "python", channels: int = 64) -> Path:
        """Write the layer in any format of exports; by default as a standalone PyTorch file."""
        from pathlib import Path

        from api.export import about_member, artefact, notes, write_bytes

        target = Path(path)
        known = about_member(self._state, None, self.birth)
        lines = notes(known, self._state.config)
        write_bytes(target, artefact(self.graph, form, notes=lines, channels=channels, about=known))
        return target

    def __repr__(self) -> str:
        return f"<Candidate {self.birth}: {self.formula}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.explain())}</pre>{_picture(self.graph)}"


def _picture(graph: Graph) -> str:
    from primitives.picture import to_svg

    return to_svg(graph)


def run_text(state: State) -> str:
    """The front beside the baselines, what was rejected, and the verdict, as text."""
    from rich.console import Console

    from api.report_text import print_report

    out = io.StringIO()
    print_report(Console(file=out, width=WIDTH, color_system=None, force_jupyter=False), state)
    return out.getvalue()


def html_of(search_id: str, state: State) -> str:
    """The run as a notebook shows it."""
    from api.progress import wanted

    head = f"<b>search {html.escape(search_id)}</b>: {html.escape(state.status)}, " \
           f"{state.evaluated} of {wanted(state)} evaluated"  # fmt: skip
    return f"{head}<pre>{html.escape(run_text(state))}</pre>"


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def make_run_view(show: bool) -> View:
    """A progress bar in a notebook, the live picture at a terminal, plain lines elsewhere."""
    if not show:
        return Silent()
    if in_notebook():
        return NotebookView()
    from rich.console import Console

    from api.live import make_view

    return make_view(Console())


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    due = False

    def show(self, progress: Progress) -> None:
        """Nothing."""


class NotebookView(Silent):
    """One HTML element that is replaced as the search goes on."""

    def __init__(self, display: Callable[..., Any] | None = None) -> None:
        self._display, self._last = display, float("-inf")
        self._handle: Any = None

    @property
    def due(self) -> bool:  # type: ignore[override]
        return time.monotonic() - self._last >= 0.5

    def show(self, progress: Progress) -> None:
        """Show the snapshot."""
        self._last = time.monotonic()
        data = {"text/html": progress_html(progress)}
        if self._handle is None:
            show = self._display or import_module("IPython.display").display
            self._handle = show(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def progress_html(progress: Progress) -> str:
    """A bar and a line."""
    from api.live import progress_line

    share = f"{100 * progress.share:.1f}"
    return (
        f'<progress value="{share}" max="100" style="width: 20em"></progress> {share} % '
        f"<code>{html.escape(progress_line(progress))}</code>"
    )
