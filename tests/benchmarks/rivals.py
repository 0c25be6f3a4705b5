"""The searches that studies compare: the default, its rivals, and it without each ingredient.

A rival's settings of evolution are those of the preset ``paper-b``, read from it; the default's are
those of the config that it is compared on. This file must not run a search.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction

from evosearch.config import Evolution, SearchConfig, Space
from evosearch.presets import load_preset
from evosearch.state import State
from evosearch.variation import draw_table
from primitives.ops import TypedPrimitive

THE_PAPERS, OURS = load_preset("paper-b"), load_preset("quickstart")
POPULATION = ("population_size", "tournament_share", "tournament_min")
CROWDED = ("same_start", "alike")
"""Settings of ``evolution`` that belong to an in-controller check."""
EVERY = tuple(name for name in Evolution.model_fields if name != "max_proposals")
"""What makes an evolution; ``max_proposals`` only says when a space counts as exhausted."""
NO_HURDLES = "checks.hurdles.steps=[]"
BY_ROWS = f"space.draw={THE_PAPERS.space.draw}"
NO_EXPERIENCE = "no experience"
AT_RANDOM = "evolution.random_share=1.0"
SIGNAL_STEPS = 2
"""Steps that a signal check takes, and takes back."""


def as_paper(names: Iterable[str]) -> tuple[str, ...]:
    """Overrides that give settings of ``evolution`` the values of the paper's preset."""
    values = THE_PAPERS.evolution.model_dump(mode="json")
    return tuple(f"evolution.{name}={json.dumps(values[name])}" for name in names)


def but(*left_out: str) -> tuple[str, ...]:
    """The paper's evolution without some of its settings."""
    return as_paper(name for name in EVERY if name not in left_out)


PAPER = (BY_ROWS, NO_HURDLES, *but())
RIVALS: dict[str, tuple[str, ...]] = {
    "random": (*PAPER, AT_RANDOM),
    "random with hurdles": (BY_ROWS, *but(*CROWDED, *POPULATION), AT_RANDOM),
    "paper": PAPER,
    "paper with hurdles": (BY_ROWS, *but(*CROWDED)),
    "paper, our population": (BY_ROWS, NO_HURDLES, *but(*POPULATION)),
    "paper with hurdles, our population": (BY_ROWS, *but(*CROWDED, *POPULATION)),
}
"""Name -> overrides. Signal, quality and stability are the default's in each. ``random`` and
``paper`` race no candidate against others, as the paper does not; *with hurdles* they have the
default's hurdles and its check ``crowded`` as well. A population of 2,500 never ages within a
budget of a laptop; *our population* has the default's population and tournament. What is drawn at
random has no parents, so there its population is only how many scores a hurdle keeps in mind."""
KINDS: dict[str, tuple[str, ...]] = {
    "random": ("random", "random with hurdles"),
    "paper": tuple(name for name in RIVALS if name.startswith("paper")),
}
"""A target is judged against the hardest rival of its kind."""
WANTED = {"random": 1 / 3, "paper": 1 / 2}
"""Kind -> the largest share of what a rival spends that the default may need to be as good."""


def without_operator(name: str) -> str:
    """The override that leaves one of the default's operators out."""
    left = {one: w for one, w in OURS.evolution.operators.items() if one != name}
    return f"evolution.operators={{{', '.join(f'{one} = {w}' for one, w in left.items())}}}"


EVERY_OPERATOR = (
    "evolution.operators={paper = 0.3, branch = 0.2, cross = 0.2, insert = 0.06, delete = 0.06, "
    "rewire = 0.06, swap = 0.06, redraw = 0.06}"
)
"""Those that no preset has beside the default's, in about the default's proportions."""
INGREDIENTS: dict[str, tuple[str, ...]] = {
    "no hurdles": (NO_HURDLES,),
    "no signal check": ("checks.signal.enabled=false",),
    "no limit on equal starts": as_paper(["same_start"]),
    "only equal starts count": as_paper(["alike"]),
    "the paper's mutation alone": as_paper(["operators"]),
    **{
        f"without the operator {name}": (without_operator(name),)
        for name in OURS.evolution.operators
    },
    "primitives drawn by rows": (BY_ROWS,),
    "random graphs as a share of proposals": as_paper(["random_of"]),
    "the paper's share of random graphs": as_paper(["random_share"]),
    "no choice by odds": as_paper(["choose_of"]),
    NO_EXPERIENCE: as_paper(["experience"]),
    "no warm-up": as_paper(["warm_up"]),
    "the paper's population": as_paper(["population_size"]),
    "the paper's tournament": as_paper(["tournament_share", "tournament_min"]),
    "leaders unchallenged": as_paper(["challenge_top"]),
    "popular functions not measured again": as_paper(["remeasure_every"]),
    "no fresh seeds": as_paper(["challenge_top", "remeasure_every"]),
}
"""The default with the paper's value of one ingredient, or without it: whatever it differs in."""
OTHERS: dict[str, tuple[str, ...]] = {
    "averages in tournaments": ("evolution.criterion=average",),
    "nsga2 in tournaments": ("evolution.criterion=nsga2",),
    "lexicase in tournaments": ("evolution.criterion=lexicase",),
    "parsimony": ("evolution.parsimony=0.5",),
    "restarts": ("evolution.restart_after=60",),
    "learnt priorities": ("evolution.primitive_floor=0.25",),
    "a surrogate": ("surrogate.enabled=true",),
    "a warm-up of four": ("evolution.warm_up=4",),
    "the best odds of fifty": ("evolution.choose_of=50",),
    "edits drawn until they change something": ("evolution.sure_edits=true",),
    "every operator": (EVERY_OPERATOR,),
    **{
        f"the operator {name} too": (f"evolution.operators.{name}=0.25",)
        for name in ("insert", "delete", "rewire", "swap", "redraw")
    },
    "the front challenged": ("evolution.challenge_front=true",),
    "hurdles that spare the front": ("checks.hurdles.spare_front=true",),
}
"""The default with what is off in it, or with another way."""
VARIANTS: dict[str, tuple[str, ...]] = {"default": (), **RIVALS, **INGREDIENTS, **OTHERS}
"""Name -> overrides of the config that a study is about."""


def spent_on(state: State) -> dict[str, int]:
    """Purpose -> training steps of a search; ``signal``: those that its signal checks took back."""
    checked = state.checks["signal"].count if "signal" in state.checks else 0
    return {**state.train_steps, "signal": SIGNAL_STEPS * checked}


def same_search(one: SearchConfig, other: SearchConfig) -> bool:
    """Whether two configs cannot differ: equal, or equal but for two ways of drawing primitives
    that give each the same probability."""

    def plain(config: SearchConfig) -> SearchConfig:
        return config.model_copy(update={"space": config.space.model_copy(update={"draw": "rows"})})

    return plain(one) == plain(other) and odds(one.space) == odds(other.space)


def odds(space: Space) -> Mapping[TypedPrimitive, Fraction]:
    """Primitive -> the probability that a node is it."""
    table = draw_table(space)
    return {kind: Fraction(1, len(table.rows) * len(row)) for row in table.rows for kind, _ in row}
