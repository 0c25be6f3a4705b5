"""The evaluation cache: hit by what decides a score, missed by anything else."""

from __future__ import annotations

import pytest

from evosearch.config import Anchor, Checks, Task
from evosearch.records import Evaluation, EvaluationDone, Job, JobDone, Run, Subject
from primitives.formula import parse
from workers import cache as caching
from workers.cache import CachedPool, EvaluationCache, key_of


def job(formula="x / rms_batch(x)", job_id="j", **changed):
    settings = {
        "id": job_id,
        "purpose": "confirm",
        "subject": Subject(birth=1),
        "graph": parse(formula),
        "runs": tuple(Run(anchor="resnet", seed=seed, learning_rate=0.2) for seed in range(2)),
        "task": Task(anchors=(Anchor(name="resnet"), Anchor(name="mobilenetv2"))),
        **changed,
    }
    return Job(**settings)


def evaluation(run, score=0.5):
    return Evaluation(**run.model_dump(), score=score, steps=9, seconds=1.0, curve=((9, 0.1),))


class Trainer:
    """A pool that trains at once, and counts."""

    capacity = 3

    def __init__(self):
        self.messages, self.trained, self.cancelled = [], [], []

    def submit(self, work):
        for run in work.runs:
            self.trained.append((work.id, run.seed))
            self.messages.append(EvaluationDone(job_id=work.id, evaluation=evaluation(run)))
        self.messages.append(JobDone(job_id=work.id))

    def poll(self, timeout):
        messages, self.messages = self.messages, []
        return messages

    def cancel(self, job_id):
        self.cancelled.append(job_id)

    def close(self):
        self.messages = []


def test_a_second_search_trains_nothing_again(tmp_path):
    first = CachedPool(Trainer(), EvaluationCache(tmp_path))
    first.submit(job())
    told = first.poll(0.0)
    trainer = Trainer()
    second = CachedPool(trainer, EvaluationCache(tmp_path))
    second.submit(job(job_id="other", subject=Subject(birth=77)))
    again = second.poll(0.0)
    assert trainer.trained == []
    assert second.saved == 2
    assert [m.evaluation for m in again[:-1]] == [m.evaluation for m in told[:-1]]
    assert {m.job_id for m in again} == {"other"}
    assert isinstance(again[-1], JobDone)


def test_only_the_unknown_runs_of_a_job_are_trained(tmp_path):
    trainer = Trainer()
    pool = CachedPool(trainer, EvaluationCache(tmp_path))
    pool.submit(job())
    pool.poll(0.0)
    more = tuple(Run(anchor="resnet", seed=seed, learning_rate=0.2) for seed in range(4))
    pool.submit(job(runs=more, job_id="k"))
    messages = pool.poll(0.0)
    assert trainer.trained == [("j", 0), ("j", 1), ("k", 2), ("k", 3)]
    assert sorted(m.evaluation.seed for m in messages[:-1]) == [0, 1, 2, 3]
    assert sum(isinstance(m, JobDone) for m in messages) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"formula": "x / rms_instance(x)"},
        {"task": Task(anchors=(Anchor(name="resnet", width=12),))},
        {"task": Task(anchors=(Anchor(name="resnet"),), steps=99)},
        {"task": Task(anchors=(Anchor(name="resnet"),), dataset="mnist")},
        {"graph": None, "subject": Subject(baseline="bn-relu")},
        {"checks": Checks()},
    ],
)
def test_whatever_decides_a_score_is_in_the_key(changed):
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    assert key_of(job(**changed), run) != key_of(job(), run)


def test_seed_rate_split_and_code_are_in_the_key(monkeypatch):
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    others = [{"seed": 1}, {"learning_rate": 0.1}, {"split": "final"}, {"anchor": "mobilenetv2"}]
    keys = {key_of(job(), run.model_copy(update=other)) for other in others} | {key_of(job(), run)}
    assert len(keys) == 5
    monkeypatch.setattr(caching, "code_version", lambda: "newer")
    assert key_of(job(), run) not in keys


def test_what_does_not_decide_a_score_is_not_in_the_key():
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    same = Task(anchors=(Anchor(name="resnet", reference=0.7),))
    assert key_of(job(task=same, job_id="k", purpose="tune"), run) == key_of(job(), run)


def test_a_broken_file_is_trained_again(tmp_path):
    kept = EvaluationCache(tmp_path)
    work = job()
    kept.put(work, evaluation(work.runs[0]))
    assert kept.get(work, work.runs[0]) is not None
    assert kept.get(work, work.runs[1]) is None
    next(tmp_path.rglob("*.json")).write_text('{"anchor": ')
    assert kept.get(work, work.runs[0]) is None


def test_a_cancelled_job_says_nothing_more(tmp_path):
    pool = CachedPool(Trainer(), EvaluationCache(tmp_path))
    pool.submit(job())
    pool.poll(0.0)
    pool.submit(job(job_id="k"))
    pool.cancel("k")
    assert pool.poll(0.0) == []
