"""One training of one layer in one anchor network with one seed, which can be resumed.

Everything random comes from the run's seed: two layers with one seed start from the same weights
and see the same batches in the same order. The loop waits for the device at a few points only;
global random state and thread counts must not change here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evosearch.config import Anchor, Task
from evosearch.errors import ConfigError
from evosearch.objectives import Objective
from evosearch.records import Run, Split
from workers.anchors import ANCHORS, Layer, initialise
from workers.augment import Crops, crop_side, wanted
from workers.datasets import Dataset, SplitData
from workers.device import autocast, precision
from workers.finite import watch
from workers.layers import standard_layer
from workers.measures import Trained, measure_all
from workers.optimizers import AdamW, FlatParameters, Guarded, Optimizer, Sgd
from workers.own_batches import batch_order, seeded

CURVE_POINTS = 8
STATISTICS_BATCHES = 10
"""Training batches over which moving averages are re-estimated."""
SCORE_ROWS = 1024
"""Rows of one forward pass in evaluation mode."""


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy on a split, and for each image how many of its draws were right (at most 9).

    Of texts ``accuracy`` is minus the bits per character, so that higher is better everywhere, and
    ``correct`` is empty.
    """

    accuracy: float
    correct: str = field(repr=False)


def anchor_setting(run: Run, task: Task) -> Anchor:
    """The task's setting of the run's anchor.

    Raises:
        ConfigError: the task does not name the anchor.
    """
    settings = {anchor.name: anchor for anchor in task.anchors}
    if run.anchor not in settings:
        raise ConfigError(
            "the run's anchor is none of the task's", expected=", ".join(settings), got=run.anchor
        )
    return settings[run.anchor]


def build_network(run: Run, task: Task, layer: Layer, data: Dataset) -> Any:
    """The run's anchor network around the layer, with the initial weights of the run's seed.

    Raises:
        NotFound: there is no such anchor.
        ConfigError: the task does not name the anchor, or anchor and data do not fit.
    """
    setting = anchor_setting(run, task)
    anchor = ANCHORS.get(run.anchor)
    if anchor.kind != data.kind:
        raise ConfigError(
            f"anchor {run.anchor} does not fit the data set {data.name}",
            expected=f"a data set of kind {anchor.kind}", got=data.kind,
        )  # fmt: skip
    shape = (data.train.x.shape[-2], data.train.x.shape[-1])
    side = crop_side(task.augmentation, shape)
    if anchor.fixed_image and side != shape:
        raise ConfigError(
            f"anchor {run.anchor} needs training and evaluation images of one size",
            expected="crops with padding, of the image's own side", got=f"crops of {side[0]}",
        )  # fmt: skip
    spec = anchor.spec(setting, data.channels, data.num_classes, side[-1])
    weights_seed = stream_seed(run.seed, 0)
    with torch.random.fork_rng(devices=[]):
        # For whatever an anchor draws besides convolutions, linear maps and embeddings.
        torch.default_generator.manual_seed(weights_seed)
        network = anchor.build(layer, spec)
    if anchor.own is None:
        initialise(network, task.weight_init, torch.Generator().manual_seed(weights_seed))
    device = data.train.x.device
    if device.type == "cuda":
        # torch takes it, but its types do not say so.
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device)


def make_optimizer(run: Run, task: Task, flat: FlatParameters) -> Optimizer:
    """The optimizer that the setting names, or else the anchor's own."""
    name = anchor_setting(run, task).optimizer or ANCHORS.get(run.anchor).optimizer
    made: Optimizer = (
        AdamW(flat, betas=(task.momentum, task.second_momentum))
        if name == "adamw"
        else Sgd(flat, momentum=task.momentum, nesterov=task.nesterov)
    )
    return made if flat.scale is None else Guarded(made, flat.scale)


def curve_steps(steps: int) -> set[int]:
    """The steps of a training at which the curve has points and a divergence is seen."""
    return {math.ceil(steps * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)}


class Training:
    """A training that can be advanced step by step, and scored at any step without a trace.

    ``beat``: called as the scoring gets on. ``step``: steps done. ``diverged``: the loss was not
    finite; no further step is done then. ``curve``: (step, mean training loss since the point
    before), as long as that is finite.
    """

    def __init__(self, run: Run, task: Task, layer: Layer, data: Dataset) -> None:
        self.run, self.task, self.data = run, task, data
        self.step, self.diverged = 0, False
        self.curve: list[tuple[int, float]] = []
        self.layer = layer
        self.interrupted: Callable[[Training], None] = lambda training: None
        self.beat: Callable[[], None] = lambda: None
        self.network = build_network(run, task, layer, data)
        device = data.train.x.device
        steps = max(task.steps, STATISTICS_BATCHES)
        order = batch_order(len(data.train), task.batch_size, steps, stream_seed(run.seed, 1))
        self._order = order.to(device)
        self._losses = torch.zeros(task.steps, device=device)
        self._points = curve_steps(task.steps)
        self._watch = watch(device)
        self._dtype = precision(task, device)
        self.flat = FlatParameters(
            self.network,
            task.weight_decay,
            scaled=self._dtype == torch.float16,
            channels_last=device.type == "cuda",
        )
        self.optimizer = make_optimizer(run, task, self.flat)
        scale = anchor_setting(run, task).rate_scale
        self._rate = run.learning_rate * (scale or ANCHORS.get(run.anchor).rate_scale)
        self._crops = None
        if wanted(task.augmentation) and data.kind == "image":
            self._crops = Crops(
                task.augmentation,
                steps=steps,
                batch_size=task.batch_size,
                image=(data.train.x.shape[-2], data.train.x.shape[-1]),
                seed=stream_seed(run.seed, 3),
                device=device,
            )

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images and classes of the training batch of that step, augmented; always the same."""
        rows = self._order[step]
        x, y = self.data.train.x[rows], self.data.train.y[rows].long()
        if self._crops is not None:
            x = self._crops.apply(step, x)
        x = self.data.prepare(x)
        if self.data.augment is not None:
            generator = torch.Generator(x.device).manual_seed(stream_seed(self.run.seed, 2, step))
            x = self.data.augment(x, generator)
        return x, y

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, as tensors and numbers."""
        return {
            "step": self.step,
            "diverged": self.diverged,
            "curve": [list(point) for point in self.curve],
            "losses": self._losses.cpu(),
            "vectors": [vector.cpu() for vector in self.optimizer.state],
            "optimizer_steps": self.optimizer.steps,
            "buffers": [buffer.cpu() for buffer in self.network.buffers()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` of the same run returned.

        Raises:
            LookupError, ValueError, RuntimeError: it is no such state; nothing was changed.
        """
        vectors = list(zip(self.optimizer.state, state["vectors"], strict=True))
        buffers = list(zip(self.network.buffers(), state["buffers"], strict=True))
        pairs = [*vectors, *buffers, (self._losses, state["losses"])]
        if any(ours.shape != theirs.shape for ours, theirs in pairs):
            raise ValueError("the state of another network")
        step, diverged = int(state["step"]), bool(state["diverged"])
        curve = [(int(at), float(loss)) for at, loss in state["curve"]]
        self.optimizer.steps = int(state["optimizer_steps"])
        with torch.no_grad():
            for ours, theirs in pairs:
                ours.copy_(theirs)
        self.step, self.diverged, self.curve = step, diverged, curve

    def advance(self, to_step: int) -> int:
        """Train up to ``to_step`` steps in all; returns how many steps this call did.

        Whoever set ``interrupted`` is asked before each step, and an error it raises ends the call
        between two steps.
        """
        start = self.step
        self.network.train()
        while self.step < min(to_step, self.task.steps) and not self.diverged:
            self.interrupted(self)
            self._train_one()
            if not self._watch.finite(self._losses, self.step):
                self.diverged = True
            elif self.step in self._points:
                self._look()
        if self.step > start and self.step not in self._points and not self.diverged:
            self.diverged = not bool(self._losses[: self.step].isfinite().all())
        return self.step - start

    def diverged_at(self) -> int:
        """The step whose loss was the first that is not finite; 0 where there is none so far."""
        wrong = (~self._losses[: self.step].isfinite()).nonzero()
        if len(wrong):
            return int(wrong[0]) + 1
        return self.step if self.diverged else 0  # a mean may overflow where no loss did

    def score(self, split: Split) -> Score:
        """Accuracy in evaluation mode; the training goes on afterwards as if nothing happened."""
        rows = self.rows(split)
        self.network.train()
        with torch.no_grad(), undisturbed(self.network), self._drawn(6):
            if self.task.statistics == "reestimated":
                self._reestimate()
            self.network.eval()
            if self.data.kind == "text":
                value = -self._bits(rows)
                right = None
            else:
                right = torch.cat([self(x).argmax(dim=1) == y for x, y in self._parts(rows)]).cpu()
        self.network.train()
        if right is None:
            return Score(value, "")
        counts = torch.bincount(rows.image.cpu(), weights=right.double()).long().tolist()
        return Score(right.double().mean().item(), "".join(str(count) for count in counts))

    def rows(self, split: Split) -> SplitData:
        """The rows that are scored: of ``select`` the first ones, if the task says so."""
        if split == "final":
            return self.data.final
        rows, count = self.data.select, self.task.select_rows
        if count is None or count >= len(rows):
            return rows
        return SplitData(rows.x[:count], rows.y[:count], rows.image[:count])

    def pass_at(self, step: int) -> tuple[Tensor | None, Tensor | None, Tensor, nn.Parameter]:
        """Features, logits and loss of that step's batch, and the weight at the bottom."""
        x, y = self.batch(step)
        with self._drawn(5, step):
            features, logits, weight = self.network.signal_parts(x)
        return features, logits, self.loss(logits, y), weight

    def follow(self, gradient: Tensor) -> None:
        """One step down that gradient, which is used up."""
        self.optimizer.apply(gradient, self._learning_rate())
        self.step += 1

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Within it, steps may be made with `follow`; afterwards none was."""
        before = [vector.clone() for vector in self.optimizer.state]
        step, steps = self.step, self.optimizer.steps
        try:
            yield
        finally:
            self.step, self.optimizer.steps = step, steps
            self.flat.gradients.zero_()
            with torch.no_grad():
                for vector, value in zip(self.optimizer.state, before, strict=True):
                    vector.copy_(value)

    def ascent(self, batch_size: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """The loss of so many rows in a network of its own, and the weights that may move."""
        network = build_network(self.run, self.task, self.layer, self.data)
        network.train()
        x, y = (rows[:batch_size] for rows in self.batch(0))
        # Of token networks the linear maps are what convolutions are to the paper's.
        kinds = (nn.Conv2d,) if network.layout == "image" else (nn.Conv2d, nn.Linear)
        found = {id(m.weight): m.weight for m in network.modules() if isinstance(m, kinds)}

        def loss() -> Tensor:
            with self._drawn(5):
                return self.loss(network(x), y)

        return loss, list(found.values())

    def measured(self, split: Split) -> tuple[Score, dict[str, float]]:
        """The score on a split, and those of the anchor's further objectives."""
        further = anchor_setting(self.run, self.task).objectives[1:]
        found = self.score(split)
        return found, self.further(further) if further else {}

    def further(self, goals: Iterable[Objective]) -> dict[str, float]:
        """Scores of those of the objectives that are measured on the network, as if unseen."""
        self.network.train()
        with undisturbed(self.network), self._drawn(6):
            return measure_all(goals, self.trained())

    def trained(self) -> Trained:
        """What objectives are measured on."""
        x, y = self.batch(0)
        graph = getattr(self.layer, "graph", None)
        return Trained(
            self.run.anchor, graph, self.network, lambda: self.loss(self(x), y), self._standard
        )

    def _standard(self) -> Trained:
        layer = standard_layer(self.task, self.run.anchor)
        return Training(self.run, self.task, layer, self.data).trained()

    @property
    def worst(self) -> float:
        """The score of knowing nothing, which a training that diverged gets."""
        classes = self.data.num_classes
        return -math.log2(classes) if self.data.kind == "text" else 1.0 / classes

    def __call__(self, x: Tensor) -> Tensor:
        """The network's logits, in the precision of the task."""
        with autocast(x.device, self._dtype):
            logits: Tensor = self.network(x)
        return logits

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy over rows, and over the positions of texts."""
        return F.cross_entropy(logits.flatten(0, -2).float(), y.flatten())

    def _parts(self, rows: SplitData) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in zip(
            torch.split(rows.x, SCORE_ROWS), torch.split(rows.y, SCORE_ROWS), strict=True
        ):
            self.beat()
            yield self.data.prepare(x), y.long()

    def _bits(self, rows: SplitData) -> float:
        losses = [self.loss(self(x), y) * y.numel() for x, y in self._parts(rows)]
        return torch.stack(losses).sum().item() / rows.y.numel() / math.log(2)

    def _train_one(self) -> None:
        x, y = self.batch(self.step)
        with self._drawn(5, self.step):
            loss = self.loss(self(x), y)
            gradient = self.flat.backward(loss)
        self._losses[self.step] = loss.detach()
        self.follow(gradient)

    def _drawn(self, part: int, step: int = 0) -> AbstractContextManager[None]:
        """Within it a user's network draws, as for dropout, from the run's seed; ours never do."""
        own = ANCHORS.get(self.run.anchor).own
        return nullcontext() if own is None else seeded(stream_seed(self.run.seed, part, step))

    def _learning_rate(self) -> float:
        """Of the next step; ``cosine`` falls from the run's rate to zero over all steps."""
        rate = self._rate
        if self.step < self.task.warm_up_steps:
            rate *= (self.step + 1) / self.task.warm_up_steps
        if self.task.schedule == "constant":
            return rate
        return rate * 0.5 * (1 + math.cos(math.pi * self.step / self.task.steps))

    def _look(self) -> None:
        since = self.curve[-1][0] if self.curve else 0
        loss = self._losses[since : self.step].mean().item()
        self.diverged = not math.isfinite(loss)
        if not self.diverged:
            self.curve.append((self.step, loss))

    def _reestimate(self) -> None:
        """Moving averages anew: the plain average over a few training batches, in training mode."""
        found = tracked(self.network)
        if not found:
            return
        momenta = [module.momentum for module in found]
        for module in found:
            module.reset_running_stats()
            module.momentum = None
        for step in range(STATISTICS_BATCHES):
            self(self.batch(step)[0])
        for module, momentum in zip(found, momenta, strict=True):
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


def tracked(network: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    """Modules with moving averages; generated layers follow BatchNorm's names."""
    return [
        module  # type: ignore[misc]
        for module in network.modules()
        if getattr(module, "num_batches_tracked", None) is not None
    ]


def stream_seed(seed: int, *purpose: int) -> int:
    """A seed of its own for each purpose, from the run's seed."""
    return int(np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)[0]) >> 1
