"""What a message from a worker means: pure functions from state and message to events."""

from __future__ import annotations

from evosearch import events as ev
from evosearch.pareto import Change
from evosearch.records import EvaluationDone, Failure, Job, JobDone, Message, Rejection
from evosearch.signal import relearnt
from evosearch.state import SCORED, State
from evosearch.surrogate import foretell, spared

MAX_KILLS = 2
"""A job that kills so many workers is given up; a candidate is quarantined for good."""

RETRIED = frozenset({"died", "out_of_memory", "hung", "rubbish"})
"""Causes that may be the worker's and not the layer's."""

MAX_PREEMPTIONS = 20
"""Workers that may be taken away from one job before it is given up: no kills, but no progress."""


def observe(state: State, message: Message) -> tuple[ev.Event, ...]:
    """The events that follow from the message; none for a job that is no longer pending."""
    job = state.pending.get(message.job_id)
    if job is None:
        return ()
    event: ev.Event
    if isinstance(message, EvaluationDone):
        event = ev.EvaluationRecorded(
            job_id=job.id,
            purpose=job.purpose,
            subject=job.subject,
            evaluation=message.evaluation,
            checks=message.checks,
        )
    elif job.signal_only and message.failure is None and message.rejection is None:
        return _passed_signal(state, message, job.subject.birth or 0)
    else:
        event = _finished(state, job, message)
    settings = state.config.checks.signal
    if isinstance(event, (ev.EvaluationRecorded, ev.CandidateRejected)):
        return event, *relearnt(state.learnt, state.told(event), state.bounds, settings)
    return (event,)


def _passed_signal(state: State, message: JobDone, birth: int) -> tuple[ev.Event, ...]:
    found = foretell(state, birth, message.checks)
    event = ev.CandidateWaiting(
        birth=birth,
        checks=message.checks,
        promise=found.promise,
        below=found.below,
        seconds=message.seconds,
        worker=message.worker,
    )
    if not found.below or spared(state.config, birth):
        return (event,)
    detail = f"promise {found.promise:.2g}, discarded below {found.cut:.2g}"
    rejection = Rejection(code="unpromising", detail=detail)
    return event, ev.CandidateRejected(
        birth=birth, rejection=rejection, seconds=message.seconds, worker=message.worker
    )


def _finished(state: State, job: Job, message: JobDone) -> ev.Event:
    failure = message.failure
    if failure is None and message.rejection is None and job.runs:
        failure = Failure(cause="rubbish", detail=f"{len(job.runs)} runs have no evaluation")
    if failure is not None and tried_again(job, failure):
        return ev.JobLost(id=job.id, failure=failure, attempt=job.attempt, worker=message.worker)
    birth = job.subject.birth
    if job.purpose == "search" and birth is not None:
        return _first_verdict(state, birth, failure, message)
    scored = failure is None and job.purpose in SCORED
    return ev.JobFinished(
        id=job.id,
        subject=job.subject,
        purpose=job.purpose,
        standing=standing(state, birth) if scored and birth is not None else None,
        failure=failure,
        seconds=message.seconds,
        worker=message.worker,
    )


def tried_again(job: Job, failure: Failure) -> bool:
    """Whether the job goes to another worker; a preemption counts as no kill."""
    if failure.cause == "preempted":
        return job.preempted < MAX_PREEMPTIONS
    return failure.cause in RETRIED and job.attempt - job.preempted < MAX_KILLS


def _first_verdict(state: State, birth: int, failure: Failure | None, message: JobDone) -> ev.Event:
    waiting = state.waiting.get(birth)
    before = 0.0 if waiting is None else waiting.seconds
    if failure is not None:
        return ev.CandidateFailed(
            birth=birth,
            failure=failure,
            quarantined=failure.cause in RETRIED,
            worker=message.worker,
        )
    if message.rejection is not None:
        return ev.CandidateRejected(
            birth=birth,
            rejection=message.rejection,
            checks=message.checks,
            audit_passed=message.audit_passed,
            seconds=message.seconds + before,
            worker=message.worker,
        )
    return ev.CandidateEvaluated(
        birth=birth,
        standing=standing(state, birth),
        checks=message.checks,
        seconds=message.seconds + before,
        worker=message.worker,
    )


def standing(state: State, birth: int) -> ev.Standing:
    """Where the candidate's mean scores put it, and what that does to the front."""
    member = state.members[birth]
    scores = member.means()
    change: Change = state.front.change(birth, state.objectives(scores))
    return ev.Standing(
        scores=scores,
        seeds=member.seeds,
        front_in=change.entered,
        front_out=change.left,
        hypervolume=change.hypervolume,
    )
