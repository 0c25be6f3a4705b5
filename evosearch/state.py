"""The state of a search: a fold of its events, and nothing besides.

`State.apply` is the only place where it changes. It decides nothing: what to try, keep or reject
is decided by `evosearch.propose`, `evosearch.observe` and `evosearch.confirm`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from evosearch import events as ev
from evosearch.errors import StateConflict
from evosearch.jobs import Pending, first_job, fronts, hurdles
from evosearch.known import Known
from evosearch.members import Member
from evosearch.objectives import SEPARATOR
from evosearch.odds import Trial
from evosearch.records import CheckRun, Job, Purpose
from evosearch.signal import learn
from evosearch.surrogate import DELAYED, Waiting, features_of, lesson_of
from primitives.ops import typed_name
from primitives.rewrite import live_form

MAX_EXAMPLES = 100
TRAINED = ("quality", "training")
"""Checks that train a candidate."""
SCORED: frozenset[Purpose] = frozenset({"search", "remeasure", "confirm"})
"""Purposes whose evaluations count for a candidate's score on ``select``."""


class State(Known):
    """Everything that a controller knows of its search, and how events change it."""

    def apply(self, event: ev.Event) -> None:
        """Fold one event into the state.

        Raises:
            StateConflict: the event does not fit, for instance an outcome of an unknown job.
        """
        handler = getattr(self, f"_on_{event.kind}", None)
        if handler is None:
            raise StateConflict("the log begins twice", got=event.kind)
        handler(event)
        self.seq += 1

    def follow(self, entry: ev.StoredEvent) -> None:
        """Fold the next event of the log.

        Raises:
            StateConflict: it is not the next one, or it does not fit.
        """
        if entry.seq != self.seq + 1:
            raise StateConflict(
                "the log has a gap", expected=f"event {self.seq + 1}", got=str(entry.seq)
            )
        self.apply(entry.event)

    def _on_candidate_duplicate(self, event: ev.CandidateDuplicate) -> None:
        self.digests[event.digest] = event.of
        self.next_birth = event.birth + 1
        self.duplicates += 1
        self._repeat(event.of, 1)

    def _on_candidate_queued(self, event: ev.CandidateQueued) -> None:
        self.digests[event.digest] = event.birth
        self.fingerprints[event.fingerprint] = event.birth
        if event.start:
            self.starts[event.start] += 1
            if self.starts[event.start] >= self.config.evolution.same_start:
                self.full_starts.add(event.start)
        self.next_birth = event.birth + 1 + event.skipped.after
        self.members[event.birth] = Member(
            event.birth, event.graph, event.origin, event.operator, event.parents, event.audit,
            event.skipped.odds, event.skipped.by_lot,
        )  # fmt: skip
        skipped = event.skipped
        new = {self.members[event.birth].label: 1} if skipped.new is None else skipped.new
        for label, count in new.items():
            self.operators[label].new += count
        self._queue(first_job(self, event))
        for code, count in skipped.counts.items():
            self.funnel[code].count += count
        for code, seconds in skipped.seconds.items():
            self.funnel[code].seconds += seconds
        for label, count in skipped.origins.items():
            self.operators[label].proposals += count
        for of, count in skipped.repeats.items():
            self._repeat(of, count)
        self.examples.update(code for _, code, _ in skipped.examples)
        self.choice.tell(event.graph, skipped)

    def _on_enqueued_refused(self, event: ev.EnqueuedRefused) -> None:
        self.next_birth = event.birth + 1

    def _on_job_queued(self, event: ev.JobQueued) -> None:
        birth = event.subject.birth
        graph = self.members[birth].graph if birth is not None else None
        self._queue(
            Job(
                id=event.id,
                purpose=event.purpose,
                subject=event.subject,
                graph=graph,
                runs=event.runs,
                task=self.config.task,
            )
        )
        if event.purpose == "remeasure" and birth is not None:
            self.members[birth].measured += 1
            self._repeat(birth, 0)
            self.remeasured += 1

    def _on_job_lost(self, event: ev.JobLost) -> None:
        self.pending[event.id] = self._job(event.id).again(event.failure)
        self.failures[event.failure.cause] += 1

    def _on_evaluation_recorded(self, event: ev.EvaluationRecorded) -> None:
        job, done = self._job(event.job_id), event.evaluation
        left = tuple(
            run
            for run in job.runs
            if (run.anchor, run.seed, run.learning_rate, run.split)
            != (done.anchor, done.seed, done.learning_rate, done.split)
        )
        if len(left) != len(job.runs) - 1:
            raise StateConflict("an evaluation that was not asked for", got=event.job_id)
        # A job with finished runs has passed its checks: they are not made again after a restart.
        # Hurdles are: the trainings that are left begin anew, and tell their milestones again.
        checks = self._hurdles_alone if job.checks is not None else None
        reached = {**job.reached, done.anchor: done.milestones} if job.fronts else job.reached
        self.pending[event.job_id] = job.model_copy(
            update={"runs": left, "checks": checks, "reached": reached}
        )
        birth = event.subject.birth
        if birth is not None and event.purpose in SCORED:
            self.members[birth].scores[done.anchor].append(done.score)
            for name, score in done.more.items():
                self.members[birth].scores[f"{done.anchor}{SEPARATOR}{name}"].append(score)
        if event.purpose != "search":
            self.results[event.subject.key].append((event.purpose, done))
        self.train_steps[event.purpose] += done.steps
        if event.purpose == "search" and birth is not None:
            tried = {run.anchor: run.steps for run in event.checks if run.check == "quality"}
            begun = self.begun.setdefault(birth, tried)
            begun.pop(done.anchor, None)
            if birth in self.waiting:
                self.waiting[birth].begun = True
            self._learn(event)
            self._count_checks(event.checks)
            for step, score in done.milestones.items():
                self._reach(event.subject.birth, done.anchor, step, score)

    def _on_candidate_waiting(self, event: ev.CandidateWaiting) -> None:
        job_id = f"c{event.birth}"
        fresh = {
            "attempt": 1, "preempted": 0, "hurdles": hurdles(self), "fronts": fronts(self),
        }  # fmt: skip
        self.pending[job_id] = self._job(job_id).model_copy(
            update={"signal_only": False, "checks": self._without_signal, **fresh}
        )
        self.waiting[event.birth] = Waiting(
            number=self.waits,
            checks=event.checks,
            features=features_of(self, event.birth, event.checks),
            promise=event.promise,
            below=event.below,
            seconds=event.seconds,
        )
        self.waits += 1
        self._count_checks(event.checks)

    def _on_candidate_rejected(self, event: ev.CandidateRejected) -> None:
        self._drop(f"c{event.birth}")
        self._learn(event)
        self._wait_ended(event.birth, event.rejection.code)
        member = self.members.pop(event.birth)
        if event.rejection.code not in DELAYED:
            self._decided(Trial(member.graph, None, member.odds, member.by_lot))
        self.rejected[event.rejection.code] += 1
        if any(run.check in TRAINED and not run.audited for run in event.checks):
            self.tried.append((event.birth, member.graph))
        # Of an evaluated candidate, quality's steps are the first ones of its training.
        self._given_up(event.birth)
        for run in event.checks:
            self.train_steps["audit" if run.audited else "quality"] += run.steps
            if run.check == "training" and "step" in run.findings:
                found = run.findings
                self._reach(event.birth, run.anchor, int(found["step"]), found["score"])
        self._count_checks(event.checks)
        if event.audit_passed is not None:
            self.audit.audited += 1
            self.audit.wrongly_rejected += event.audit_passed

    def _on_candidate_failed(self, event: ev.CandidateFailed) -> None:
        self._drop(f"c{event.birth}")
        del self.members[event.birth]
        self.waiting.pop(event.birth, None)
        self._given_up(event.birth)
        self.rejected["quarantined" if event.quarantined else "failed"] += 1
        self.failures[event.failure.cause] += 1

    def _on_candidate_evaluated(self, event: ev.CandidateEvaluated) -> None:
        self._drop(f"c{event.birth}")
        member = self.members[event.birth]
        member.evaluated, member.measured = True, 1
        self.begun.pop(event.birth, None)
        self.operators[member.label].evaluated += 1
        self._wait_ended(event.birth, "", event.standing)
        self.population.append(event.birth)
        self.tried.append((event.birth, member.graph))
        self.evaluated += 1
        self._count_checks(event.checks)
        if event.standing.hypervolume > self.hypervolume:
            self.gained_at = self.evaluated
        self._stand(event.birth, event.standing)
        mean = self.mean_score(event.birth)
        self._decided(Trial(member.graph, mean, member.odds, member.by_lot))
        self._restart()

    def _on_job_finished(self, event: ev.JobFinished) -> None:
        self._drop(event.id)
        if event.failure is not None:
            self.failures[event.failure.cause] += 1
        if event.standing is not None and event.subject.birth is not None:
            self._stand(event.subject.birth, event.standing)
            self._confirm(event.subject.birth)

    def _on_phase_entered(self, event: ev.PhaseEntered) -> None:
        self.phase, self.chosen = event.phase, event.chosen or self.chosen
        if event.note:
            self.notes.append(event.note)

    def _on_status_changed(self, event: ev.StatusChanged) -> None:
        self.status = event.status

    def _on_budget_changed(self, event: ev.BudgetChanged) -> None:
        if event.evaluations is not None:
            self.target = event.evaluations
        self.limits = {**self.limits, **event.limits}
        if event.reason:
            self.notes.append(event.reason)

    def _on_code_changed(self, event: ev.CodeChanged) -> None:
        self.config = event.config
        new = {"task": event.config.task}
        self.pending = Pending({k: job.model_copy(update=new) for k, job in self.pending.items()})
        self.notes.append(event.reason)

    def _on_bounds_learnt(self, event: ev.BoundsLearnt) -> None:
        self.bounds = event.bounds

    def _on_reported(self, event: ev.Reported) -> None:
        self.report = event.report

    # -- parts -------------------------------------------------------------------------------

    def _queue(self, job: Job) -> None:
        if job.id in self.job_ids:
            raise StateConflict("a job is queued twice", got=job.id)
        self.job_ids.add(job.id)
        self.pending[job.id] = job

    def _job(self, job_id: str) -> Job:
        try:
            return self.pending[job_id]
        except LookupError as err:
            raise StateConflict("an outcome of a job that is not pending", got=job_id) from err

    def _drop(self, job_id: str) -> None:
        self._job(job_id)
        del self.pending[job_id]

    def _given_up(self, birth: int) -> None:
        """Quality's steps count where no whole training of the anchor holds them."""
        self.train_steps["quality"] += sum(self.begun.pop(birth, {}).values())

    def _learn(self, event: ev.EvaluationRecorded | ev.CandidateRejected) -> None:
        if self.config.checks.signal.learn:
            self.learnt = learn(self.learnt, self.told(event))

    def _wait_ended(self, birth: int, code: str, standing: ev.Standing | None = None) -> None:
        """What the surrogate learns from the end of a candidate that it had foretold."""
        one = self.waiting.pop(birth, None)
        if one is None:
            return
        if code in DELAYED:
            self.discards.discarded += code == "unpromising"
            return
        lesson = lesson_of(self, one, standing)
        self.lessons.append(lesson)
        self.taught += 1
        if one.below:
            self.discards.audited += 1
            self.discards.useful += lesson.useful
        else:
            self.discards.passed += lesson.useful

    def _decided(self, trial: Trial) -> None:
        self.choice.decide(trial)
        if self.config.evolution.primitive_floor < 1.0:
            for name in {typed_name(node.op, node.over) for node in live_form(trial.graph).nodes}:
                counts = self.primitives.setdefault(name, [0, 0])
                counts[0] += 1
                counts[1] += trial.mean is not None

    def _restart(self) -> None:
        after = self.config.evolution.restart_after
        if after and self.evaluated - self.gained_at >= after:
            self.begun_at = self.gained_at = self.evaluated
            self.choice.runners_up.clear()

    def _repeat(self, birth: int, count: int) -> None:
        member = self.members.get(birth)
        every = self.config.evolution.remeasure_every
        if member is None or not member.evaluated:
            return
        member.repeats += count
        if every and member.repeats >= every * member.measured:
            self.popular.add(birth)
        else:
            self.popular.discard(birth)

    def _reach(self, birth: int | None, anchor: str, step: int, score: float) -> None:
        """A candidate's score at a hurdle. Those that fail it count too, or it would only rise."""
        if birth is not None and self.config.checks.hurdles.spare_front:
            self.early.setdefault(birth, {}).setdefault(step, {})[anchor] = score
            if len(self.early) > (self.population.maxlen or 1):
                del self.early[next(iter(self.early))]
        by_step = self.milestones.setdefault(anchor, {})
        by_step.setdefault(step, deque(maxlen=self.population.maxlen)).append(score)

    def _count_checks(self, checks: tuple[CheckRun, ...]) -> None:
        passed = {run.check for run in checks if not run.audited} - {
            run.check for run in checks if run.rejection is not None
        }
        # A hurdle may end a candidate before quality was seen on every anchor: not counted.
        quality = sum(run.check == "quality" and not run.audited for run in checks)
        complete = quality == len(self.config.task.anchors)
        self.audit.passed_quality += "quality" in passed and complete
        for run in checks:
            tally = self.checks[run.check]
            tally.count += 1
            tally.seconds += run.seconds

    def _confirm(self, birth: int) -> None:
        """A fresh seed counts; the one that selected the candidate flatters it."""
        mean = self.fresh_mean(birth)
        if mean is not None and (self.confirmed is None or mean > self.confirmed):
            self.confirmed, self.confirmed_at = mean, self.evaluated

    def _stand(self, birth: int, standing: ev.Standing) -> None:
        point = self.objectives(standing.scores)
        self.front.apply(birth, point, standing.front_in, standing.front_out)
        self.hypervolume = standing.hypervolume
        self._leading = None


def recover(stored: Iterable[ev.StoredEvent]) -> State:
    """The state that the events of a search fold to.

    Raises:
        StateConflict: the log does not begin with `Created`, has a gap, or contradicts itself.
    """
    log = iter(stored)
    first = next(log, None)
    if first is None or not isinstance(first.event, ev.Created):
        raise StateConflict("the log does not begin with the search's creation")
    state = State(first.event)
    for entry in log:
        state.follow(entry)
    return state
