"""What simulated workers answer in tests: verdicts and scores drawn from the layer's digest."""

from __future__ import annotations

import random

from evosearch.records import CheckRun, Evaluation, EvaluationDone, Job, JobDone, Message, Rejection
from evosearch.streams import below
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
    for run in job.runs:
        noise = random.Random(f"{layer}/{run}").random()
        correct = "".join(str(below(random.Random(f"{layer}/{run}/{i}"), 5)) for i in range(30))
        evaluation = Evaluation(
            anchor=run.anchor,
            seed=run.seed,
            learning_rate=run.learning_rate,
            split=run.split,
            score=0.5 + 0.3 * quality + 0.1 * noise,
            steps=job.task.steps,
            seconds=1.0,
            correct=correct if run.split == "final" else "",
        )
        messages.append(EvaluationDone(job_id=job.id, evaluation=evaluation))
    if job.checks is not None:
        checks = (
            CheckRun(check="signal", seconds=0.01),
            CheckRun(check="quality", anchor="resnet", seconds=0.3, steps=40),
        )
        messages[0] = messages[0].model_copy(update={"checks": checks})
    return 1.0 + noise, [*messages, JobDone(job_id=job.id)]
