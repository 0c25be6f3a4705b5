"""What a message from a worker means: pure functions from state and message to events."""

from __future__ import annotations

from evosearch import events as ev
from evosearch.pareto import Change
from evosearch.records import EvaluationDone, Failure, Job, JobDone, Message
from evosearch.state import SCORED, State

MAX_KILLS = 2
"""A job that kills so many workers is given up; a candidate is quarantined for good."""

RETRIED = frozenset({"died", "out_of_memory", "hung"})
"""Causes that may be the worker's and not the layer's."""


def observe(state: State, message: Message) -> tuple[ev.Event, ...]:
    """The events that follow from the message; none for a job that is no longer pending."""
    job = state.pending.get(message.job_id)
    if job is None:
        return ()
    if isinstance(message, EvaluationDone):
        return (
            ev.EvaluationRecorded(
                job_id=job.id,
                purpose=job.purpose,
                subject=job.subject,
                evaluation=message.evaluation,
                checks=message.checks,
            ),
        )
    return (_finished(state, job, message),)


def _finished(state: State, job: Job, message: JobDone) -> ev.Event:
    failure = message.failure
    if failure is None and message.rejection is None and job.runs:
        failure = Failure(cause="rubbish", detail=f"{len(job.runs)} runs have no evaluation")
    if failure is not None and failure.cause in RETRIED and job.attempt < MAX_KILLS:
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


def _first_verdict(state: State, birth: int, failure: Failure | None, message: JobDone) -> ev.Event:
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
            seconds=message.seconds,
            worker=message.worker,
        )
    return ev.CandidateEvaluated(
        birth=birth,
        standing=standing(state, birth),
        checks=message.checks,
        seconds=message.seconds,
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
