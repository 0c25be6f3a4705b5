"""A user's own task: data, network, loss and metric are the user's, the loop is ours.

The loop is `Training`'s: steps, schedule, optimizer, curve, checkpoints. Whatever the user's code
draws from torch, numpy or random comes from seeds of the run, and global states are as before
afterwards. Errors of the user's code pass through: who catches them names the line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from evosearch.config import Task
from evosearch.errors import PluginError
from evosearch.objectives import Objective
from evosearch.own import OwnAnchor
from evosearch.records import Run, Split
from workers.anchors import ANCHORS, Layer
from workers.data_dir import DATA_DIR_VARIABLE
from workers.device import autocast, precision
from workers.finite import watch
from workers.layers import standard_layer
from workers.measures import Trained, measure_all, measure_of
from workers.optimizers import FlatParameters
from workers.own_batches import Batches, batches_of, seeded
from workers.own_network import OwnNetwork, build_model, first_weight
from workers.training import (
    STATISTICS_BATCHES,
    Score,
    Training,
    anchor_setting,
    curve_steps,
    make_optimizer,
    stream_seed,
    tracked,
    undisturbed,
)

DATA_SEED = 1010
"""Data are the same for every layer, run and search."""
SPLIT_NUMBERS = {"train": 0, "select": 1, "final": 2}


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What ``data(ctx)`` and ``build(layer, ctx)`` are told.

    ``split``: train, select or final. ``rng``: numpy's generator, the same for every layer.
    ``generator``: torch's, likewise. ``data_dir``: the data folder, or None.
    """

    split: str
    device: torch.device
    data_dir: Path | None
    rng: np.random.Generator
    generator: torch.Generator
    batch_size: int
    steps: int
    size: str = "micro"


class OwnData:
    """One user's task on a worker: its instance, and the data it has made so far.

    The instance lives as long as its data, so what ``data`` notes for ``build`` stays.
    """

    def __init__(self, own: OwnAnchor, task: Task, device: torch.device) -> None:
        self.own, self.device, self._task = own, device, task
        with seeded(DATA_SEED):
            self.instance = own.made_by()
        self._splits: dict[str, Batches] = {}
        self.split("train")

    def split(self, name: str) -> Batches:
        """The batches of a split, made when they are first asked for."""
        if name not in self._splits:
            seed = stream_seed(DATA_SEED, SPLIT_NUMBERS[name])
            with seeded(seed):
                data = self.instance.data(self.context(name, seed))
            self._splits[name] = batches_of(
                data,
                self._task.batch_size,
                self.device,
                f"data(ctx) for {name}",
                self.own.line("data"),
            )
        return self._splits[name]

    def context(self, split: str, seed: int) -> TaskContext:
        """What the user's code is told."""
        folder = os.environ.get(DATA_DIR_VARIABLE)
        return TaskContext(
            split, self.device, Path(folder) if folder else None, np.random.default_rng(seed),
            torch.Generator().manual_seed(seed), self._task.batch_size, self._task.steps,
        )  # fmt: skip


class OwnTraining(Training):
    """A `Training` whose data, network, loss and metric are a user's.

    Raises:
        PluginError: what the user's code returns is not what it should.
    """

    def __init__(self, run: Run, task: Task, layer: Layer, data: OwnData) -> None:
        self.run, self.task, self.own_data, self.layer = run, task, data, layer
        self.own, self.instance = data.own, data.instance
        self.goals = anchor_setting(run, task).objectives or self.own.objectives
        self.step, self.diverged = 0, False
        self.curve = []
        self.interrupted: Callable[[Training], None] = lambda training: None
        self.beat: Callable[[], None] = lambda: None
        self._batches = data.split("train")
        self.network = self._network()
        self._order = self._new_order(task.steps)
        self._losses = torch.zeros(task.steps, device=data.device)
        self._points = curve_steps(task.steps)
        self._watch = watch(data.device)
        self._dtype = precision(task, data.device)
        self.flat = FlatParameters(
            self.network, task.weight_decay, scaled=self._dtype == torch.float16
        )
        self.optimizer = make_optimizer(run, task, self.flat)
        scale = anchor_setting(run, task).rate_scale
        self._rate = run.learning_rate * (scale or ANCHORS.get(run.anchor).rate_scale)

    def _network(self) -> OwnNetwork:
        seed = stream_seed(self.run.seed, 0)
        size = anchor_setting(self.run, self.task).size
        context = self.own_data.context("train", seed)
        with seeded(seed):
            model = build_model(
                self.own, self.instance.build, self.layer, {"ctx": context, "size": size}
            )
        network = OwnNetwork(model.to(self.own_data.device))
        first_weight(network)
        return network.train()

    def _new_order(self, steps: int) -> Any:
        """Which rows each step takes: the same for every layer with the run's seed."""
        seed = stream_seed(self.run.seed, 1)
        with seeded(seed):
            return self._batches.order(max(steps, STATISTICS_BATCHES), seed)

    def own_batch(self, step: int) -> Any:
        """The training batch of that step: always the same, whatever was read before."""
        with seeded(stream_seed(self.run.seed, 4, step)):
            return self._batches.at(self._order, step)

    def own_loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The user's loss of a batch: one number that can be differentiated.

        Raises:
            PluginError: it is none.
        """
        with autocast(self.own_data.device, self._dtype):
            loss = self.instance.loss(model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise PluginError(
                "loss returns no number", where=self.own.line("loss"),
                expected="a tensor of one element", got=str(shape),
            )  # fmt: skip
        return loss.reshape(()).float()

    def pass_at(self, step: int) -> tuple[None, None, Tensor, nn.Parameter]:
        """The loss of that step's batch; features and logits are not known."""
        batch = self.own_batch(step)
        with seeded(stream_seed(self.run.seed, 5, step)):
            loss = self.own_loss(self.network.model, batch)
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise PluginError("the loss has no gradient", where=self.own.line("loss"))
        return None, None, loss, first_weight(self.network)

    def ascent(self, batch_size: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """The loss of the first batch in a network of its own, and the weights that may move."""
        network, batch = self._network(), self.own_batch(0)
        kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
        found = {id(m.weight): m.weight for m in network.modules() if isinstance(m, kinds)}

        def loss() -> Tensor:
            # The other backends of attention cannot be differentiated twice.
            with seeded(stream_seed(self.run.seed, 5, 0)), sdpa_kernel(SDPBackend.MATH):
                return self.own_loss(network.model, batch)

        return loss, list(found.values())

    def measured(self, split: Split) -> tuple[Score, dict[str, float]]:
        """The score on a split, and those of the further objectives."""
        scores = self._scores(split)
        first, *others = self.goals
        more = {goal.name: scores[goal.name] for goal in others}
        return Score(scores[first.name], ""), more

    def score(self, split: Split) -> Score:
        """The first objective's score; the training goes on as if nothing happened."""
        return Score(self._scores(split)[self.goals[0].name], "")

    def _scores(self, split: Split) -> dict[str, float]:
        network, data = self.network, self.own_data.split(split)
        network.train()
        # Buffers and gradients are put back, so that a look in the middle changes nothing.
        with undisturbed(network), seeded(stream_seed(self.run.seed, 6)):
            with torch.no_grad():
                if self.task.statistics == "reestimated":
                    self._reestimate()
                network.eval()
                found = self.instance.evaluate(network.model, data.all())
            evaluated = given(self.goals, found)
            scores = scores_of(found, evaluated, self.own.line("evaluate"), "evaluate")
            network.train()
            scores |= measure_all(
                [goal for goal in self.goals if goal.name not in scores], self.trained()
            )
        network.train()
        return scores

    def further(self, goals: Iterable[Objective]) -> dict[str, float]:
        """Scores of those of the objectives that are measured on the network, as if unseen."""
        self.network.train()
        with undisturbed(self.network), seeded(stream_seed(self.run.seed, 6)):
            return measure_all(goals, self.trained())

    def trained(self) -> Trained:
        """What objectives are measured on."""
        batch, model = self.own_batch(0), self.network.model
        graph = getattr(self.layer, "graph", None)
        return Trained(
            self.run.anchor, graph, model, lambda: self.own_loss(model, batch), self._standard
        )

    def _standard(self) -> Trained:
        layer = standard_layer(self.task, self.run.anchor)
        return OwnTraining(self.run, self.task, layer, self.own_data).trained()

    @property
    def worst(self) -> float:
        """What the objective says, or else the score of the untrained network."""
        goal = self.goals[0]
        if goal.worst is not None:
            return goal.score(goal.worst)
        untrained = OwnTraining(self.run, self.task, self.layer, self.own_data)
        value = untrained.score("select").accuracy
        if not math.isfinite(value):
            raise PluginError(
                "the training diverged, and the untrained network has no finite score",
                where=self.own.line("evaluate"), hint=f"say the value of knowing nothing: "
                f'es.Objective("{goal.name}", ..., worst=...)',
            )  # fmt: skip
        return value

    def _train_one(self) -> None:
        batch = self.own_batch(self.step)
        with seeded(stream_seed(self.run.seed, 5, self.step)):
            loss = self.own_loss(self.network.model, batch)
            gradient = self.flat.backward(loss)
        self._losses[self.step] = loss.detach()
        self.follow(gradient)

    def _reestimate(self) -> None:
        found = tracked(self.network)
        momenta = [module.momentum for module in found]
        for module in found:
            module.reset_running_stats()
            module.momentum = None
        order = self._new_order(STATISTICS_BATCHES)
        for step in range(STATISTICS_BATCHES if found else 0):
            with seeded(stream_seed(self.run.seed, 4, step)):
                batch = self._batches.at(order, step)
            self.own_loss(self.network.model, batch)
        for module, momentum in zip(found, momenta, strict=True):
            module.momentum = momentum


def given(goals: Iterable[Objective], found: Any) -> list[Objective]:
    """Objectives that come from the user's evaluation: all that it names, or nothing measures."""
    named = found if isinstance(found, Mapping) else {}
    return [goal for goal in goals if goal.name in named or measure_of(goal.name) is None]


def scores_of(found: Any, goals: list[Objective], where: str, what: str) -> dict[str, float]:
    """Objective -> score of what the user's code returned.

    Raises:
        PluginError: an objective is missing or is no number; NaN and infinity pass as they are.
    """
    if not isinstance(found, Mapping):
        raise PluginError(
            f"{what} returns no dict", where=where,
            expected="{" + ", ".join(f'"{goal.name}": value' for goal in goals) + "}",
            got=type(found).__name__,
        )  # fmt: skip
    scores = {}
    for goal in goals:
        if goal.name not in found:
            raise PluginError(
                f"{what} does not return the objective {goal.name}", where=where,
                got=", ".join(map(str, found)) or "an empty dict",
            )  # fmt: skip
        try:
            value = found[goal.name]
            value = value.detach() if isinstance(value, Tensor) else value
            scores[goal.name] = goal.score(float(value))
        except (TypeError, ValueError) as err:
            raise PluginError(
                f"{what} returns no number for {goal.name}", where=where,
                got=repr(found[goal.name])[:60],
            ) from err  # fmt: skip
    return scores
