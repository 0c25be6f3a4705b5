"""The evaluation cache: hit by what decides a score, missed by anything else."""

from __future__ import annotations

import os

import numpy as np
import pytest

from api.wiring import make_pool
from evosearch.config import Anchor, Bounds, Checks, Stability, Task
from evosearch.records import CheckRun, Evaluation, EvaluationDone, Job, JobDone, Run, Subject
from primitives.formula import parse
from workers import cache as caching
from workers.cache import CachedPool, EvaluationCache, key_of
from workers.evaluate import Context


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


def told(work, run, checks=()):
    return EvaluationDone(job_id=work.id, evaluation=evaluation(run), checks=checks)


class Trainer:
    """A pool that trains at once, and counts."""

    capacity = 3

    def __init__(self):
        self.messages, self.trained, self.cancelled = [], [], []

    def submit(self, work):
        for run in work.runs:
            self.trained.append((work.id, run.seed))
            self.messages.append(told(work, run))
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
    before = first.poll(0.0)
    trainer = Trainer()
    second = CachedPool(trainer, EvaluationCache(tmp_path))
    second.submit(job(job_id="other", subject=Subject(birth=77)))
    again = second.poll(0.0)
    assert trainer.trained == []
    assert second.saved == 2
    assert [m.evaluation for m in again[:-1]] == [m.evaluation for m in before[:-1]]
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


def test_the_device_is_in_the_key(tmp_path):
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    assert key_of(job(), run, "cuda") != key_of(job(), run)
    work = job()
    EvaluationCache(tmp_path, "cuda").put(work, told(work, work.runs[0]))
    assert EvaluationCache(tmp_path, "cpu").get(work, work.runs[0]) is None
    assert EvaluationCache(tmp_path, "cuda").get(work, work.runs[0]) is not None


def test_an_edited_data_file_is_another_data_set(tmp_path):
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    file = tmp_path / "mine.npz"

    def key(draw):
        write_images(file, draw)
        task = Task(anchors=(Anchor(name="resnet"),), dataset=str(file))
        return key_of(job(task=task), run)

    first = key(0)
    assert first is not None
    assert key(1) != first
    assert key(0) == first


def write_images(file, draw):
    """Random images, as of a time of their own."""
    rng = np.random.default_rng(draw)
    images = rng.integers(0, 256, (40, 8, 8)).astype(np.uint8)
    np.savez(file, x_train=images, y_train=np.arange(40) % 2)
    os.utime(file, (draw + 1, draw + 1))


def test_a_worker_keeps_its_data_on_the_device_until_their_file_changes(tmp_path):
    context, file = Context(device="cpu"), tmp_path / "mine.npz"
    write_images(file, 0)
    first = context.dataset(str(file))
    assert context.dataset(str(file)) is first
    write_images(file, 1)
    assert not context.dataset(str(file)).train.x.equal(first.train.x)


def test_data_that_are_not_here_are_neither_kept_nor_found(tmp_path):
    task = Task(anchors=(Anchor(name="resnet"),), dataset=str(tmp_path / "gone.npz"))
    work = job(task=task)
    assert key_of(work, work.runs[0]) is None
    kept = EvaluationCache(tmp_path / "kept")
    kept.put(work, told(work, work.runs[0]))
    assert kept.get(work, work.runs[0]) is None
    assert list((tmp_path / "kept").iterdir()) == []


def test_the_inline_pool_stands_behind_the_cache_too(tmp_path, monkeypatch):
    monkeypatch.setenv("EVOSEARCH_CACHE", str(tmp_path))
    task = Task(anchors=(Anchor(name="resnet"),), steps=2, batch_size=16)
    work = job(task=task, runs=job().runs[:1])
    both = []
    for _ in range(2):
        pool = make_pool("inline", None)
        assert isinstance(pool, CachedPool)
        pool.submit(work)
        messages = []
        while not messages or messages[-1].kind != "job_done":
            messages += pool.poll(0.0)
        both.append((messages[0].evaluation, pool.saved))
        pool.interrupt()
        pool.close()
    assert [saved for _, saved in both] == [0, 1]
    assert both[0][0] == both[1][0]


def test_what_does_not_decide_a_score_is_not_in_the_key():
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    same = Task(anchors=(Anchor(name="resnet", reference=0.7),))
    assert key_of(job(task=same, job_id="k", purpose="tune"), run) == key_of(job(), run)


def test_a_broken_file_is_trained_again(tmp_path):
    kept = EvaluationCache(tmp_path)
    work = job()
    kept.put(work, told(work, work.runs[0]))
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


CHECKS = Checks(stability=Stability(enabled=False))


def checked(loss=1.0, score=0.4, **changed):
    """A candidate's job, and what a worker told of it: its checks with the first run."""
    runs = tuple(Run(anchor=a, seed=0, learning_rate=0.2) for a in ("resnet", "mobilenetv2"))
    work = job(purpose="search", runs=runs, checks=CHECKS, **changed)
    checks = [CheckRun(check=name, anchor=run.anchor, seconds=0.1, findings={"loss": loss})
              for name in ("signal", "quality") for run in runs]  # fmt: skip
    first, second = (told(work, run) for run in runs)
    milestone = first.evaluation.model_copy(update={"milestones": {40: score}})
    return work, [
        first.model_copy(update={"checks": tuple(checks), "evaluation": milestone}),
        second,
    ]


def known_candidate(folder):
    """`checked`, kept in a cache, and a pool with its trainer behind it."""
    kept, trainer = EvaluationCache(folder), Trainer()
    work, messages = checked()
    for message in messages:
        kept.put(work, message)
    return work, messages, trainer, CachedPool(trainer, kept)


@pytest.mark.parametrize(
    ("changed", "answered"),
    [
        ({}, True),
        ({"bounds": {"resnet": {"loss": Bounds(low=0.0, high=2.0)}}}, True),
        ({"bounds": {"mobilenetv2": {"loss": Bounds(low=0.0, high=0.9)}}}, False),
        ({"hurdles": {"resnet": {40: 0.39}}}, True),
        ({"hurdles": {"resnet": {40: 0.41}}}, False),
        ({"signal_only": True}, False),
    ],
)
def test_a_candidate_is_answered_if_it_would_pass_the_checks_of_now(tmp_path, changed, answered):
    _, messages, trainer, pool = known_candidate(tmp_path)
    pool.submit(checked(**changed)[0])
    assert (trainer.trained == []) == answered
    if answered:
        again = pool.poll(0.0)
        assert [m.checks for m in again[:-1]] == [m.checks for m in messages]


def test_a_candidate_whose_checks_were_told_with_another_network_is_trained(tmp_path):
    work, _, trainer, pool = known_candidate(tmp_path)
    pool.submit(work.model_copy(update={"runs": work.runs[1:], "id": "alone"}))
    assert trainer.trained == [("alone", 0)]
    pool.submit(work.model_copy(update={"runs": work.runs[:1], "id": "first"}))
    assert trainer.trained == [("alone", 0)]
    assert {check.anchor for check in pool.poll(0.0)[0].checks} == {"resnet"}
