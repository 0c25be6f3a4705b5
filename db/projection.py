"""What events do to rows: the one set of rules that the memory store and the SQL store share.

Pure: it reads what is known of the touched candidates and jobs, refuses an event that does not
fit, and gathers the net change of a batch. It must not know of SQL, connections or clocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from db.rows import (
    EVALUATION_FIELDS,
    OUTCOME_FIELDS,
    KnownCandidate,
    KnownJob,
    Row,
    clean,
    dumps,
    failure_row,
    new_candidate,
    open_job,
    plain,
)
from db.states import JOB_OPEN, OPEN
from evosearch.errors import StateConflict
from evosearch.events import (
    BudgetChanged,
    CandidateDuplicate,
    CandidateEvaluated,
    CandidateFailed,
    CandidateQueued,
    CandidateRejected,
    CandidateWaiting,
    CodeChanged,
    Created,
    EnqueuedRefused,
    EvaluationRecorded,
    Event,
    JobFinished,
    JobLost,
    JobQueued,
    PhaseEntered,
    Skipped,
    Standing,
    StatusChanged,
    dump_event,
)
from evosearch.objectives import SEPARATOR
from evosearch.records import CheckRun, Subject

_OF_A_CANDIDATE = (CandidateWaiting, CandidateRejected, CandidateFailed, CandidateEvaluated)


def touched(events: Iterable[Event]) -> tuple[set[int], set[str]]:
    """Births and job ids whose stored state decides whether the events fit."""
    births: set[int] = set()
    jobs: set[str] = set()
    for event in events:
        if isinstance(event, (JobQueued, EvaluationRecorded, JobFinished)):
            if event.subject.birth is not None:
                births.add(event.subject.birth)
        elif isinstance(event, _OF_A_CANDIDATE):
            births.add(event.birth)
        elif isinstance(event, JobLost) and (birth := _first_of(event.id)) is not None:
            births.add(birth)
        if isinstance(event, (CandidateEvaluated, JobFinished)) and event.standing:
            births.update(event.standing.front_in, event.standing.front_out)
        if isinstance(event, EvaluationRecorded):
            jobs.add(event.job_id)
        elif isinstance(event, (JobLost, JobFinished)):
            jobs.add(event.id)
    return births, jobs


def _first_of(job_id: str) -> int | None:
    """The candidate whose first job has that id; it has no row among the jobs."""
    number = job_id.removeprefix("c")
    return int(number) if number != job_id and number.isdecimal() else None


class Projection:
    """The net change that a batch of events makes to the rows of one search.

    ``candidates`` and ``jobs`` are new rows; ``moves`` (of candidates that go on waiting),
    ``outcomes``, ``flips``, ``scores`` and ``job_changes`` change stored ones, and each carries the
    state that it was read in (``was``), so that a writer can compare and set. ``now`` and
    ``jobs_now`` tell the states after the batch.
    ``timed``: births whose step time may have changed; ``moves_pace``: all of them may.
    ``lean``: without the rows of events and without formulas, for those who only compare.
    """

    def __init__(
        self,
        known: Mapping[int, KnownCandidate],
        known_jobs: Mapping[str, KnownJob],
        *,
        lean: bool = False,
    ) -> None:
        self._known, self._known_jobs, self._lean = known, known_jobs, lean
        self.now: dict[int, KnownCandidate] = {}
        self.jobs_now: dict[str, KnownJob] = {}
        self._where = ""
        self._at: datetime
        self._seq = 0
        self.search: Row = {}
        self.evaluated = 0
        self.events: list[Row] = []
        self.candidates: dict[int, Row] = {}
        self.parents: list[Row] = []
        self.moves: dict[int, Row] = {}
        self.outcomes: dict[int, Row] = {}
        self.scores: dict[int, Row] = {}
        self.flips: dict[int, bool] = {}
        self.evaluations: list[Row] = []
        self.traces: list[Row] = []
        self.check_runs: list[Row] = []
        self.jobs: dict[str, Row] = {}
        self.job_changes: dict[str, Row] = {}
        self.tallies: dict[tuple[str, str], Row] = {}
        self.repeats: dict[int, int] = {}
        self.examples: list[Row] = []
        self.timed: set[int] = set()
        self.moves_pace = False

    def add(self, seq: int, at: datetime, event: Event) -> None:
        """Take in the next event.

        Raises:
            StateConflict: the event does not fit the state it meets.
        """
        self._seq, self._at, self._where = seq, at, f"event {seq} ({event.kind})"
        if not self._lean:
            payload = dump_event(event)
            self.events.append({"seq": seq, "at": at, "kind": event.kind, "payload": payload})
        self.search["last_seq"], self.search["updated_at"] = seq, at
        match event:
            case CandidateQueued():
                self._queued(event)
            case CandidateDuplicate():
                self._duplicate(event)
            case EnqueuedRefused():
                self._refused(event)
            case EvaluationRecorded():
                self._evaluation(event)
            case CandidateWaiting():
                self._expect(event.birth, OPEN)
                self._checks(event.birth, event.checks)
            case CandidateRejected() | CandidateFailed() | CandidateEvaluated():
                self._outcome(event)
            case JobQueued():
                self._job_queued(event)
            case JobLost():
                self._job_lost(event)
            case JobFinished():
                self._job_finished(event)
            case PhaseEntered():
                self.search["phase"] = event.phase
            case StatusChanged():
                self.search["status"] = event.status
            case BudgetChanged():
                if event.evaluations is not None:
                    self.search["budget"] = event.evaluations
            case CodeChanged():
                self.search["config"] = event.config.model_dump_json()
            case Created():
                if seq != 1:
                    raise self._conflict("a search is created once", "event 1", str(seq))
            case _:
                pass  # a report is its event, nothing follows from it

    def _conflict(self, what: str, expected: str, got: str) -> StateConflict:
        return StateConflict(
            what, expected=expected, got=got, where=self._where, hint="nothing was written"
        )

    def _candidate(self, birth: int) -> KnownCandidate:
        found = self.now.get(birth) or self._known.get(birth)
        if found is None:
            raise self._conflict("unknown candidate", "a birth of this search", str(birth))
        return found

    def _expect(self, birth: int, allowed: Sequence[str]) -> KnownCandidate:
        found = self._candidate(birth)
        if found.state not in allowed:
            raise self._conflict(
                f"candidate {birth} is in the wrong state", " or ".join(allowed), found.state
            )
        return found

    def _finite(self, name: str, *values: float) -> None:
        for value in values:
            if not math.isfinite(value):
                raise self._conflict(f"bad {name}", "a finite number", str(value))

    def _new_candidate(
        self,
        event: CandidateQueued | CandidateDuplicate | EnqueuedRefused,
        state: str,
        **more: Any,
    ) -> None:
        birth = event.birth
        if birth in self.now or birth in self._known:
            raise self._conflict("a birth stands for one candidate", "a new one", str(birth))
        for older in (*more.pop("parents", ()), more.get("duplicate_of")):
            if older is not None and older >= birth:
                raise self._conflict("bad birth", f"one before {birth}", str(older))
        row = new_candidate(birth, state, event.graph, self._at, formula=not self._lean) | more
        self.candidates[birth] = row
        self.now[birth] = KnownCandidate(state)
        self._tally("state", state, 1)

    def _queued(self, event: CandidateQueued) -> None:
        self._new_candidate(
            event, "queued", origin=event.origin, digest=event.digest,
            fingerprint=event.fingerprint, audit=event.audit, note=clean(event.note),
            parents=event.parents,
        )  # fmt: skip
        self._add_parents(event.birth, event.parents)
        self._skipped(event.skipped)

    def _duplicate(self, event: CandidateDuplicate) -> None:
        self._new_candidate(
            event, "duplicate", origin=event.origin, digest=event.digest, finished_at=self._at,
            fingerprint=event.fingerprint, duplicate_of=event.of, parents=event.parents,
        )  # fmt: skip
        self._add_parents(event.birth, event.parents)

    def _refused(self, event: EnqueuedRefused) -> None:
        self._new_candidate(
            event, "rejected", origin="enqueued", duplicate_of=event.of, finished_at=self._at,
            rejection_code=clean(event.rejection.code),
            rejection_detail=clean(event.rejection.detail),
        )  # fmt: skip
        self._tally("enqueued", event.rejection.code, 1)

    def _add_parents(self, child: int, parents: Sequence[int]) -> None:
        for position, parent in enumerate(parents):
            self.parents.append({"child": child, "position": position, "parent": parent})

    def _skipped(self, skipped: Skipped) -> None:
        for code, count in skipped.counts.items():
            self._tally("controller", code, count)
        for code, seconds in skipped.seconds.items():
            self._tally("controller", code, 0, seconds)
        for birth, count in skipped.repeats.items():
            self.repeats[birth] = self.repeats.get(birth, 0) + count
        for birth, code, graph in skipped.examples:
            self.examples.append(
                {"birth": birth, "code": clean(code), "graph": graph.to_json_text()}
            )
            self._tally("controller", code, 0)

    def _tally(
        self, stage: str, code: str, count: int, seconds: float = 0.0, steps: int = 0
    ) -> None:
        self._finite("seconds", seconds)
        row = self.tallies.setdefault(
            (stage, clean(code)), {"count": 0, "seconds": 0.0, "steps": 0}
        )
        row["count"] += count
        row["seconds"] += seconds
        row["steps"] += steps

    def _evaluation(self, event: EvaluationRecorded) -> None:
        subject, job = self._subject(event.subject), self._job(event.job_id)
        if job is not None:
            self._expect_job(event.job_id, job, event.purpose, subject)
        elif event.purpose != "search" or event.subject.birth is None:
            raise self._conflict("unknown job", "a queued job", event.job_id)
        elif self._expect(event.subject.birth, OPEN).state != "running":
            self._go_on(event.subject.birth, "running")
        if event.purpose == "search" and event.subject.birth is not None:
            self._checks(event.subject.birth, event.checks)
        one = event.evaluation
        self._finite("evaluation", one.score, one.learning_rate, one.seconds)
        if not -(2**63) <= one.seed < 2**63:
            raise self._conflict("bad seed", "a number of 64 bits", "a larger one")
        self.evaluations.append(
            {"seq": self._seq, "job_id": event.job_id, "purpose": event.purpose,
             "birth": event.subject.birth, "baseline": event.subject.baseline,
             "groups": dumps(one.groups),
             **{name: getattr(one, name) for name in EVALUATION_FIELDS}}
        )  # fmt: skip
        self.moves_pace |= event.purpose == "baseline"
        if event.purpose != "search" and event.subject.birth is not None:
            self.timed.add(event.subject.birth)  # of a first training its outcome tells
        if one.curve or one.correct:
            self.traces.append(
                {"seq": self._seq, "curve": dumps(one.curve), "correct": one.correct}
            )

    def _outcome(self, event: CandidateRejected | CandidateFailed | CandidateEvaluated) -> None:
        row: Row = dict.fromkeys(OUTCOME_FIELDS)
        row |= {"finished_at": self._at, "worker": clean(event.worker), "seeds": 0, "seconds": 0.0}
        if isinstance(event, CandidateFailed):
            row |= {"state": "quarantined" if event.quarantined else "failed"}
            row |= failure_row(event.failure)
        else:
            self._finite("seconds", event.seconds)
            row["seconds"] = event.seconds
            self._checks(event.birth, event.checks)
            if isinstance(event, CandidateRejected):
                row |= {
                    "state": "rejected", "rejection_code": clean(event.rejection.code),
                    "rejection_detail": clean(event.rejection.detail),
                    "audit_passed": event.audit_passed,
                }  # fmt: skip
                self._tally("worker", event.rejection.code, 1, event.seconds)
            else:
                row |= {"state": "evaluated", "outcome_seq": self._seq}
                row |= self._scores(event.standing)
                self.evaluated += 1
        if self._expect(event.birth, OPEN).state != "queued":
            self.timed.add(event.birth)  # something of it was trained
        self._move(event.birth, row)
        if isinstance(event, CandidateEvaluated):
            self._standing(event.standing)

    def _move(self, birth: int, row: Row) -> None:
        was = self._expect(birth, OPEN)
        if birth in self.candidates:
            self.candidates[birth] |= row
        else:
            stored = self.moves.pop(birth, {"was": was.state})["was"]
            self.outcomes[birth] = row | {"was": stored, "attempts": was.attempts}
        self._tally_move(birth, was, row["state"])

    def _go_on(self, birth: int, state: str, attempts: int | None = None) -> None:
        """Moves a candidate that still waits for its outcome."""
        was = self._expect(birth, OPEN)
        row: Row = {"state": state, "attempts": attempts or was.attempts}
        if birth in self.candidates:
            self.candidates[birth] |= row
        else:
            self.moves.setdefault(birth, {"was": was.state}).update(row)
        self._tally_move(birth, was, state, row["attempts"])

    def _tally_move(
        self, birth: int, was: KnownCandidate, state: str, attempts: int | None = None
    ) -> None:
        self.now[birth] = KnownCandidate(state, attempts=attempts or was.attempts)
        self._tally("state", was.state, -1)
        self._tally("state", state, 1)

    def _checks(self, birth: int, checks: Sequence[CheckRun]) -> None:
        # Several events may tell checks of one candidate: the event's place keeps them in order.
        for position, run in enumerate(checks, self._seq * 100):
            verdict = run.rejection
            stage = f"audit:{run.check}" if run.audited else run.check
            self._tally(stage, verdict.code if verdict else "", 1, run.seconds, run.steps)
            self.check_runs.append({
                "birth": birth, "position": position, "check_name": run.check,
                "anchor": run.anchor, "code": clean(verdict.code) if verdict else None,
                "detail": clean(verdict.detail) if verdict else "", "seconds": run.seconds,
                "steps": run.steps, "findings": dumps(plain(run.findings)),
                "audited": run.audited,
            })  # fmt: skip

    def _scores(self, standing: Standing) -> Row:
        if not standing.scores:
            raise self._conflict("no scores", "a score for each anchor", "none")
        self._finite("standing", standing.hypervolume, *standing.scores.values())
        values = [one for name, one in standing.scores.items() if SEPARATOR not in name]
        return {
            "scores": dumps(standing.scores), "seeds": standing.seeds,
            "mean_score": math.fsum(values) / len(values),
        }  # fmt: skip

    def _standing(self, standing: Standing) -> None:
        """Moves births in and out of the front; the hypervolume is that after the event."""
        for births, now in ((standing.front_out, False), (standing.front_in, True)):
            for birth in births:
                known = self._expect(birth, ("evaluated",))
                if known.on_front == now:
                    place = "on" if now else "off"
                    raise self._conflict(
                        f"candidate {birth} is {place} the front already",
                        "a change of the front", "none",
                    )  # fmt: skip
                self._flip(birth, now)
        self.search["hypervolume"] = standing.hypervolume

    def _flip(self, birth: int, now: bool) -> None:
        self.now[birth] = KnownCandidate("evaluated", now)
        if birth in self.candidates:
            self.candidates[birth]["on_front"] = now
        elif self.flips.get(birth) == (not now):
            del self.flips[birth]
        else:
            self.flips[birth] = now

    def _subject(self, subject: Subject) -> str:
        if (subject.birth is None) == (subject.baseline is None):
            raise self._conflict(
                "bad subject", "a birth or a baseline's name, never both",
                "none" if subject.birth is None else "both",
            )  # fmt: skip
        return subject.key

    def _job(self, job_id: str) -> KnownJob | None:
        return self.jobs_now.get(job_id) or self._known_jobs.get(job_id)

    def _expect_job(self, job_id: str, job: KnownJob, purpose: str, subject: str) -> None:
        if job.state not in JOB_OPEN:
            raise self._conflict(
                f"job {job_id} is in the wrong state", " or ".join(JOB_OPEN), job.state
            )
        if (job.purpose, job.subject) != (purpose, subject):
            raise self._conflict(
                f"job {job_id} is another's", f"{job.purpose} of {job.subject}",
                f"{purpose} of {subject}",
            )  # fmt: skip

    def _job_queued(self, event: JobQueued) -> None:
        subject = self._subject(event.subject)
        if self._job(event.id) is not None:
            raise self._conflict("a job id stands for one job", "a new id", event.id)
        if event.subject.birth is not None:
            self._expect(event.subject.birth, ("evaluated",))
        self.jobs[event.id] = {
            "id": event.id, "purpose": event.purpose, "birth": event.subject.birth,
            "baseline": event.subject.baseline, "queued_at": self._at,
            "runs": dumps([run.model_dump(mode="json") for run in event.runs]), **open_job(),
        }  # fmt: skip
        self.jobs_now[event.id] = KnownJob("queued", event.purpose, subject)

    def _job_lost(self, event: JobLost) -> None:
        job = self._job(event.id)
        if job is None:
            birth = _first_of(event.id)
            if birth is None:
                raise self._conflict("unknown job", "a queued job", event.id)
            self._go_on(birth, "lost", event.attempt + 1)
            return
        self._expect_job(event.id, job, job.purpose, job.subject)
        self._change_job(event.id, job, open_job(event.attempt + 1))

    def _job_finished(self, event: JobFinished) -> None:
        subject, job = self._subject(event.subject), self._job(event.id)
        if job is None:
            raise self._conflict("unknown job", "a queued job", event.id)
        self._expect_job(event.id, job, event.purpose, subject)
        self._finite("seconds", event.seconds)
        state = "finished" if event.failure is None else "failed"
        row = open_job(job.attempt) | {
            "state": state, "finished_at": self._at, "worker": clean(event.worker),
            "seconds": event.seconds,
        }  # fmt: skip
        if event.failure is not None:
            row |= failure_row(event.failure)
        self._change_job(event.id, job, row)
        if event.standing is None:
            return
        birth = event.subject.birth
        if birth is None:
            raise self._conflict("a baseline has no standing", "a candidate", subject)
        self._expect(birth, ("evaluated",))
        self.timed.add(birth)
        scores = self._scores(event.standing)
        if birth in self.candidates:
            self.candidates[birth] |= scores
        elif birth in self.outcomes:
            self.outcomes[birth] |= scores
        else:
            self.scores[birth] = scores
        self._standing(event.standing)

    def _change_job(self, job_id: str, job: KnownJob, row: Row) -> None:
        if job_id in self.jobs:
            self.jobs[job_id] |= row
        else:
            self.job_changes.setdefault(job_id, {"was": job.state}).update(row)
        self.jobs_now[job_id] = job._replace(state=row["state"], attempt=row["attempt"])
