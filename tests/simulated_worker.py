"""What simulated workers answer in tests: verdicts and scores drawn from the layer's digest."""

from __future__ import annotations

import random

from evosearch.records import CheckRun, Evaluation, EvaluationDone, Job, JobDone, Message, Rejection
from primitives.digest import digest


def answer(job: Job) -> tuple[float, list[Message]]:
    """Seconds and messages of a worker; the same job always gets the same answer."""
    layer = digest(job.graph) if job.graph is not None else str(job.subject.baseline)
    rng = random.Random(layer)
    fate, quality = rng.random(), rng.random()
    if job.checks is not None and fate < 0.7:
        rejected = Rejection(code="signal", detail="loss on resnet")
        check = CheckRun(check="signal", anchor="resnet", seconds=0.01, rejection=rejected)
        audit = (fate < 0.02) if job.audit else None
        return 0.01, [
            JobDone(job_id=job.id, checks=(check,), rejection=rejected, audit_passed=audit)
        ]
    messages: list[Message] = []
    hurdles = job.checks.hurdles.steps if job.checks is not None else ()
    early = round(0.3 + 0.3 * quality, 3)
    if any(early < least.get(40, 0.0) for least in job.hurdles.values()) and 40 in hurdles:
        rejected = Rejection(code="hurdle", detail=f"score {early} after 40 steps")
        found = {"score": early, "step": 40.0}
        check = CheckRun(
            check="training", anchor="resnet", seconds=0.1, findings=found, rejection=rejected
        )
        return 0.1, [JobDone(job_id=job.id, checks=(check,), rejection=rejected)]
    for run in job.runs:
        noise = random.Random(f"{layer}/{run}").random()
        score, correct = 0.5 + 0.3 * quality + 0.1 * noise, ""
        if run.split == "final":
            rights = [
                min(4, int(5 * score + random.Random(f"{run}/{image}").random() - 0.5))
                for image in range(30)
            ]
            correct = "".join(str(count) for count in rights)
            score = sum(rights) / 120
        evaluation = Evaluation(
            anchor=run.anchor,
            seed=run.seed,
            learning_rate=run.learning_rate,
            split=run.split,
            score=score,
            steps=job.task.steps,
            seconds=1.0,
            correct=correct,
            milestones=dict.fromkeys(hurdles, early),
        )
        messages.append(EvaluationDone(job_id=job.id, evaluation=evaluation))
    if job.checks is not None and job.checks.signal.enabled:
        checks = (
            CheckRun(check="signal", seconds=0.01),
            *(
                CheckRun(check="quality", anchor=run.anchor, seconds=0.1, steps=40)
                for run in job.runs
            ),
        )
        messages[0] = messages[0].model_copy(update={"checks": checks})
    return 1.0 + noise, [*messages, JobDone(job_id=job.id)]
