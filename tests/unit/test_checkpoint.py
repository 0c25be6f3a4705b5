"""A preempted training goes on where it was; a broken file costs its steps and nothing else."""

from __future__ import annotations

import pytest
import torch

from evosearch.config import Anchor, Checks, Hurdles, Quality, Signal, Stability, Task
from evosearch.records import EvaluationDone, Job, Run, Subject
from workers.evaluate import Context, run_job
from workers.failures import failure_of
from workers.inline import InlinePool
from workers.training import Training

CHECKS = Checks(
    signal=Signal(), quality=Quality(steps=5, accuracy=0.0), stability=Stability(enabled=False),
    hurdles=Hurdles(steps=(10,)),
)  # fmt: skip


def job(attempt=1, optimizer=None, **changed):
    anchors = (Anchor(name="resnet", optimizer=optimizer),)
    settings = {
        "id": "j",
        "purpose": "baseline",
        "subject": Subject(baseline="bn-relu"),
        "graph": None,
        "runs": (Run(anchor="resnet", seed=0, learning_rate=0.1),),
        "task": Task(anchors=anchors, steps=20, batch_size=32),
        "attempt": attempt,
    }
    return Job(**settings | changed)


@pytest.fixture
def told_to_go(monkeypatch):
    """Has workers told to go after that step of any training; None: no more."""
    train_one, at = Training._train_one, {}

    def one_step(training):
        train_one(training)
        if training.step == at.get("step"):
            setattr(at["context"], at["word"], True)

    monkeypatch.setattr(Training, "_train_one", one_step)

    def tell(step, context=None, word="preempted"):
        at.update(step=step, context=context, word=word)

    return tell


def finished(work, context):
    messages = list(run_job(work, context))
    return next((m for m in messages if isinstance(m, EvaluationDone)), None), messages[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_ends_like_a_whole_one(tmp_path, told_to_go, optimizer):
    whole, _ = finished(job(optimizer=optimizer), Context(device="cpu"))
    context = Context(device="cpu", checkpoints=tmp_path)
    told_to_go(7, context)
    evaluation, done = finished(job(optimizer=optimizer), context)
    assert evaluation is None
    assert done.failure.cause == "preempted"
    assert "step 7" in done.failure.detail
    assert len(list(tmp_path.iterdir())) == 1
    told_to_go(None)
    again = Context(device="cpu", checkpoints=tmp_path)
    resumed, done = finished(job(attempt=2, optimizer=optimizer), again)
    assert done.failure is None
    assert sum(check.steps for check in resumed.checks) == 13
    assert (resumed.evaluation.score, resumed.evaluation.curve) == (
        whole.evaluation.score,
        whole.evaluation.curve,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [3, 14])
def test_checks_of_a_retry_see_the_first_steps_and_the_training_goes_on(tmp_path, told_to_go, step):
    asked = {"purpose": "search", "checks": CHECKS}
    whole, _ = finished(job(**asked), Context(device="cpu"))
    context = Context(device="cpu", checkpoints=tmp_path)
    told_to_go(step, context)
    assert finished(job(**asked), context)[0] is None
    told_to_go(None)
    resumed, _ = finished(job(attempt=2, **asked), Context(device="cpu", checkpoints=tmp_path))
    assert [c.findings for c in resumed.checks] == [c.findings for c in whole.checks]
    assert resumed.evaluation.milestones == whole.evaluation.milestones
    assert resumed.evaluation.score == whole.evaluation.score
    # What came before the last hurdle is done again for the checks.
    assert sum(c.steps for c in resumed.checks) == 10 + (20 - max(step, 10))


def test_a_service_that_was_stopped_goes_on_where_its_worker_was(tmp_path, told_to_go):
    """It asks for the job again as for a new one; the inline pool keeps trainings as Ray's does."""
    told_to_go(7, context := Context(device="cpu", checkpoints=tmp_path))
    pool = InlinePool(context)
    pool.submit(job())
    assert pool.poll(0.0) == []
    pool.close()
    told_to_go(None)
    resumed, done = finished(job(), Context(device="cpu", checkpoints=tmp_path))
    assert done.failure is None
    assert sum(check.steps for check in resumed.checks) == 13


def test_a_worker_that_must_go_begins_nothing(tmp_path):
    context = Context(device="cpu", checkpoints=tmp_path, preempted=True)
    evaluation, done = finished(job(), context)
    assert (evaluation, done.failure.cause) == (None, "preempted")
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_job_ends_at_its_next_step_and_keeps_nothing(tmp_path, told_to_go):
    context = Context(device="cpu", checkpoints=tmp_path)
    told_to_go(7, context, "cancelled")
    evaluation, done = finished(job(), context)
    assert evaluation is None
    assert "step 7" in done.failure.detail
    assert list(tmp_path.iterdir()) == []


def test_every_step_is_a_sign_of_life():
    context = Context(device="cpu")
    finished(job(), context)
    assert context.beats > 20


def test_the_time_of_one_anchor_does_not_run_while_another_trains():
    clock = iter(range(10**6))  # a second for each look at it
    anchors = ("resnet", "mobilenetv2", "efficientnet")
    task = Task(anchors=tuple(Anchor(name=a) for a in anchors), steps=20, batch_size=32,
                evaluation_seconds=60.0)  # fmt: skip
    runs = tuple(Run(anchor=a, seed=0, learning_rate=0.1) for a in anchors)
    asked = {"purpose": "search", "checks": CHECKS, "task": task, "runs": runs}
    messages = list(run_job(job(**asked), Context(device="cpu", clock=lambda: next(clock))))
    assert messages[-1].rejection is None
    assert len(messages) == 4
    short = asked | {"task": task.model_copy(update={"evaluation_seconds": 15.0})}
    done = list(run_job(job(**short), Context(device="cpu", clock=lambda: next(clock))))[-1]
    assert done.rejection.code == "too_slow"


def test_a_broken_checkpoint_is_trained_anew(tmp_path, told_to_go):
    context = Context(device="cpu", checkpoints=tmp_path)
    told_to_go(7, context)
    finished(job(), context)
    told_to_go(None)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:300])
    evaluation, _ = finished(job(attempt=2), Context(device="cpu", checkpoints=tmp_path))
    assert sum(check.steps for check in evaluation.checks) == 20


def test_causes_are_told_apart():
    full = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert failure_of(full).cause == "out_of_memory"
    assert failure_of(MemoryError("no")).cause == "out_of_memory"
    assert failure_of(RuntimeError("shapes differ")).cause == "error"
    broken = "CUDA error: device-side assert triggered"
    assert failure_of(torch.AcceleratorError(broken)).cause == "died"
