"""One training of one layer in one anchor network with one seed, which can be resumed.

Everything random comes from the run's seed: two layers with one seed start from the same weights
and see the same batches in the same order. The loop reads nothing back from the device but at a
few points; global random state and thread counts must not change here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evosearch.config import Task
from evosearch.errors import ConfigError
from evosearch.records import Run, Split
from workers.anchors import ANCHORS, HostNetwork, Layer, initialise
from workers.datasets import Dataset
from workers.sgd import Sgd

CURVE_POINTS = 8
STATISTICS_BATCHES = 10
"""Training batches over which moving averages are re-estimated."""
SCORE_ROWS = 1024
"""Rows of one forward pass in evaluation mode."""


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy on a split, and for each image how many of its draws were right (at most 9)."""

    accuracy: float
    correct: str = field(repr=False)


def build_network(run: Run, task: Task, layer: Layer, data: Dataset) -> HostNetwork:
    """The run's anchor network around the layer, with the initial weights of the run's seed.

    Raises:
        NotFound: there is no such anchor.
        ConfigError: the task does not name the anchor.
    """
    sizes = {anchor.name: anchor for anchor in task.anchors}
    if run.anchor not in sizes:
        raise ConfigError(
            "the run's anchor is none of the task's", expected=", ".join(sizes), got=run.anchor
        )
    size = sizes[run.anchor]
    weights_seed = _stream(run.seed, 0)
    with torch.random.fork_rng(devices=[]):
        # For whatever an anchor of a plug-in draws besides convolutions and linear maps.
        torch.default_generator.manual_seed(weights_seed)
        network = ANCHORS.get(run.anchor).build(
            layer,
            in_channels=data.channels,
            num_classes=data.num_classes,
            width=size.width,
            depth=size.depth,
        )
    initialise(network, task.weight_init, torch.Generator().manual_seed(weights_seed))
    return network.to(data.train.x.device)


def batch_order(rows: int, batch_size: int, steps: int, seed: int) -> Tensor:
    """Row indices of each step's batch, epoch after epoch, each a fresh permutation.

    Shapes: (steps, batch_size), int64. A batch may reach into the next epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    needed = steps * batch_size
    epochs = [torch.randperm(rows, generator=generator) for _ in range(-(-needed // rows))]
    return torch.cat(epochs)[:needed].view(steps, batch_size)


class Training:
    """A training that can be advanced step by step, and scored at any step without a trace.

    ``step``: steps done. ``diverged``: the loss was not finite; no further step is done then.
    ``curve``: (step, mean training loss since the point before).
    """

    def __init__(self, run: Run, task: Task, layer: Layer, data: Dataset) -> None:
        self.run, self.task, self.data = run, task, data
        self.step, self.diverged = 0, False
        self.curve: list[tuple[int, float]] = []
        self.layer = layer
        self.network = build_network(run, task, layer, data)
        device = data.train.x.device
        steps = max(task.steps, STATISTICS_BATCHES)
        order = batch_order(len(data.train), task.batch_size, steps, _stream(run.seed, 1))
        self._order = order.to(device)
        self._losses = torch.zeros(task.steps, device=device)
        self._points = {
            math.ceil(task.steps * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)
        }
        self._sgd = Sgd(
            self.network,
            momentum=task.momentum,
            nesterov=task.nesterov,
            weight_decay=task.weight_decay,
        )

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images and classes of the training batch of that step, augmented; always the same."""
        rows = self._order[step]
        x, y = self.data.train.x[rows], self.data.train.y[rows]
        if self.data.augment is not None:
            generator = torch.Generator(x.device).manual_seed(_stream(self.run.seed, 2, step))
            x = self.data.augment(x, generator)
        return x, y

    def advance(self, to_step: int) -> int:
        """Train up to ``to_step`` steps in all; returns how many steps this call did."""
        start = self.step
        self.network.train()
        while self.step < min(to_step, self.task.steps) and not self.diverged:
            self._train_one()
            if self.step in self._points:
                self._look()
        if self.step > start and self.step not in self._points and not self.diverged:
            self.diverged = not bool(self._losses[: self.step].isfinite().all())
        return self.step - start

    def score(self, split: Split) -> Score:
        """Accuracy in evaluation mode; the training goes on afterwards as if nothing happened."""
        rows = self.data.select if split == "select" else self.data.final
        self.network.train()
        with torch.no_grad(), undisturbed(self.network):
            if self.task.statistics == "reestimated":
                self._reestimate()
            self.network.eval()
            right = torch.cat(
                [
                    self.network(x).argmax(dim=1) == y
                    for x, y in zip(rows.x.split(SCORE_ROWS), rows.y.split(SCORE_ROWS), strict=True)
                ]
            ).cpu()
        self.network.train()
        counts = torch.bincount(rows.image.cpu(), weights=right.double()).long().tolist()
        return Score(right.double().mean().item(), "".join(str(count) for count in counts))

    def _train_one(self) -> None:
        x, y = self.batch(self.step)
        loss = F.cross_entropy(self.network(x), y)
        self._sgd.step(loss, self._learning_rate())
        self._losses[self.step] = loss.detach()
        self.step += 1

    def _learning_rate(self) -> float:
        """Of the next step; ``cosine`` falls from the run's rate to zero over all steps."""
        if self.task.schedule == "constant":
            return self.run.learning_rate
        return self.run.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / self.task.steps))

    def _look(self) -> None:
        since = self.curve[-1][0] if self.curve else 0
        loss = self._losses[since : self.step].mean().item()
        self.diverged = not math.isfinite(loss)
        self.curve.append((self.step, loss))

    def _reestimate(self) -> None:
        """Moving averages anew: the plain average over a few training batches, in training mode."""
        tracked = _tracked(self.network)
        if not tracked:
            return
        momenta = [module.momentum for module in tracked]
        for module in tracked:
            module.reset_running_stats()
            module.momentum = None
        for step in range(STATISTICS_BATCHES):
            self.network(self.batch(step)[0])
        for module, momentum in zip(tracked, momenta, strict=True):
            module.momentum = momentum


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Within it, moving averages may change; afterwards they are what they were before."""
    buffers = list(network.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


def _tracked(network: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    """Modules with moving averages; generated layers follow BatchNorm's names."""
    return [
        module  # type: ignore[misc]
        for module in network.modules()
        if getattr(module, "num_batches_tracked", None) is not None
    ]


def _stream(seed: int, *purpose: int) -> int:
    """A seed of its own for each purpose, from the run's seed."""
    return int(np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)[0]) >> 1
