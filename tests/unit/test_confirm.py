"""Who leads after the confirmation, and at which learning rate: every fresh seed counts."""

from __future__ import annotations

import pytest

from evosearch import events as ev
from evosearch.confirm import (
    best_at_own_rate,
    best_on_fresh_seeds,
    confirmed,
    leader,
    tuned_rate,
)
from evosearch.presets import load_preset
from evosearch.records import Evaluation, Purpose
from evosearch.state import State

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")


def state() -> State:
    made = State(ev.Created(config=load_preset("quickstart")))
    made.phase = "tune"
    return made


def add(
    to: State, key: str, purpose: Purpose, *scores: float, rate: float = 0.4,
    anchors: tuple[str, ...] = ANCHORS,
) -> None:  # fmt: skip
    for seed, score in enumerate(scores):
        for anchor in anchors:
            run = Evaluation(anchor=anchor, seed=seed, learning_rate=rate, split="select",
                             score=score, steps=100, seconds=1.0)  # fmt: skip
            to.results[key].append((purpose, run))


def test_earlier_fresh_seeds_outweigh_a_hair_in_the_last_ones() -> None:
    made = state()
    made.chosen = (1, 2)
    add(made, "c1", "confirm", 0.790, 0.790)
    add(made, "c1", "remeasure", 0.794, 0.794, 0.794)
    add(made, "c2", "confirm", 0.791, 0.790)
    add(made, "c2", "remeasure", 0.780)
    assert best_on_fresh_seeds(made) == [1, 2]
    assert leader(made) == 1


def test_who_has_no_fresh_score_on_an_anchor_does_not_lead() -> None:
    made = state()
    made.chosen = (1, 2)
    add(made, "c1", "confirm", 0.9, anchors=ANCHORS[:2])
    add(made, "c1", "remeasure", 0.9)
    add(made, "c2", "confirm", 0.5)
    assert confirmed(made) == [2]
    assert best_on_fresh_seeds(made) == [2]


def test_equal_ones_leave_the_lead_to_the_older_and_none_is_none() -> None:
    made = state()
    assert best_on_fresh_seeds(made) == []
    made.chosen = (5, 3)
    for birth in made.chosen:
        add(made, f"c{birth}", "confirm", 0.7)
    assert best_on_fresh_seeds(made) == [3, 5]


def test_scores_below_zero_are_compared_too() -> None:
    made = state()
    made.chosen = (1, 2)
    add(made, "c1", "confirm", -2.0)
    add(made, "c2", "confirm", -1.5)
    assert best_on_fresh_seeds(made) == [2, 1]


def test_of_those_that_were_tuned_the_best_at_its_own_rate_leads() -> None:
    """One that is ahead at the search's rate only learns faster there."""
    made = state()
    made.chosen = (1, 2, 3)
    add(made, "c1", "confirm", 0.80, rate=0.25)
    add(made, "c2", "confirm", 0.79, rate=0.25)
    for key, slow, fast in (("c1", 0.78, 0.77), ("c2", 0.76, 0.79), ("c3", 0.75, 0.79)):
        add(made, key, "tune", slow, rate=0.2)
        add(made, key, "tune", fast, rate=0.4)
    assert best_at_own_rate(made) == 2  # of equals the one that came first on fresh seeds
    add(made, "c3", "tune", 0.81)
    assert best_at_own_rate(made) == 3
    add(made, "c4", "tune", 0.99, rate=0.4, anchors=ANCHORS[:2])
    made.chosen = (4, 1)
    assert best_at_own_rate(made) == 1  # the other died on an anchor at every rate


def test_a_rate_is_chosen_by_all_anchors_and_all_fresh_seeds() -> None:
    made = state()
    add(made, "c1", "tune", 0.75, 0.76, rate=0.2)
    add(made, "c1", "tune", 0.74, 0.74)
    assert tuned_rate(made, "c1") == 0.2
    add(made, "c1", "confirm", 0.79, 0.79, 0.79)
    assert tuned_rate(made, "c1") == 0.4
    # One anchor's accident at a rate does not send the layer to another rate.
    add(made, "c2", "tune", 0.70, rate=0.4, anchors=ANCHORS[:1])
    add(made, "c2", "tune", 0.80, rate=0.4, anchors=ANCHORS[1:])
    add(made, "c2", "tune", 0.76, rate=0.2)
    assert tuned_rate(made, "c2") == 0.4


def test_the_seed_that_selected_and_rates_that_were_not_tuned_do_not_count() -> None:
    made = state()
    add(made, "c1", "tune", 0.70, rate=0.2)
    add(made, "c1", "tune", 0.69, rate=0.4)
    add(made, "c1", "search", 0.99, rate=0.4)
    add(made, "c1", "confirm", 0.99, rate=0.8)
    assert tuned_rate(made, "c1") == 0.2


def test_a_rivals_seeds_of_the_confirmation_choose_no_rate() -> None:
    made = state()
    add(made, "bn-relu", "tune", 0.75, rate=0.2)
    add(made, "bn-relu", "tune", 0.74, rate=0.4)
    add(made, "bn-relu", "confirm", 0.99, 0.99, rate=0.4)
    assert tuned_rate(made, "bn-relu") == 0.2
    add(made, "bn-relu", "baseline", 0.99, rate=0.4)
    assert tuned_rate(made, "bn-relu") == 0.4


@pytest.mark.parametrize("missing", ANCHORS)
def test_a_rate_that_died_on_an_anchor_is_none_and_without_any_the_tasks_is_taken(
    missing: str,
) -> None:
    made = state()
    others = tuple(anchor for anchor in ANCHORS if anchor != missing)
    add(made, "c1", "tune", 0.9, rate=0.2, anchors=others)
    assert tuned_rate(made, "c1") == made.config.task.learning_rate
    add(made, "c1", "tune", 0.5, rate=0.1)
    assert tuned_rate(made, "c1") == 0.1
    assert tuned_rate(made, "c9") == made.config.task.learning_rate
    assert "c9" not in made.results
