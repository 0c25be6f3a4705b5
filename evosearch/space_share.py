"""How much of what can be drawn a search space lets through, by a sample of random graphs.

What a person forbids costs proposals: a `where` that one graph in ten thousand meets makes every
candidate dear. Nothing here trains, and the sample is the same each time.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from evosearch.config import SearchConfig, Space
from evosearch.screen import Screen
from evosearch.streams import stream
from evosearch.template_space import drawer
from evosearch.variation import draw_table
from primitives.ops import typed_name
from primitives.rewrite import live_form
from primitives.structure import structural_fault

DRAWS = 2000
STAGES: dict[str, tuple[str, ...]] = {
    "layers": ("ignores_input", "no_spatial"),
    "series": ("uses_batch",),
    "anchors": ("leaks_future",),
    "where": ("constraint",),
    "own checks": ("own_check",),
    "numbers": ("not_finite", "constant", "no_gradient"),
}
"""What lets graphs through, in the order of the checks -> the codes of those that it stops."""


class Stage(NamedTuple):
    """Graphs that came to a restriction, and those that it let through."""

    name: str
    came: int
    passed: int

    @property
    def share(self) -> float | None:
        """Of those that came; None where none did."""
        return self.passed / self.came if self.came else None


def space_stages(config: SearchConfig, draws: int = DRAWS) -> list[Stage]:
    """What each restriction of the search lets through of so many random graphs.

    ``primitives`` stands first where the space allows or denies some: of the layers of the whole
    op set those without what is not drawn; the others count what can be drawn then. Stages that
    restrict nothing are left out.
    """
    space, screen = drawer(config.space), Screen(config)
    rng = stream(0, "share", 0)
    codes = Counter(screen.judge(space.random(rng), {}, {}).code for _ in range(draws))
    stages, left = [], draws
    if config.space.allow or config.space.deny:
        stages.append(_primitives(config.space, draws))
    for name, stopping in STAGES.items():
        passed = left - sum(codes[code] for code in stopping)
        if passed < left or name == "layers":
            stages.append(Stage(name, left, passed))
        left = passed
    return stages


def _primitives(space: Space, draws: int) -> Stage:
    names = {typed_name(*kind) for row in draw_table(space) for kind, _ in row}
    whole = drawer(space.model_copy(update={"allow": (), "deny": ()}))
    rng, came, passed = stream(0, "share", 1), 0, 0
    for _ in range(draws):
        graph = whole.random(rng)
        if structural_fault(graph) is None:
            came += 1
            live = {typed_name(node.op, node.over) for node in live_form(graph).nodes}
            passed += live <= names
    return Stage("primitives", came, passed)
