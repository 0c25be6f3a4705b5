"""A preempted training goes on where it was; a broken file costs its steps and nothing else."""

from __future__ import annotations

import pytest

from evosearch.config import Anchor, Task
from evosearch.records import EvaluationDone, Job, Run, Subject
from workers.evaluate import Context, _failure, run_job
from workers.training import Training


def job(attempt=1, optimizer=None):
    return Job(
        id="j",
        purpose="baseline",
        subject=Subject(baseline="bn-relu"),
        graph=None,
        runs=(Run(anchor="resnet", seed=0, learning_rate=0.1),),
        task=Task(anchors=(Anchor(name="resnet", optimizer=optimizer),), steps=20, batch_size=32),
        attempt=attempt,
    )


def finished(work, context):
    messages = list(run_job(work, context))
    return next((m for m in messages if isinstance(m, EvaluationDone)), None), messages[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_ends_like_a_whole_one(tmp_path, monkeypatch, optimizer):
    whole, _ = finished(job(optimizer=optimizer), Context(device="cpu"))
    context = Context(device="cpu", checkpoints=tmp_path)
    train_one = Training._train_one

    def told_to_go(training):
        train_one(training)
        context.preempted = training.step == 7

    monkeypatch.setattr(Training, "_train_one", told_to_go)
    evaluation, done = finished(job(optimizer=optimizer), context)
    assert evaluation is None
    assert done.failure.cause == "died"
    assert "step 7" in done.failure.detail
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(Training, "_train_one", train_one)
    again = Context(device="cpu", checkpoints=tmp_path)
    resumed, done = finished(job(attempt=2, optimizer=optimizer), again)
    assert done.failure is None
    assert sum(check.steps for check in resumed.checks) == 13
    assert (resumed.evaluation.score, resumed.evaluation.curve) == (
        whole.evaluation.score,
        whole.evaluation.curve,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_broken_checkpoint_is_trained_anew(tmp_path, monkeypatch):
    context = Context(device="cpu", checkpoints=tmp_path, preempted=True)
    finished(job(), context)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:300])
    evaluation, _ = finished(job(attempt=2), Context(device="cpu", checkpoints=tmp_path))
    assert sum(check.steps for check in evaluation.checks) == 20


def test_causes_are_told_apart():
    full = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert _failure(full).cause == "out_of_memory"
    assert _failure(MemoryError("no")).cause == "out_of_memory"
    assert _failure(RuntimeError("shapes differ")).cause == "error"
