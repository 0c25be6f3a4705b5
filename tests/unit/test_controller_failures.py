"""Workers that die, are preempted, fail or return rubbish: what it costs a candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evosearch.observe import MAX_PREEMPTIONS
from evosearch.records import (
    Failure,
    Job,
    JobDone,
    Message,
)
from evosearch.replay import replay
from tests.simulated_worker import answer
from tests.support.small_search import Script, controller, finished, start


def dying(kills: int, cause: str = "died") -> Script:
    """Workers that die with the first evaluated-to-be candidate, so many times."""
    left = Counter({"kills": kills})
    victim: list[str] = []

    def script(job: Job) -> tuple[float, Sequence[Message]]:
        seconds, messages = answer(job)
        if job.purpose == "search" and len(messages) > 1 and not victim:
            victim.append(job.id)
        if job.id in victim and left["kills"] > 0:
            left["kills"] -= 1
            failure = Failure(cause=cause, detail="killed")
            return 0.5, [messages[0], JobDone(job_id=job.id, failure=failure)]
        return seconds, messages

    return script


def test_a_dead_worker_costs_a_retry_of_what_was_not_finished() -> None:
    store = start()
    state = finished(store, dying(1))
    lost = [e.event for e in store.events("search01") if e.event.kind == "job_lost"]
    assert [event.attempt for event in lost] == [1]
    runs = Counter(
        (e.event.job_id, e.event.evaluation.anchor)
        for e in store.events("search01")
        if e.event.kind == "evaluation_recorded" and e.event.job_id == lost[0].id
    )
    assert runs == dict.fromkeys(((lost[0].id, a) for a in state.config.anchor_names), 1)
    assert state.failures == {"died": 1}


def test_a_preempted_worker_counts_as_no_kill() -> None:
    store = start()
    state = finished(store, dying(3, "preempted"))
    lost = [e.event for e in store.events("search01") if e.event.kind == "job_lost"]
    assert [event.attempt for event in lost] == [1, 2, 3]
    assert state.rejected["quarantined"] == state.rejected["failed"] == 0
    assert int(lost[0].id.removeprefix("c")) in state.members
    assert replay(store.events("search01")).difference is None


def test_preemptions_leave_the_two_lives_of_a_candidate_and_are_bounded() -> None:
    causes = iter(["preempted", "died", "preempted", "died", "died"])

    def script(job: Job) -> tuple[float, Sequence[Message]]:
        if job.id == "baseline/bn-relu":
            return 0.1, [JobDone(job_id=job.id, failure=Failure(cause=next(causes)))]
        return answer(job)

    store = start("budget.evaluations=3")
    controller(store, script).run()
    lost = [e.event.failure.cause for e in store.events("search01") if e.event.kind == "job_lost"]
    assert lost == ["preempted", "died", "preempted"]
    assert list(causes) == ["died"], "the second death ended it"
    causes = iter(["preempted"] * 100)
    store = start("budget.evaluations=3")
    controller(store, script).run()
    lost = [e.event.failure.cause for e in store.events("search01") if e.event.kind == "job_lost"]
    assert lost == ["preempted"] * MAX_PREEMPTIONS


def test_a_candidate_that_kills_two_workers_is_quarantined() -> None:
    store = start()
    state = finished(store, dying(2))
    failed = [e.event for e in store.events("search01") if e.event.kind == "candidate_failed"]
    assert [event.quarantined for event in failed] == [True]
    assert failed[0].birth not in state.members
    assert state.evaluated == 25


def test_an_error_of_the_layer_fails_at_once_and_the_search_goes_on() -> None:
    store = start()
    state = finished(store, dying(1, "error"))
    failed = [e.event for e in store.events("search01") if e.event.kind == "candidate_failed"]
    assert [event.quarantined for event in failed] == [False]
    assert state.evaluated == 25


def test_a_worker_that_skips_a_run_returned_rubbish() -> None:
    def script(job: Job) -> tuple[float, Sequence[Message]]:
        seconds, messages = answer(job)
        return seconds, messages[1:] if job.id == "baseline/bn-relu" else messages

    store = start("budget.evaluations=3")
    controller(store, script).run()
    ended = [e.event for e in store.events("search01") if e.event.kind == "job_finished"]
    failure = next(e.failure for e in ended if e.id == "baseline/bn-relu")
    assert failure is not None
    assert failure.cause == "rubbish"
    lost = [e.event for e in store.events("search01") if e.event.kind == "job_lost"]
    assert [(e.id, e.failure.cause) for e in lost] == [("baseline/bn-relu", "rubbish")]
