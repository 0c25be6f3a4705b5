"""Alerts as their receivers see them: over HTTP, once each, and never in anyone's way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import api.alerts
from api.alerts import Alerts
from evosearch import gain
from evosearch.events import (
    Created,
    EvaluationRecorded,
    Event,
    JobFinished,
    Standing,
    StatusChanged,
)
from evosearch.presets import load_preset
from evosearch.records import Evaluation, Purpose, Subject
from evosearch.state import State
from tests.support.receiver import Receiver, receiver

__all__ = ["receiver"]
HOUR = 3600.0
Hear = Callable[[State, Event], None]


@contextmanager
def alerts(url: str | None, **more: Any) -> Iterator[Alerts]:
    made = Alerts(url, None, HOUR, **more)
    try:
        yield made
    finally:
        made.close()


def a_state() -> State:
    return State(Created(config=load_preset("quickstart")))


def test_an_end_is_posted_once_as_json(receiver: Receiver) -> None:
    state = a_state()
    with alerts(receiver.url) as made:
        hear = made.listener("aaaaaaaa", state)
        for _ in range(2):
            hear(state, StatusChanged(status="finished", reason="done"))
        made.listener("bbbbbbbb", state)(state, StatusChanged(status="failed", reason="no data"))
        made.listener("bbbbbbbb", state)(state, StatusChanged(status="paused", reason="asked to"))
    assert receiver.told == [
        ("application/json", {"alert": "finished", "search": "aaaaaaaa", "text": "done"}),
        ("application/json", {"alert": "failed", "search": "bbbbbbbb", "text": "no data"}),
    ]


def test_silence_and_a_filling_disk_are_posted(receiver: Receiver) -> None:
    state, now = a_state(), 0.0

    def disk_free() -> tuple[int, str]:
        return (10**9 if now < HOUR else 5), "data, /data"

    with alerts(receiver.url, clock=lambda: now, disk_free=disk_free) as m:
        hear = m.listener("aaaaaaaa", state)
        m.look("aaaaaaaa", state)
        m.look_at_disks()
        now = 0.9 * HOUR
        hear(state, StatusChanged(status="running", reason="news"))
        now = 1.8 * HOUR
        m.look("aaaaaaaa", state)
        assert "stalled" not in receiver.kinds()
        now = 2.0 * HOUR
        for _ in range(3):
            m.look("aaaaaaaa", state)
            m.look_at_disks()
        now = 9.0 * HOUR  # still silent: told again, hours later
        m.look("aaaaaaaa", state)
        m.look_at_disks()
    assert receiver.kinds().count("stalled") == 2
    assert receiver.kinds().count("disk_nearly_full") == 2


def measured(
    hear: Hear, state: State, subject: Subject, purpose: Purpose, score: float, seeds: range
) -> None:
    """Trainings of a layer, whose score moves a little with the seed and lies elsewhere in MACs."""
    for anchor in state.config.anchor_names:
        for seed in seeds:
            one = Evaluation(
                anchor=anchor, seed=seed, learning_rate=state.config.task.learning_rate,
                split="select", score=score + 0.002 * (seed % 3), steps=9, seconds=1.0,
                more={"macs": 5.0},
            )  # fmt: skip
            if purpose != "search":
                state.results[subject.key].append((purpose, one))
            hear(state, EvaluationRecorded(
                job_id=f"{purpose}/{subject.key}", purpose=purpose, subject=subject, evaluation=one
            ))  # fmt: skip


def finished(birth: int, scores: dict[str, float]) -> JobFinished:
    standing = Standing(scores=scores, seeds=9, front_in=(), front_out=(), hypervolume=0.0)
    return JobFinished(
        id=f"remeasure/c{birth}/1", subject=Subject(birth=birth), purpose="remeasure",
        standing=standing, seconds=1.0,
    )  # fmt: skip


def test_the_first_win_is_one_on_fresh_seeds_with_an_interval_above_nothing(
    receiver: Receiver,
) -> None:
    state = a_state()
    rivals = state.config.confirmation.rivals
    # What flatters: the seed that selected it, and an objective that is no score.
    flattered = dict.fromkeys(state.config.anchor_names, 0.99) | {"resnet:macs": 5.0}
    with alerts(receiver.url) as made:
        hear = made.listener("aaaaaaaa", state)

        def told(birth: int) -> int:
            hear(state, finished(birth, flattered))
            return len(made._sent)

        measured(hear, state, Subject(birth=1), "search", 0.99, range(1))
        measured(hear, state, Subject(birth=1), "remeasure", 0.90, range(1))
        assert told(1) == 0, "there is no baseline yet"
        for name in rivals:
            measured(hear, state, Subject(baseline=name), "baseline", 0.80, range(1))
        assert told(1) == 0, "no spread over seeds is known yet"
        measured(hear, state, Subject(birth=2), "remeasure", 0.7995, range(3))
        assert told(2) == 0, "it is no better than the baselines"
        measured(hear, state, Subject(birth=3), "remeasure", 0.802, range(2))
        assert told(3) == 0, "its interval holds 0"
        hear(state, finished(1, flattered))
        hear(state, finished(1, flattered))
    (alert,) = [one for _, one in receiver.told if one["alert"] == "first_win"]
    assert alert["search"] == "aaaaaaaa"
    assert "candidate 1 leads the better baselines by +10.0 points on fresh seeds" in alert["text"]


def test_a_win_before_a_restart_is_not_told_again(receiver: Receiver) -> None:
    state = a_state()
    scores = dict.fromkeys(state.config.anchor_names, 0.9)
    with alerts(receiver.url) as made:
        hear = made.listener("aaaaaaaa", state)
        for name in state.config.confirmation.rivals:
            measured(hear, state, Subject(baseline=name), "baseline", 0.80, range(2))
        measured(hear, state, Subject(birth=1), "remeasure", 0.70, range(2))
        hear(state, finished(1, scores))
    with alerts(receiver.url) as made:  # so far nobody has won
        hear = made.listener("aaaaaaaa", state)
        measured(hear, state, Subject(birth=2), "remeasure", 0.90, range(2))
        hear(state, finished(2, scores))
    assert receiver.kinds() == ["first_win"]
    with alerts(receiver.url) as made:
        hear = made.listener("aaaaaaaa", state)
        measured(hear, state, Subject(birth=3), "remeasure", 0.95, range(2))
        hear(state, finished(3, scores))
        hear(state, StatusChanged(status="finished", reason="done"))
    assert receiver.kinds() == ["first_win", "finished"]


@pytest.mark.parametrize(("heard", "gains"), [(False, 1), (True, 21)])
def test_samples_are_made_once_and_gains_asked_for_only_where_somebody_is_told(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, heard: bool, gains: int
) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        truth = getattr(gain, name)

        def call(*words: Any) -> Any:
            calls[name] += 1
            return truth(*words)

        return call

    for name in ("samples_of", "fresh_gains"):
        one = counted(name)
        monkeypatch.setattr(gain, name, one)
        monkeypatch.setattr(api.alerts, name, one, raising=False)
    state = a_state()
    with alerts(receiver.url if heard else None) as made:
        hear = made.listener("aaaaaaaa", state)
        for name in state.config.confirmation.rivals:
            measured(hear, state, Subject(baseline=name), "baseline", 0.80, range(2))
        for birth in range(1, 21):
            measured(hear, state, Subject(birth=birth), "remeasure", 0.70, range(2))
            hear(state, finished(birth, dict.fromkeys(state.config.anchor_names, 0.9)))
    assert calls == {"samples_of": 1, "fresh_gains": gains}  # once for who won before


def test_a_receiver_that_refuses_or_is_gone_stops_nothing(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    with alerts(receiver.url) as made:
        made.tell("finished", "aaaaaaaa", "one")
        made.tell("failed", "aaaaaaaa", "two")
    assert receiver.kinds() == ["finished", "failed"]
    begin = time.monotonic()
    with alerts("http://127.0.0.1:1/hook/secret") as made:
        for number in range(300):
            made.tell("finished", f"s{number}", "nobody hears it")
        assert time.monotonic() - begin < 5.0
    assert "the alert webhook failed" in caplog.text
    assert "secret" not in caplog.text  # such addresses carry their secret in the path
