"""The verdict on ``final``: by the paired test, and a plain word where nothing can be compared."""

from __future__ import annotations

import numpy as np
import pytest

from evosearch import report
from evosearch.report import final_report, final_tests
from evosearch.state import State
from evosearch.stats import Rights, p_against_best
from tests.support.small_search import finished, start

ANCHORS, IMAGES = 3, 200


@pytest.fixture(scope="module")
def state() -> State:
    return finished(start("task.select_rows=100"))


def drawn(worth: float, seeds: int, seed: int) -> Rights:
    rng = np.random.default_rng(seed)
    image = np.random.default_rng(0).normal(0.0, 0.1, (1, 1, IMAGES))
    shift = rng.normal(0.0, 0.01, (1, seeds, 1))
    return (rng.random((ANCHORS, seeds, IMAGES)) < worth + image + shift).astype(float)


def verdict(
    state: State, monkeypatch: pytest.MonkeyPatch, ours: float, theirs: tuple[float, float],
    seeds: int = 10,
) -> str:  # fmt: skip
    rivals = zip(state.config.confirmation.rivals, theirs, strict=True)
    found = {f"c{state.chosen[0]}": drawn(ours, seeds, 1)}
    found |= {name: drawn(worth, seeds, 2 + place) for place, (name, worth) in enumerate(rivals)}
    monkeypatch.setattr(report, "final_rights", lambda _: found)
    told = final_report(state)
    assert final_tests(state, found).mean == pytest.approx(
        p_against_best(found[f"c{state.chosen[0]}"], [found[n] for n in ("bn-relu", "bn-silu")]),
        nan_ok=True,
    )
    return str(told["verdict"])


def test_the_test_decides_and_its_p_is_told(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    told = verdict(state, monkeypatch, 0.8, (0.6, 0.5))
    assert told.startswith("better: above the better rival on the mean of the anchors (p < 0.0001")
    assert "3 of 3 anchors alone, after correction" in told
    told = verdict(state, monkeypatch, 0.6, (0.6, 0.6))
    assert told.startswith("not better: no difference to the better rival shown")
    assert "(p = " in told
    told = verdict(state, monkeypatch, 0.4, (0.6, 0.7))
    assert told.startswith("not better: worse than every rival")


def test_below_the_better_of_two_is_not_below_both(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = verdict(state, monkeypatch, 0.6, (0.5, 0.8))
    assert told.startswith("not better: no difference to the better rival shown")
    assert "p = 1.0000" in told


def test_one_seed_is_no_verdict(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    told = verdict(state, monkeypatch, 0.9, (0.5, 0.5), seeds=1)
    assert told == "no verdict: one seed on final tells nothing"


def test_what_could_not_be_trained_on_final_is_named(state: State) -> None:
    lost = {
        key: [
            (purpose, one) for purpose, one in runs
            if (purpose, key, one.anchor) != ("final", "bn-silu", "resnet")
        ]
        for key, runs in state.results.items()
    }  # fmt: skip
    whole, state.results = state.results, lost
    try:
        told = final_report(state)
    finally:
        state.results = whole
    assert told["verdict"] == "not confirmed: no training on final succeeded of bn-silu on resnet"
    assert "final" not in told
