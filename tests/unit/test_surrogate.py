"""The surrogate: what it learns, whom it lets pass, what it earns; that it resumes and replays."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from statistics import median

import pytest
from pydantic import ValidationError

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import SearchConfig, Surrogate
from evosearch.controller import Controller
from evosearch.ports import Enqueue
from evosearch.presets import load_preset
from evosearch.records import (
    CheckRun,
    Evaluation,
    EvaluationDone,
    Job,
    JobDone,
    Message,
    Rejection,
)
from evosearch.refits import fitted_at, ranks
from evosearch.replay import replay
from evosearch.snapshot import dump_state, load_state
from evosearch.state import State, recover
from evosearch.surrogate import (
    UNKNOWN,
    Lesson,
    Waiting,
    calibration,
    cut,
    features,
    in_line,
    promise,
    turn,
)
from primitives.catalog import CATALOG
from primitives.digest import digest
from tests.support.whole_log import ID, assert_a_kill_leaves_no_mark
from workers.simulated import SimulatedPool

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")
ON = (
    "surrogate.enabled=true", "surrogate.waiting=4", "surrogate.after=12", "surrogate.least=12",
    "surrogate.allowed=0.1", "surrogate.audit_share=0.5", "budget.evaluations=60",
    "checks.hurdles.steps=[]", "confirmation.resamples=50", "evolution.challenge_top=0",
    "evolution.population_size=20", "evolution.warm_up=10", "evolution.choose_of=1",
)  # fmt: skip


def test_a_forest_is_fitted_again_an_eighth_of_the_lessons_later() -> None:
    assert [fitted_at(n, 30) for n in (0, 29, 30, 34, 35, 39, 40)] == [
        None, None, 30, 30, 35, 35, 40,
    ]  # fmt: skip
    points = sorted({fitted_at(n, 30) for n in range(30, 5000)})
    steps = [b - a for a, b in itertools.pairwise(points)]  # type: ignore[operator]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (5, 100)
    assert fitted_at.cache_info().currsize <= 64  # a service sees a verdict after the other


def lesson(promise: float | None, useful: bool, mean: float | None = 0.5) -> Lesson:
    return Lesson((1.0,), mean, useful, promise)


def test_ranks_are_shares_of_what_was_evaluated_and_rejections_come_last() -> None:
    assert ranks([0.2, None, 0.8, 0.5, 0.5]) == [0.25, 0.0, 1.0, 0.75, 0.75]
    assert ranks([None]) == [0.0]


@pytest.mark.parametrize("useful_at", [(), (0,), (12,), (40,), (60,), (30, 31), (9, 30), (99,)])
def test_the_cut_is_the_highest_promise_below_which_few_were_useful(
    useful_at: tuple[int, ...],
) -> None:
    told = [lesson(index / 100, index in useful_at) for index in range(100)]
    random.Random(3).shuffle(told)
    earned = [
        index for index in range(10, 100) if sum(one < index for one in useful_at) <= 0.02 * index
    ]
    assert cut(told, Surrogate(least=10, allowed=0.02)) == (max(earned) / 100 if earned else None)


def test_nothing_is_earned_by_few_or_by_what_nobody_foretold() -> None:
    settings = Surrogate(least=10, allowed=0.0)
    assert cut([lesson(0.1, False)] * 9, settings) is None
    assert cut([lesson(0.1, False)] * 30, settings) is None, "equal ones cannot be told apart"
    assert cut([lesson(None, False)] * 30, settings) is None
    assert cut([*[lesson(0.1, False)] * 10, lesson(0.2, True)], settings) == 0.2
    assert cut([*[lesson(0.1, True)] * 10, lesson(0.2, False)], settings) is None


def test_a_promise_follows_what_outcomes_followed() -> None:
    rng = random.Random(1)
    lessons = []
    for _ in range(60):
        one = rng.random()
        mean = None if one < 0.3 else one
        lessons.append(Lesson((one, rng.random()), mean, one > 0.6, None))
    settings = Surrogate(after=30)
    low, high = (promise(lessons, 60, settings, (value, 0.5)) for value in (0.1, 0.95))
    assert low is not None
    assert high is not None
    assert low < 0.2 < 0.7 < high
    assert promise(lessons, 29, settings, (0.5, 0.5)) is None
    assert promise(lessons, 60, settings, (0.5,)) is None, "of other statistics"
    # Lessons after the last fit change nothing yet.
    assert fitted_at(62, 30) == fitted_at(60, 30) == 56
    later = [*lessons, Lesson((0.1, 0.5), 0.9, True, None), Lesson((0.1, 0.6), 0.9, True, None)]
    assert promise(later, 62, settings, (0.1, 0.5)) == low


def test_features_are_finite_whatever_is_missing() -> None:
    config = load_preset("quickstart")
    graph = CATALOG["evonorm-s0"].graph
    check = CheckRun(
        check="signal", anchor="resnet", seconds=0.0, findings={"loss": 1e300, "logit_std": 2.0}
    )
    found = features(config, graph, [check], [])
    assert found[:2] == (2.0, 1e30)
    assert found[2:6] == (UNKNOWN,) * 4
    assert found[-2:] == (UNKNOWN, UNKNOWN)
    assert features(config, graph, [check], [0.25, 0.75])[-2:] == (0.25, 0.75)
    assert len(features(config, CATALOG["bn-relu"].graph, [check], [])) == len(found)


def worth(job: Job) -> float:
    """How good a layer is, from -1 to 1; what the signal check measures tells most of it."""
    assert job.graph is not None
    return 2 * random.Random(digest(job.graph)).random() - 1


def worker(job: Job) -> tuple[float, list[Message]]:
    """A worker whose signal check foretells what comes of a layer."""
    if job.graph is None:
        good, noise = 0.5, 0.0
    else:
        good, noise = worth(job), 0.02 * random.Random(digest(job.graph) + "n").random()
    findings = {"loss": -good, "logit_std": 1.0}
    signal = tuple(
        CheckRun(check="signal", anchor=a, seconds=0.1, findings=findings) for a in ANCHORS
    )
    made = signal if job.checks is not None and job.checks.signal.enabled else ()
    if job.signal_only:
        assert made
        return 0.1, [JobDone(job_id=job.id, checks=made, seconds=0.1)]
    quality = tuple(CheckRun(check="quality", anchor=a, seconds=0.1, steps=40) for a in ANCHORS)
    if job.purpose == "search" and good < -0.2 and len(job.runs) == len(ANCHORS):
        bad = quality[0].model_copy(update={"rejection": Rejection(code="quality")})
        done = JobDone(job_id=job.id, checks=(*made, bad), rejection=bad.rejection, seconds=0.5)
        return 0.5, [done]
    whole = job.purpose == "search" and len(job.runs) == len(ANCHORS)
    messages: list[Message] = [
        EvaluationDone(
            job_id=job.id,
            evaluation=Evaluation(
                anchor=run.anchor, seed=run.seed, learning_rate=run.learning_rate,
                split=run.split, score=0.5 + 0.4 * good + noise, steps=job.task.steps,
                seconds=1.0, correct="1" * 20 if run.split == "final" else "",
            ),
            checks=(*made, *quality) if whole and run == job.runs[0] else (),
        )
        for run in job.runs
    ]  # fmt: skip
    return 3.0, [*messages, JobDone(job_id=job.id, seconds=3.0)]


def started(overrides: Iterable[str] = ON) -> MemoryStore:
    store = MemoryStore()
    config = load_preset("quickstart", list(overrides), seed=3)
    store.create(ID, "test", ev.Created(config=config))
    return store


def controller(store: MemoryStore, workers: int = 1) -> Controller:
    return Controller(store, SimulatedPool(worker, workers), store.acquire(ID, "me", 3600))


def kinds(store: MemoryStore, kind: type[ev.Event]) -> list[ev.Event]:
    return [entry.event for entry in store.events(ID) if isinstance(entry.event, kind)]


@pytest.mark.parametrize("workers", [1, 5])
def test_every_candidate_comes_to_an_end_and_the_promising_go_first(workers: int) -> None:
    store = started()
    state = controller(store, workers).run()
    assert state.status == "finished"
    assert not state.pending
    assert not state.waiting
    queued = {event.birth for event in kinds(store, ev.CandidateQueued)}  # type: ignore[union-attr]
    ended = [
        entry.event.birth
        for entry in store.events(ID)
        if isinstance(entry.event, (ev.CandidateEvaluated, ev.CandidateRejected))
    ]
    assert sorted(ended) == sorted(queued)
    found = calibration(state)
    assert found["correlation"] > 0.8
    assert state.rejected["unpromising"] == found["discarded"] > 0
    assert state.rejected["outranked"] > 0
    assert found["audited"] > 0
    assert found["useful"] <= 0.34 * found["audited"]
    rate = found["discard_rate"]
    assert 0.0 <= rate["low"] <= rate["value"] <= rate["high"] < 1.0
    share = state.config.surrogate.audit_share
    wrong = state.discards.useful / share
    assert rate["value"] == wrong / (wrong + state.discards.passed)
    useful = sum(lesson.useful for lesson in state.lessons)
    assert state.discards.useful + state.discards.passed == useful > 10
    assert state.report is not None
    assert state.report["surrogate"] == found
    # What it threw out was worse than what it let pass.
    by_code: dict[str, list[float]] = {}
    graphs = {e.birth: e.graph for e in kinds(store, ev.CandidateQueued)}  # type: ignore[union-attr]
    for entry in store.events(ID):
        event = entry.event
        code = event.rejection.code if isinstance(event, ev.CandidateRejected) else "evaluated"
        if isinstance(event, (ev.CandidateRejected, ev.CandidateEvaluated)):
            value = 2 * random.Random(digest(graphs[event.birth])).random() - 1
            by_code.setdefault(code, []).append(value)
    assert median(by_code["unpromising"]) < median(by_code["evaluated"]) - 0.2


def test_fewer_are_trained_for_nothing_than_without_it() -> None:
    def quality(overrides: Iterable[str]) -> float:
        state = controller(started(overrides)).run()
        return state.rejected["quality"] / state.evaluated

    longer = (*ON, "surrogate.audit_share=0.1", "budget.evaluations=90")
    assert quality(longer) < 0.8 * quality((*longer, "surrogate.enabled=false"))


def test_a_search_ends_with_the_same_log_wherever_it_is_killed() -> None:
    assert_a_kill_leaves_no_mark(started, controller, 3, 701)


def test_it_replays_and_a_forged_promise_is_found() -> None:
    store = started()
    controller(store, workers=3).run()
    entries = list(store.events(ID))
    assert replay(entries).difference is None
    place = next(
        i for i, e in enumerate(entries)
        if isinstance(e.event, ev.CandidateWaiting) and e.event.promise is not None
    )  # fmt: skip
    forged = entries[place].event.model_copy(update={"promise": 0.123})
    entries[place] = entries[place].model_copy(update={"event": forged})
    difference = replay(entries).difference
    assert difference is not None
    assert (difference.kind, difference.field) == ("candidate_waiting", "promise")


def test_a_snapshot_in_the_middle_keeps_who_waits_and_what_was_learnt() -> None:
    store = started()
    running = controller(store, workers=3)
    while len(running.state.lessons) < 40 or not running.state.waiting:
        running.step()
    state = running.state
    again, folded = load_state(dump_state(state)), recover(store.events(ID))
    for other in (again, folded):
        assert other.waiting == state.waiting
        assert list(other.lessons) == list(state.lessons)
        assert (other.taught, other.waits, other.discards) == (
            state.taught, state.waits, state.discards,
        )  # fmt: skip


def waiting_state(promises: Iterable[float | None], waits: int) -> State:
    state = State(ev.Created(config=load_preset("quickstart", list(ON))))
    state.waits = waits
    for number, value in enumerate(promises):
        state.waiting[number] = Waiting(number, (), (), value, False, 0.0)
    return state


def test_whose_turn_it_is() -> None:
    state = waiting_state([0.2, 0.9, 0.9, 0.4], waits=4)
    assert turn(state, [0, 1, 2, 3]) == 1
    assert turn(state, [0, 3]) == 3
    state.waits = 17  # the first was passed over more than four times four times
    assert turn(state, [0, 1, 2, 3]) == 0
    assert turn(waiting_state([0.2, None, 0.9], waits=3), [0, 1, 2]) == 0
    state.waiting[1].begun = True
    assert in_line(state, ["c2"]) == [0, 3]


def test_nobody_waits_for_ever() -> None:
    store = started((*ON, "surrogate.least=100000"))
    running = controller(store)
    longest = 0
    while not running.over:
        running.step()
        state = running.state
        numbers = [one.number for one in state.waiting.values()]
        longest = max([longest, *(state.waits - number for number in numbers)])
    assert 4 < longest <= 4 * 4 + 4 + 1
    assert running.state.rejected["unpromising"] == 0


def test_what_a_person_asks_for_does_not_wait() -> None:
    store = started()
    running = controller(store)
    while not running.state.waiting:
        running.step()
    store.send(ID, Enqueue(graph=CATALOG["evonorm-s0"].graph, note="mine"))
    running.step()
    (mine,) = [one for one in kinds(store, ev.CandidateQueued) if one.note]  # type: ignore[union-attr]
    births = [one.birth for one in kinds(store, ev.CandidateWaiting)]  # type: ignore[union-attr]
    assert mine.birth not in births  # type: ignore[union-attr]
    running.step()
    assert mine.birth in running.state.front.points, "trained at once"  # type: ignore[union-attr]


def test_bounds_are_learnt_all_the_same() -> None:
    learning = (
        "checks.signal.learn=true", "checks.signal.learn_after=4", "checks.signal.bounds={}",
    )  # fmt: skip
    store = started((*ON, *learning))
    state = controller(store, workers=3).run()
    passed = state.evaluated  # in this world whatever passes quality is evaluated
    assert state.learnt.passed == passed
    assert replay(store.events(ID)).difference is None


def test_it_needs_the_signal_check() -> None:
    config = load_preset("quickstart", list(ON))
    data = config.model_dump()
    data["checks"]["signal"]["enabled"] = False
    with pytest.raises(ValidationError, match=r"surrogate\.enabled needs checks\.signal\.enabled"):
        SearchConfig.model_validate(data)
