"""What a person should know of a config before it runs: settings that do not count, layers refused.

Each is allowed, and likely a mistake: a sentence tells it, and the search runs all the same.
"""

from __future__ import annotations

from evosearch.config import SearchConfig
from evosearch.screen import SCREEN_CODES, Screen
from primitives.named import layer_graph


def plan_notes(config: SearchConfig) -> list[str]:
    """What a person who starts this search should know of it; one sentence each."""
    return [*unused_settings(config), *refused_starts(config)]


def unused_settings(config: SearchConfig) -> list[str]:
    """What is set and does not count beside something else that is set; one sentence each."""
    evolution, found = config.evolution, list[str]()
    edits = set(evolution.operators) - {"paper"}
    if config.space.template and edits:
        names = "evolution.operators"
        names += " and evolution.sure_edits" if evolution.sure_edits else ""
        found.append(
            f"{names} do not count: edits, crossover among them, know of no frame, and the holes "
            "of space.template are searched by the paper's mutation"
        )
    elif evolution.sure_edits and not edits:
        found.append("evolution.sure_edits does not count: evolution.operators names no edit")
    if evolution.challenge_front and not evolution.challenge_top:
        found.append("evolution.challenge_front does not count while evolution.challenge_top is 0")
    if evolution.experience and evolution.choose_of == 1:
        found.append("evolution.experience does not count while evolution.choose_of is 1")
    if evolution.alike < 1.0 and not evolution.same_start:
        found.append("evolution.alike does not count while evolution.same_start is 0")
    late = [step for step in config.checks.hurdles.steps if step >= config.task.steps]
    if late and not config.task.plugins:  # an evaluator of one's own has steps of its own
        told = ", ".join(map(str, late))
        found.append(
            f"checks.hurdles.steps {told} do not count: a training ends after task.steps, "
            f"{config.task.steps}"
        )
    return found


def refused_starts(config: SearchConfig) -> list[str]:
    """Layers of ``space.start_from`` that a check will refuse, with its code; one sentence each."""
    if not config.space.start_from:
        return []
    screen, found = Screen(config), list[str]()
    digests: dict[str, int] = {}
    fingerprints: dict[str, int] = {}
    for place, text in enumerate(config.space.start_from):
        verdict = screen.judge(layer_graph(text), digests, fingerprints)
        if verdict.code is None:
            digests[verdict.digest] = place
            fingerprints[verdict.fingerprint] = place
        else:
            found.append(
                f"space.start_from[{place}] will be refused: {verdict.code}, "
                f"{SCREEN_CODES[verdict.code]}"
            )
    return found
