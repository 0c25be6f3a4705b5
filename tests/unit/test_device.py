"""Device and precision: chosen by what is there; GPU tests say why they are skipped."""

from __future__ import annotations

import pytest
import torch

from evosearch.config import Anchor, Task
from evosearch.errors import ConfigError
from evosearch.records import Run
from workers import datasets
from workers.device import choose, precision
from workers.training import Training

# The one kind of skip that a full run allows: no machine grows a GPU for a test.
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def bn_relu(channels):
    return torch.nn.Sequential(torch.nn.BatchNorm2d(channels), torch.nn.ReLU())


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose().type == "cpu"
    with pytest.raises(ConfigError, match="no GPU"):
        choose("cuda")
    for name in ("tpu", "meta"):
        with pytest.raises(ConfigError, match="unknown device"):
            choose(name)


def test_precision_is_the_tasks_or_the_devices(monkeypatch):
    task = Task(anchors=(Anchor(name="resnet"),))
    assert precision(task, torch.device("cpu")) == torch.float32
    for supported, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert precision(task, torch.device("cuda")) == expected
    fixed = task.model_copy(update={"precision": "float32"})
    assert precision(fixed, torch.device("cuda")) == torch.float32


@needs_gpu
def test_a_gpu_trains_as_well_as_the_cpu():
    scores = []
    for device in ("cpu", "cuda"):
        task = Task(anchors=(Anchor(name="resnet"),), steps=100)
        run = Run(anchor="resnet", seed=0, learning_rate=0.2)
        training = Training(run, task, bn_relu, datasets.load("polarity-digits", device))
        training.advance(100)
        scores.append(training.score("select").accuracy)
    assert abs(scores[0] - scores[1]) < 0.08


@needs_gpu
def test_the_loop_does_not_wait_for_the_gpu():
    task = Task(anchors=(Anchor(name="resnet"),), steps=100)
    run = Run(anchor="resnet", seed=0, learning_rate=0.2)
    training = Training(run, task, bn_relu, datasets.load("polarity-digits", "cuda"))
    training.advance(2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            training._train_one()
    finally:
        torch.cuda.set_sync_debug_mode("default")
