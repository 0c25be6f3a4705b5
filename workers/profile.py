"""Where a training's time goes: data, forward, the layers' share, backward, optimizer, scoring.

Each part is timed by itself with the device waited for, so the parts say where to look and the
plain loop's steps a second say how fast it is. This file must not change how a training runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from evosearch.config import Task
from evosearch.records import Job, Run, Subject
from workers.datasets import Dataset
from workers.layers import layer_factory
from workers.training import Training

PARTS = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one anchor. ``parts``: seconds a step; ``layers``: seconds a step inside the layers'
    forward; ``scoring``: seconds of one scoring on select; ``steps_per_second``: plain loop."""

    anchor: str
    parts: dict[str, float]
    layers: float
    scoring: float
    steps_per_second: float

    def candidate_seconds(self, steps: int) -> float:
        """Of a full training on this anchor with its scoring."""
        return steps / self.steps_per_second + self.scoring


def profile(task: Task, anchor: str, baseline: str, data: Dataset, steps: int) -> Profile:
    """Train a known layer for so many steps in the plain loop, then for as many with a watch."""
    run = Run(anchor=anchor, seed=0, learning_rate=task.learning_rate)
    subject = Subject(baseline=baseline)
    job = Job(id="bench", purpose="baseline", subject=subject, graph=None, runs=(run,), task=task)
    made: list[torch.nn.Module] = []
    factory = layer_factory(job, anchor)

    def layer(channels: int) -> torch.nn.Module:
        made.append(factory(channels))
        return made[-1]

    training = Training(run, task, layer, data)
    device = data.train.x.device

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    training.advance(2)
    start = now()
    done = training.advance(2 + steps)
    per_second = done / (now() - start)
    parts = _watched(training, steps, now)
    inside = _inside(training, made, max(1, steps // 4), now)
    start = now()
    training.score("select")
    return Profile(anchor, parts, inside, now() - start, per_second)


def _watched(training: Training, steps: int, now: object) -> dict[str, float]:
    assert callable(now)
    seconds = dict.fromkeys(PARTS, 0.0)
    flat = training.flat
    training.network.train()
    for step in range(steps):
        times = [now()]
        x, y = training.batch(step % training.task.steps)
        times.append(now())
        loss = training.loss(training(x), y)
        times.append(now())
        flat.backward(loss)
        times.append(now())
        training.optimizer.apply(flat.gradients, 0.0)
        times.append(now())
        for part, start, end in zip(PARTS, times, times[1:], strict=False):
            seconds[part] += (end - start) / steps
    return seconds


def _inside(training: Training, layers: list[torch.nn.Module], steps: int, now: object) -> float:
    assert callable(now)
    spent, began = 0.0, 0.0

    def before(*_: object) -> None:
        nonlocal began
        began = now()

    def after(*_: object) -> None:
        nonlocal spent
        spent += now() - began

    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(after) for layer in layers]
    with torch.no_grad():
        for step in range(steps):
            training(training.batch(step % training.task.steps)[0])
    for hook in hooks:
        hook.remove()
    return spent / steps
