"""A trial of a re-ranking goes on from its state, and rates of a row race without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from evosearch.config import Anchor, Task
from evosearch.records import Job, Run, Subject
from evosearch.rerank import Tuned
from workers.checkpoint import resume, save
from workers.evaluate import Context
from workers.tuning import Tuning, tune_inline

RATES = (0.01, 0.1, 0.4)


def trial(rate: float, baseline: str = "bn-relu") -> Job:
    anchor = Anchor(name="resnet", width=4)
    runs = tuple(Run(anchor="resnet", seed=seed, learning_rate=rate) for seed in (1, 2))
    return Job(
        id=f"{baseline}/polarity-digits/resnet/{rate}", purpose="tune",
        subject=Subject(baseline=baseline), graph=None, runs=runs,
        task=Task(anchors=(anchor,), steps=12, batch_size=16, select_rows=100),
    )  # fmt: skip


def test_a_trial_goes_on_from_its_file_to_the_same_bits(tmp_path: Path) -> None:
    context, path = Context(), tmp_path / "a.pt"
    whole, first = Tuning(trial(0.1), context), Tuning(trial(0.1), context)
    for rung in (3, 6, 12):
        whole.advance(rung)
    first.advance(3)
    save(first, path)
    second = Tuning(trial(0.1), context)
    assert resume(second, path)
    assert (second.step, second.steps) == (3, 6)
    for rung in (6, 12):
        second.advance(rung)
    assert second.scores == whole.scores
    untimed = [one.tuned("me").model_copy(update={"seconds": 0.0}) for one in (second, whole)]
    assert untimed[0] == untimed[1]
    assert second.seconds > first.seconds > 0.0
    assert len(set(whole.scores[12])) == 2  # two seeds, two trainings
    other = Tuning(trial(0.1).model_copy(update={"runs": trial(0.1).runs[:1]}), context)
    assert not resume(other, path)
    assert other.steps == 0


def told_of(
    known: dict[str, Tuned], folder: Path, jobs: list[Job]
) -> tuple[list[tuple[str, Tuned]], dict[str, str]]:
    told: list[tuple[str, Tuned]] = []
    failures = tune_inline(
        jobs, (3, 6, 12), known, lambda name, one: told.append((name, one)), folder
    )
    return told, failures


def test_the_better_part_of_a_row_goes_on(tmp_path: Path) -> None:
    jobs = [trial(rate) for rate in RATES]
    told, failures = told_of({}, tmp_path, jobs)
    last = dict(told)
    assert failures == {}
    assert sorted(max(one.scores) for one in last.values()) == [3, 6, 12]
    assert all(one.ended for one in last.values())
    survivor = next(name for name, one in last.items() if 12 in one.scores)
    for rung in (3, 6):
        reached = {name: one.mean(rung) for name, one in last.items() if rung in one.scores}
        assert reached[survivor] >= sorted(reached.values())[-2]
    assert list(tmp_path.iterdir()) == []
    # With all of it known, nothing is trained; with the first rungs, the same comes out.
    assert told_of(last, tmp_path, jobs) == ([], {})
    partly = {name: Tuned(scores={3: one.scores[3]}) for name, one in last.items()}
    again = dict(told_of(partly, tmp_path, jobs)[0])
    assert again[survivor].scores[12] == last[survivor].scores[12]


def test_a_layer_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = [trial(0.1, "no-such-layer"), trial(0.1)]
    told, failures = told_of({}, tmp_path, jobs)
    assert list(failures) == [jobs[0].id]
    assert "unknown baseline" in failures[jobs[0].id]
    assert max(dict(told)[jobs[1].id].scores) == 12


def test_a_trial_that_diverges_has_the_worst_score() -> None:
    tuning = Tuning(trial(1e9), Context())
    assert tuning.advance(12) == pytest.approx((0.1, 0.1))
