"""How much of what can be drawn a search space lets through, by a sample of random graphs.

What a person forbids costs proposals: a `where` that one graph in ten thousand meets makes every
candidate dear. Nothing here trains, and the sample is the same each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from evosearch.config import SearchConfig, Space
from evosearch.screen import Screen
from evosearch.streams import stream
from evosearch.template_space import drawer, has_form
from evosearch.variation import draw_table
from primitives.graph import FIRST_OP, Graph
from primitives.ops import INITIAL_NODES, typed_name
from primitives.rewrite import live_form
from primitives.structure import structural_fault

DRAWS = 2000
WIDEST = "extended+token"
"""The op set with every primitive."""
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

    What a person asks of the space stands first, each by itself: of the layers of a wider space the
    share that has it. ``op set``: among those of all primitives; ``nodes``: among those of the
    default number; ``template``: among those of any form; ``primitives``: where some are allowed or
    denied, among those of the op set. The other stages count what can be drawn then, one after the
    other. Stages that restrict nothing are left out.
    """
    space, screen = drawer(config.space), Screen(config)
    rng = stream(0, "share", 0)
    codes = Counter(screen.judge(space.random(rng), {}, {}).code for _ in range(draws))
    stages, left = _asked(config.space, draws), draws
    for name, stopping in STAGES.items():
        passed = left - sum(codes[code] for code in stopping)
        if passed < left or name == "layers":
            stages.append(Stage(name, left, passed))
        left = passed
    return stages


def _asked(space: Space, draws: int) -> list[Stage]:
    """What a person asks of the space itself, each beside a space without it."""
    stages, free = [], {"template": ""}
    default = Space()
    if space.op_set != default.op_set:
        wide = space.model_copy(update={"op_set": WIDEST, "allow": (), "deny": (), **free})
        own = _names(space.model_copy(update={"allow": (), "deny": ()}))
        stages.append(_share("op set", 2, wide, lambda graph: _live_names(graph) <= own, draws))
    if space.nodes < default.nodes and not space.template:
        wide = space.model_copy(update={"nodes": default.nodes})
        stages.append(
            _share("nodes", 3, wide, lambda graph: len(graph.live_ops()) <= space.nodes, draws)
        )
    if space.template:
        wide = space.model_copy(update=free)
        stages.append(
            _share("template", 4, wide, lambda graph: has_form(space.template, graph), draws)
        )
    stages = [one for one in stages if one.passed < one.came]
    if space.allow or space.deny:
        wide, drawn = space.model_copy(update={"allow": (), "deny": ()}), _names(space)
        stages.append(
            _share("primitives", 1, wide, lambda graph: _live_names(graph) <= drawn, draws)
        )
    return stages


def _share(
    name: str, number: int, wide: Space, passes: Callable[[Graph], bool], draws: int
) -> Stage:
    """Of the layers among so many graphs of the wider space those that pass."""
    whole, rng, came, passed = drawer(wide), stream(0, "share", number), 0, 0
    for _ in range(draws):
        graph = whole.random(rng)
        if structural_fault(graph) is None:
            came += 1
            passed += passes(graph)
    return Stage(name, came, passed)


def _names(space: Space) -> set[str]:
    table = draw_table(space)
    initial = {INITIAL_NODES[index] for index in table.initial}
    return initial | {typed_name(*kind) for row in table.rows for kind, _ in row}


def _live_names(graph: Graph) -> set[str]:
    live = live_form(graph).nodes
    read = {INITIAL_NODES[at] for node in live for at in node.inputs if at < FIRST_OP}
    return read | {typed_name(node.op, node.over) for node in live}
