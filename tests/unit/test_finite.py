"""A loss that is not finite ends a training at once, and nobody waits for a GPU to see it."""

from __future__ import annotations

import math

import pytest
import torch

from evosearch.config import Anchor, Task
from evosearch.records import Run
from workers import datasets
from workers.finite import EVERY, EachStep, NowAndThen, watch
from workers.training import Training


def bn_relu(channels):
    return torch.nn.Sequential(torch.nn.BatchNorm2d(channels), torch.nn.ReLU())


def test_on_a_cpu_a_training_ends_at_the_very_step():
    task = Task(anchors=(Anchor(name="resnet"),), steps=80, batch_size=16)
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    training = Training(run, task, bn_relu, datasets.load("polarity-digits"))
    loss = training.loss
    training.loss = lambda logits, y: loss(logits, y) * (math.nan if training.step == 23 else 1)
    assert training.advance(80) == 24
    assert training.diverged
    assert [step for step, _ in training.curve] == [10, 20]
    assert training.advance(80) == 0


def test_the_last_steps_are_seen_though_no_look_fell_on_them():
    watched = NowAndThen(lambda flag: (flag, lambda: True))
    losses = torch.ones(100)
    losses[37] = torch.inf
    seen = [watched.finite(losses, step) for step in range(1, 101)]
    assert seen.index(False) <= 2 * EVERY + 1
    assert isinstance(watch(torch.device("cpu")), EachStep)
    assert isinstance(watch(torch.device("cuda")), NowAndThen)


def test_a_gpu_is_asked_now_and_then_and_never_waited_for():
    asked, arrived = [], []

    def copy(flag):
        asked.append(bool(flag))
        return flag, lambda: bool(arrived)

    watched, losses = NowAndThen(copy), torch.full((200,), math.nan)
    assert all(watched.finite(losses, step) for step in range(1, 101))
    assert asked == [False], "one question at a time"
    arrived.append(True)
    assert not watched.finite(losses, 101)


@pytest.mark.parametrize("finite", [True, False])
def test_nothing_is_asked_twice(finite):
    spans = []

    def copy(flag):
        spans.append(bool(flag))
        return flag, lambda: True

    watched, losses = NowAndThen(copy), torch.ones(60)
    if not finite:
        losses[5] = math.nan
    answers = [watched.finite(losses, step) for step in range(1, 61)]
    assert spans == ([True] * 3 if finite else [False, True, True])
    assert all(answers) == finite
