"""Bounds of the signal check learnt during a search: the rule, and that it resumes and replays."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import Signal
from evosearch.controller import Controller
from evosearch.presets import load_preset
from evosearch.records import (
    CheckRun,
    Evaluation,
    EvaluationDone,
    Job,
    JobDone,
    Message,
    Rejection,
    Subject,
)
from evosearch.replay import replay
from evosearch.signal import Learnt, bounds_of, learn, relearnt
from evosearch.snapshot import dump_state, load_state
from evosearch.state import State, recover
from primitives.digest import digest
from tests.support.whole_log import assert_a_kill_leaves_no_mark
from workers.simulated import SimulatedPool

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")
LEARNING = Signal(learn=True, learn_after=2)
OVERRIDES = (
    "checks.signal.learn=true", "checks.signal.learn_after=4", "checks.signal.bounds={}",
    "checks.signal.audit_share=0.5", "checks.hurdles.steps=[]", "budget.evaluations=25",
    "confirmation.resamples=50", "evolution.challenge_top=0", "evolution.choose_of=1",
)  # fmt: skip


def checks(value: float, anchors: Sequence[str] = ANCHORS, fails: str = "") -> tuple[CheckRun, ...]:
    """Signal and quality on all anchors, up to the one where quality rejects."""
    findings = {"logit_std": value, "loss": math.log(value)}
    signal = [CheckRun(check="signal", anchor=a, seconds=0.0, findings=findings) for a in anchors]
    quality = []
    for anchor in anchors:
        verdict = Rejection(code="quality") if anchor == fails else None
        quality.append(CheckRun(check="quality", anchor=anchor, seconds=0.0, rejection=verdict))
        if verdict is not None:
            break
    return *signal, *quality


def passed(value: float) -> ev.EvaluationRecorded:
    evaluation = Evaluation(
        anchor="resnet", seed=0, learning_rate=0.1, split="select", score=0.5, steps=1, seconds=1.0
    )
    return ev.EvaluationRecorded(
        job_id="c1", purpose="search", subject=Subject(birth=1), evaluation=evaluation,
        checks=checks(value),
    )  # fmt: skip


def rejected(
    value: float, code: str = "signal", audit: bool | None = None, fails: str = "resnet"
) -> ev.CandidateRejected:
    told = checks(value, fails=fails)
    if code == "signal":
        told = told[:1]
    return ev.CandidateRejected(
        birth=2, rejection=Rejection(code=code), checks=told, audit_passed=audit
    )


def after(*told: ev.Event) -> Learnt:
    learnt = Learnt()
    for event in told:
        learnt = learn(learnt, event)
    return learnt


def test_bounds_are_the_range_of_those_that_passed_widened_tenfold() -> None:
    assert bounds_of(after(passed(1.0)), LEARNING) == {}
    found = bounds_of(after(passed(1.0), passed(4.0)), LEARNING)
    assert set(found) == set(ANCHORS)
    one = found["mobilenetv2"]
    assert (one["logit_std"].low, one["logit_std"].high) == (0.1, 40.0)
    log = math.log(10)
    assert one["loss"].low == pytest.approx(-log, rel=1e-3)
    assert one["loss"].high == pytest.approx(math.log(4) + log, rel=1e-3)


def test_what_failed_quality_or_stopped_before_its_end_teaches_nothing() -> None:
    events = (
        rejected(9.0, "quality", fails="efficientnet"), rejected(9.0), rejected(9.0, "quality"),
        ev.CandidateRejected(birth=3, rejection=Rejection(code="hurdle"), checks=checks(9.0)[:4]),
        passed(9.0).model_copy(update={"purpose": "remeasure"}),
        ev.StatusChanged(status="paused"),
    )  # fmt: skip
    assert after(*events) == Learnt()


def test_a_layer_that_stability_rejects_has_passed_quality() -> None:
    assert after(rejected(2.0, "stability", fails="")).passed == 1


def test_confirmations_narrow_the_bounds_and_a_wrong_rejection_widens_them_again() -> None:
    start = [passed(1.0), passed(2.0)]
    confirmed = [rejected(99.0, audit=False)] * 25
    assert after(*start).factor == 10.0
    assert after(*start, *confirmed).factor == pytest.approx(6.0)
    assert after(*start, *confirmed * 40).factor == pytest.approx(2.0)
    wrong = after(*start, *confirmed, rejected(99.0, audit=True))
    assert (wrong.factor, wrong.passed, wrong.confirmed) == (10.0, 2, 0)
    assert wrong.ranges["resnet"]["logit_std"] == (1.0, 99.0)
    assert wrong.ranges["mobilenetv2"]["logit_std"] == (1.0, 2.0), "it was not looked at there"


def test_only_a_change_is_an_event_and_only_where_the_search_learns() -> None:
    learnt = after(passed(1.0))
    (event,) = relearnt(learnt, passed(4.0), {}, LEARNING)
    assert (event.factor, event.passed) == (10.0, 2)
    known = event.bounds
    learnt = after(passed(1.0), passed(4.0))
    assert relearnt(learnt, passed(2.0), known, LEARNING) == ()
    assert relearnt(learnt, passed(5.0), known, LEARNING) != ()
    assert relearnt(learnt, passed(5.0), known, LEARNING.model_copy(update={"learn": False})) == ()


def test_a_statistic_that_is_not_finite_is_left_out() -> None:
    found = after(passed(1.0), rejected(math.inf, audit=True)).ranges
    assert found["resnet"]["logit_std"] == (1.0, 1.0)


def worker(job: Job) -> tuple[float, list[Message]]:
    """A worker whose signal check obeys the job's bounds; one layer in five passes quality."""
    rng = random.Random(digest(job.graph) if job.graph is not None else str(job.subject.baseline))
    good = rng.random() < 0.2
    value = math.exp(rng.gauss(0.0, 1.0 if good else 5.0))
    told = checks(value, fails="" if good else "resnet")
    if job.checks is not None:
        bound = job.bounds.get("resnet", {}).get("logit_std")
        if bound is not None and not bound.low <= value <= bound.high:
            audit = good if job.audit else None
            done = JobDone(job_id=job.id, checks=told[:1], rejection=Rejection(code="signal"),
                           audit_passed=audit)  # fmt: skip
            return 0.1, [done]
        if not good:
            rejection = Rejection(code="quality")
            return 0.5, [JobDone(job_id=job.id, checks=told, rejection=rejection)]
    messages: list[Message] = [
        EvaluationDone(
            job_id=job.id,
            evaluation=Evaluation(
                anchor=run.anchor, seed=run.seed, learning_rate=run.learning_rate,
                split=run.split, score=rng.random(), steps=job.task.steps, seconds=1.0,
                correct="1" * 20 if run.split == "final" else "",
            ),
            checks=told if job.checks is not None and run == job.runs[0] else (),
        )
        for run in job.runs
    ]  # fmt: skip
    return 1.0, [*messages, JobDone(job_id=job.id)]


def started() -> MemoryStore:
    store = MemoryStore()
    config = load_preset("quickstart", OVERRIDES, seed=3)
    store.create("search01", "test", ev.Created(config=config))
    return store


def controller(store: MemoryStore, workers: int = 1) -> Controller:
    return Controller(store, SimulatedPool(worker, workers), store.acquire("search01", "me", 3600))


def learnt_events(store: MemoryStore) -> list[ev.BoundsLearnt]:
    return [e.event for e in store.events("search01") if isinstance(e.event, ev.BoundsLearnt)]


def test_bounds_ride_on_jobs_from_the_event_that_says_them() -> None:
    store = started()
    state = controller(store, workers=3).run()
    assert state.status == "finished"
    found = learnt_events(store)
    assert found[0].passed == 4
    assert len(found) > 3
    assert state.audit.audited > 0
    assert state.bounds == found[-1].bounds
    replayed = State(next(store.events("search01")).event)  # type: ignore[arg-type]
    bounds: dict[str, object] = {}
    for entry in list(store.events("search01"))[1:]:
        replayed.follow(entry)
        if isinstance(entry.event, ev.BoundsLearnt):
            bounds = dict(entry.event.bounds)
        if isinstance(entry.event, ev.CandidateQueued):
            assert replayed.pending[f"c{entry.event.birth}"].bounds == bounds


def test_a_search_that_learns_replays_and_a_forged_bound_is_found() -> None:
    store = started()
    controller(store, workers=3).run()
    entries = list(store.events("search01"))
    assert replay(entries).difference is None
    place = next(i for i, e in enumerate(entries) if isinstance(e.event, ev.BoundsLearnt))
    forged = entries[place].event.model_copy(update={"factor": 3.0})
    entries[place] = entries[place].model_copy(update={"event": forged})
    difference = replay(entries).difference
    assert difference is not None
    assert (difference.kind, difference.field) == ("bounds_learnt", "factor")


def test_a_search_that_learns_ends_with_the_same_log_wherever_it_is_killed() -> None:
    assert_a_kill_leaves_no_mark(started, controller, 1, 97)


def test_a_snapshot_keeps_what_was_learnt() -> None:
    store = started()
    state = controller(store).run()
    assert state.bounds
    again = load_state(dump_state(state))
    assert (again.learnt, again.bounds) == (state.learnt, state.bounds)
    folded = recover(store.events("search01"))
    assert (folded.learnt, folded.bounds) == (state.learnt, state.bounds)
