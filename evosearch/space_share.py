"""How much of what can be drawn a search space lets through, by a sample of random graphs.

What a person forbids costs proposals: a `where` that one graph in ten thousand meets makes every
candidate dear. Nothing here trains, and the sample is the same each time: it ends by counts, never
by a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice, takewhile
from typing import NamedTuple

from evosearch.config import SearchConfig, Space
from evosearch.graph_filter import GraphFilter, own_check
from evosearch.screen import Screen
from evosearch.streams import stream
from evosearch.template_space import Drawer, Free, TemplateSpace, drawer, has_form
from evosearch.variation import draw_table
from evosearch.where import where_terms
from primitives.graph import FIRST_OP, Graph
from primitives.ops import INITIAL_NODES, typed_name
from primitives.rewrite import live_form
from primitives.structure import structural_fault

ENOUGH = 200
"""Graphs that pass a restriction, after which its share is known to within a seventh or so."""
DRAWS = 15_000
"""Graphs that are drawn at most, where fewer pass; about half a second of one core."""
LAYERS = 2_000
"""Layers among them that are looked at most, for a look takes up to ten times as long as a draw."""
BLOCK = 250
"""Graphs after which it is asked whether there are enough, so that no count ends at a pass."""
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

    @property
    def below(self) -> float | None:
        """Where none of those that came passed: the share that is certainly not reached.

        The upper end of its interval of 95 %, by the rule of three: none of n is seen with a
        probability of at least 5 % only while the share is below 3 / n. None where some passed,
        and where none came.

        Source: Hanley and Lippman-Hand, If nothing goes wrong, is everything all right? (JAMA 249,
        1983).

        Example:
            >>> Stage("where", 1500, 0).below
            0.002
        """
        return min(1.0, 3 / self.came) if self.came and not self.passed else None


def space_stages(config: SearchConfig) -> list[Stage]:
    """What each restriction of the search lets through of random graphs.

    What a person asks of the space stands first, each by itself: of the layers of a wider space the
    share that has it. ``op set``: among those of all primitives; ``nodes``, below the default
    number: among those of that, in a template hole by hole; ``template``: among those of any form;
    ``allow`` and ``deny``, each without the other: among those of the op set, a template's own
    frame apart. The other stages count what can be drawn then, one after the other. Before a
    ``where`` that joins several conditions, and before several ``own checks``, stands each of them
    by itself, of all that come to the whole. Stages that restrict nothing are left out, but for
    ``where`` and ``own checks``. Graphs are drawn until enough pass all of them, or there were so
    many that the rest would take too long.
    """
    space, screen = drawer(config.space), Screen(config)
    rng, codes, alone = stream(0, "share", 0), Counter[str | None](), Counter[str]()
    parts = _parts(config.space, screen)

    def judge(graph: Graph) -> str | None:
        code = screen.judge(graph, {}, {}).code
        for stage, several in parts.items():
            if code not in _codes_before(stage):
                alone.update(part for part, passes in several.items() if passes(graph))
        return code

    verdicts = (judge(space.random(rng)) for _ in range(DRAWS))
    while block := [*islice(verdicts, BLOCK)]:
        codes.update(block)
        drawn = codes.total()
        if codes[None] >= ENOUGH or drawn - sum(codes[one] for one in STAGES["layers"]) >= LAYERS:
            break
    stages, left = _asked(config.space), codes.total()
    told = {"layers": True, "where": config.space.where, "own checks": config.space.checks}
    for name, stopping in STAGES.items():
        stages += [Stage(part, left, alone[part]) for part in parts.get(name, ())]
        passed = left - sum(codes[code] for code in stopping)
        if passed < left or told.get(name):
            stages.append(Stage(name, left, passed))
        left = passed
    return stages


def _parts(space: Space, screen: Screen) -> dict[str, dict[str, Callable[[Graph], bool]]]:
    """Stage of several conditions -> name of each -> whether a graph meets that one."""

    def holding(term: str) -> Callable[[Graph], bool]:
        ready = GraphFilter(term)
        return lambda graph: ready.holds(graph, lambda: screen.answers(graph))

    def passing(name: str) -> Callable[[Graph], bool]:
        refuse = own_check(name)
        return lambda graph: refuse(graph) is None

    terms = where_terms(space.where) if space.where else []
    found = {
        "where": {f"where {term}": holding(term) for term in terms},
        "own checks": {f"own check {name}": passing(name) for name in space.checks},
    }
    return {stage: several for stage, several in found.items() if len(several) > 1}


@cache
def _codes_before(stage: str) -> frozenset[str | None]:
    """Those of graphs that do not come to the stage."""
    earlier = takewhile(lambda name: name != stage, STAGES)
    return frozenset(code for name in earlier for code in STAGES[name])


def _asked(space: Space) -> list[Stage]:
    """What a person asks of the space itself, each beside a space without it."""
    stages, default = list[Stage](), Space()
    whole = space.model_copy(update={"allow": (), "deny": ()})
    free = whole.model_copy(update={"template": ""})
    if space.op_set != default.op_set:
        wide = drawer(free.model_copy(update={"op_set": WIDEST}))
        stages.append(_share("op set", 2, wide, _made_of(free)))
    if space.nodes < default.nodes:
        stages.append(_nodes(space, default.nodes))
    if space.template:
        form = space.template
        stages.append(_share("template", 4, drawer(free), lambda graph: has_form(form, graph)))
    stages = [one for one in stages if one.passed < one.came]
    for name, given in (("allow", space.allow), ("deny", space.deny)):
        if given:
            alone = whole.model_copy(update={name: given})
            stages.append(_share(name, 1, drawer(whole), _made_of(alone)))
    return stages


def _nodes(space: Space, most: int) -> Stage:
    """Of the layers with room for so many nodes those that need no more than the space has."""
    table = draw_table(space)
    if not space.template:
        wide = Free(table, most)
        return _share("nodes", 3, wide, lambda graph: len(graph.live_ops()) <= space.nodes)
    own = TemplateSpace(space.template, table, space.nodes)
    wider = TemplateSpace(space.template, table, min(most, own.room()))
    return _share("nodes", 3, wider, lambda graph: wider.fullest(graph) <= own.block)


def _made_of(space: Space) -> Callable[[Graph], bool]:
    """Whether a graph has nothing but what the space draws, and what its template's frame has."""
    names, whole = _names(space), drawer(space)
    if isinstance(whole, TemplateSpace):
        names |= whole.frame_names()
    return lambda graph: _live_names(graph) <= names


def _share(name: str, number: int, wide: Drawer, passes: Callable[[Graph], bool]) -> Stage:
    """Of the layers among random graphs of the wider space those that pass."""
    found, came, passed = _layers(wide, number), 0, 0
    while block := [*islice(found, BLOCK)]:
        layers = [graph for graph in block if graph is not None]
        came += len(layers)
        passed += sum(map(passes, layers))
        if passed >= ENOUGH or came >= LAYERS:
            break
    return Stage(name, came, passed)


def _layers(wide: Drawer, number: int) -> Iterator[Graph | None]:
    """Random graphs of the space, None in place of those that are no layers."""
    rng = stream(0, "share", number)
    for _ in range(DRAWS):
        graph = wide.random(rng)
        yield graph if structural_fault(graph) is None else None


def _names(space: Space) -> set[str]:
    table = draw_table(space)
    initial = {INITIAL_NODES[index] for index in table.initial}
    return initial | {typed_name(*kind) for row in table.rows for kind, _ in row}


def _live_names(graph: Graph) -> set[str]:
    live = live_form(graph).nodes
    read = {INITIAL_NODES[at] for node in live for at in node.inputs if at < FIRST_OP}
    return read | {typed_name(node.op, node.over) for node in live}
