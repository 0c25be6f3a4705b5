"""Samples of fresh seeds that are kept up to date, against those made anew and plain pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from evosearch import gain
from evosearch.events import EvaluationRecorded
from evosearch.gain import Floats, Noise, Samples, fresh_gains, samples_of
from evosearch.state import recover
from tests.support.small_search import finished, start


def pooled(samples: Samples) -> tuple[Floats, float, int] | None:
    """The noise as `Samples.noise` has it, from all scores anew."""
    squares: list[list[float]] = [[] for _ in range(len(samples.anchors) + 1)]
    freedom = [0] * len(squares)
    for rows in (*samples.fresh.values(), *samples.again.values(), *samples.baselines.values()):
        common = set.intersection(*map(set, rows))
        mean = [float(np.mean([one[seed] for one in rows])) for seed in common]
        for place, one in enumerate([*(list(row.values()) for row in rows), mean]):
            if one:
                squares[place].append(float(np.var(one)) * len(one))
                freedom[place] += len(one) - 1
    if not all(freedom):
        return None
    each = np.array([sum(one) for one in squares]) / freedom
    return each[:-1], float(each[-1]), min(freedom)


def assert_pooled(found: Noise | None, samples: Samples) -> None:
    """Both say the same, or both nothing."""
    truth = pooled(samples)
    assert (found is None) == (truth is None)
    if found is not None and truth is not None:
        assert found.variance == pytest.approx(truth[0], rel=1e-9)
        assert (found.of_mean, found.freedom) == (pytest.approx(truth[1], rel=1e-9), truth[2])


def one(score: float, seed: int) -> dict[str, Any]:
    return {"split": "select", "score": score, "seed": seed, "learning_rate": 0.2, "seconds": 3.0,
            "steps": 100}  # fmt: skip


def test_the_noise_is_pooled_over_all_whenever_it_is_asked_for() -> None:
    rng, samples = np.random.default_rng(0), Samples(("a", "b"), 0.2)
    subjects: Sequence[int | str] = (*range(30), "bn-relu", "bn-silu")
    for number in range(1500):
        subject = subjects[int(rng.integers(len(subjects)))]
        purpose = str(rng.choice(["confirm", "remeasure", "tune", "search", "baseline"]))
        # Some seeds come twice, and some on one anchor alone.
        samples.add(
            subject, purpose, int(rng.integers(2)), one(float(rng.random()), int(rng.integers(9)))
        )
        if number < 50 or rng.random() < 0.05:
            assert_pooled(samples.noise(), samples)
    assert_pooled(samples.noise(), samples)


def test_the_noise_looks_at_what_is_new_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, looked, spread = Samples(("a",), 0.2), [], gain._spread

    def counted(scores: Sequence[dict[int, float]]) -> Floats:
        looked.append(scores)
        return spread(scores)

    for birth in range(500):
        for seed in range(3):
            samples.add(birth, "remeasure", 0, one(0.1 * seed, seed))
    assert samples.noise() is not None
    monkeypatch.setattr(gain, "_spread", counted)
    samples.add(7, "remeasure", 0, one(0.5, 9))
    assert samples.noise() is not None
    assert samples.noise() is not None
    assert len(looked) <= 2


def test_samples_that_hear_each_training_are_those_of_the_state() -> None:
    store = start("evolution.challenge_top=3", "evolution.remeasure_share=0.5")
    finished(store)
    entries = iter(store.events("search01"))
    state = recover(iter([next(entries)]))
    kept, tuned = samples_of(state), 0
    for entry in entries:
        state.apply(entry.event)
        if isinstance(entry.event, EvaluationRecorded):
            kept.take(entry.event.subject, entry.event.purpose, entry.event.evaluation)
            tuned += entry.event.purpose == "tune" and entry.event.subject.birth is not None
    assert tuned > 0
    made, rivals = samples_of(state), state.config.confirmation.rivals
    for name in ("fresh", "again", "baselines"):
        assert getattr(kept, name) == getattr(made, name)
    assert {*made.baselines} <= {*state.config.baselines}
    gains = fresh_gains(made, rivals)
    assert len(gains) > 3
    for birth, found in fresh_gains(kept, rivals).items():
        assert found == pytest.approx(gains[birth])
