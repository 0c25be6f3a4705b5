"""Runs a search again from its recorded outcomes, and says where it would decide differently.

What workers measured and what people asked for is taken from the log; everything that the search
decided itself (proposals, duplicates, re-measurements, verdicts, front, phases, report) is decided
anew and compared. It reads only, and it must not train anything.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evosearch import events as ev
from evosearch.confirm import advance
from evosearch.errors import StateConflict
from evosearch.observe import observe
from evosearch.ports import Progress, unseen
from evosearch.propose import Proposer, remeasurement, remeasurement_due
from evosearch.records import EvaluationDone, JobDone, Message
from evosearch.state import State


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event that came out differently: ``field`` is a path into it."""

    seq: int
    kind: str
    field: str
    recorded: str
    replayed: str


@dataclass(slots=True)
class Replayed:
    """How many events were read, proposals and other decisions made anew, and what differed."""

    events: int = 1
    proposals: int = 0
    decisions: int = 0
    difference: Difference | None = None


def replay(stored: Iterable[ev.StoredEvent], progress: Progress = unseen, of: int = 0) -> Replayed:
    """Decide the search anew, event by event, up to the first difference.

    ``of``: the number of events, for ``progress``.

    Raises:
        StateConflict: the log has a gap or contradicts itself.
    """
    log = iter(stored)
    first = next(log, None)
    if first is None or not isinstance(first.event, ev.Created):
        raise StateConflict("the log does not begin with the search's creation")
    replayer, done = _Replayer(State(first.event)), Replayed()
    for entry in log:
        found = replayer.decide(entry.event)
        if isinstance(entry.event, (ev.CandidateQueued, ev.CandidateDuplicate)):
            done.proposals += 1
        elif found is not None:
            done.decisions += 1
        if found is not None and (where := _difference(entry.event, found)) is not None:
            done.difference = Difference(entry.seq, entry.event.kind, *where)
            return done
        replayer.state.follow(entry)
        done.events = entry.seq
        progress("", entry.seq, of)
    return done


class _Replayer:
    """The decisions of a search whose inputs are read from its log."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._proposer = Proposer(state)
        self._ahead: deque[ev.Event] = deque()
        """The rest of what was decided together with the event before."""

    def decide(self, event: ev.Event) -> ev.Event | None:
        """What the search decides here; None where the event is something that it was told."""
        if not self._ahead:
            told = isinstance(event, ev.BudgetChanged | ev.CodeChanged | ev.Created) or (
                isinstance(event, ev.StatusChanged) and event.status != "finished"
            )
            if told:
                return None
            self._ahead.extend(self._decided(event))
        if not self._ahead:
            return ev.StatusChanged(status=self.state.status, reason="nothing is decided here")
        found = self._ahead.popleft()
        if isinstance(found, ev.CandidateQueued) and isinstance(event, ev.CandidateQueued):
            # What the pool held is nothing that the search decides.
            skipped = found.skipped.model_copy(update={"jobs": event.skipped.jobs})
            found = found.model_copy(update={"skipped": skipped})
        return found

    def _decided(self, event: ev.Event) -> tuple[ev.Event, ...]:
        state = self.state
        match event:
            case ev.CandidateQueued(origin="enqueued") | ev.EnqueuedRefused():
                note = event.note if isinstance(event, ev.CandidateQueued) else ""
                return self._proposer.enqueue(state, event.graph, note)
            case ev.CandidateQueued() | ev.CandidateDuplicate():
                return self._proposer.propose(state)
            case ev.JobQueued(purpose="remeasure"):
                return self._remeasured(event)
            case ev.JobQueued() | ev.PhaseEntered() | ev.Reported() | ev.StatusChanged():
                # Whether the space is exhausted is not asked again: it takes all proposals.
                return advance(state) or advance(state, exhausted=True)
        message = _message(event)
        return observe(state, message) if message is not None else ()

    def _remeasured(self, event: ev.JobQueued) -> tuple[ev.Event, ...]:
        """Fresh seeds that were due, or that a person asked for; only the wish itself is told.

        An older log does not say which it was: there, whatever was not due counts as a wish.
        """
        due = remeasurement_due(self.state)
        if event.asked is False:
            return (remeasurement(self.state, due),) if due is not None else ()
        member = self.state.members.get(event.subject.birth or 0)
        if member is None or not member.evaluated:
            return ()
        return (remeasurement(self.state, member, asked=event.asked),)


def _message(event: ev.Event) -> Message | None:
    """What the worker must have sent for the event to be written."""
    match event:
        case ev.EvaluationRecorded():
            return EvaluationDone(
                job_id=event.job_id, evaluation=event.evaluation, checks=event.checks
            )
        case ev.JobLost():
            return JobDone(job_id=event.id, failure=event.failure, worker=event.worker)
        case ev.JobFinished():
            return JobDone(
                job_id=event.id, failure=event.failure, seconds=event.seconds, worker=event.worker
            )
        case ev.CandidateFailed():
            return JobDone(job_id=f"c{event.birth}", failure=event.failure, worker=event.worker)
        case ev.CandidateWaiting():
            return JobDone(job_id=f"c{event.birth}", checks=event.checks)
        case ev.CandidateRejected():
            return JobDone(
                job_id=f"c{event.birth}",
                checks=event.checks,
                rejection=event.rejection,
                audit_passed=event.audit_passed,
            )
        case ev.CandidateEvaluated():
            return JobDone(job_id=f"c{event.birth}", checks=event.checks)
    return None


def _difference(recorded: ev.Event, replayed: ev.Event) -> tuple[str, str, str] | None:
    """Path, recorded and replayed value of the first field that differs, times apart."""
    one, other = (
        ev.without_times(json.loads(ev.dump_event(event))) for event in (recorded, replayed)
    )
    return _first(one, other, "")


def _first(one: Any, other: Any, path: str) -> tuple[str, str, str] | None:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        found = (_first(one[key], other[key], f"{path}.{key}") for key in one)
        return next((where for where in found if where is not None), None)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        found = (_first(a, b, f"{path}[{index}]") for index, (a, b) in pairs)
        return next((where for where in found if where is not None), None)
    return None if one == other else (path.lstrip(".") or "event", _short(one), _short(other))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
