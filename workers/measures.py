"""Further objectives of a trained layer: those that are built in, and what plug-ins measure.

An objective is measured after the training it belongs to, on the network as it stands then. A time
does not repeat, so a pool whose searches do refuses it; what is counted is the same everywhere.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import torch
from torch import Tensor, nn

from evosearch.config import Anchor, Task
from evosearch.errors import ConfigError, NotFound
from evosearch.objectives import Objective
from evosearch.own import REGISTER
from primitives.cost import kept_bytes
from primitives.graph import Graph
from primitives.structure import analyse

TURNS = 7
"""Steps that are timed of each network, in turn, after one that is not."""


@dataclass(frozen=True)
class Trained:
    """What a measure may look at: a network after its training, and the layer in it.

    ``graph``: None of a finished model's own layers. ``loss``: of one training batch, always the
    same. ``standard``: makes the same network, untrained, around BN-ReLU, or around another known
    layer where the anchor forbids that one. An evaluator of a user's own shows none but the graph.
    """

    anchor: str
    graph: Graph | None = None
    model: nn.Module | None = None
    loss: Callable[[], Tensor] | None = None
    standard: Callable[[], Trained] | None = None

    @cached_property
    def beside(self) -> Trained:
        """The network that ratios are to, made when it is first asked for."""
        if self.standard is None:
            raise _hidden(self.anchor)
        return self.standard()

    def network(self) -> tuple[nn.Module, Callable[[], Tensor]]:
        """The network and its loss.

        Raises:
            ConfigError: it is hidden.
        """
        if self.model is None or self.loss is None:
            raise _hidden(self.anchor)
        return self.model, self.loss


def _hidden(anchor: str) -> ConfigError:
    return ConfigError(
        f"the evaluator of {anchor} hides its network", got="an objective that is measured on it",
        expected="live_nodes, or a value that the evaluator returns under the objective's name",
    )  # fmt: skip


def parameters(trained: Trained) -> float:
    """Trainable numbers of the network, as a ratio to the same network with BN-ReLU."""
    return _trainable(trained) / max(1, _trainable(trained.beside))


def _trainable(trained: Trained) -> int:
    model, _ = trained.network()
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def live_nodes(trained: Trained) -> float:
    """Op nodes that the layer's output depends on; none of what is no formula."""
    return 0.0 if trained.graph is None else float(analyse(trained.graph).live_nodes)


def saved_bytes(trained: Trained) -> float:
    """What autograd keeps of one training step, as a ratio to the same network with BN-ReLU."""
    return _saved(trained) / max(1, _saved(trained.beside))


def _saved(trained: Trained) -> int:
    model, loss = trained.network()
    with torch.enable_grad():
        return kept_bytes(loss, but=(*model.parameters(), *model.buffers()))


def step_time(trained: Trained) -> float:
    """Seconds of a forward and backward pass, as a ratio to the same network with BN-ReLU.

    Both take turns in this process, so that both meet what else the machine is doing; the median
    of the turns' ratios counts.
    """
    ratios = [_seconds(trained) / _seconds(trained.beside) for _ in range(TURNS + 1)]
    return statistics.median(ratios[1:])


def _seconds(trained: Trained) -> float:
    model, loss = trained.network()
    weights = [one for one in model.parameters() if one.requires_grad]
    on_gpu = weights[0].is_cuda
    if on_gpu:
        torch.cuda.synchronize()
    begin = perf_counter()
    with torch.enable_grad():
        torch.autograd.grad(loss(), weights, allow_unused=True)
    if on_gpu:
        torch.cuda.synchronize()
    return perf_counter() - begin


BUILT_IN: dict[str, tuple[Objective, Callable[[Trained], float]]] = {
    one.name: (one, measure)
    for one, measure in (
        (Objective("parameters", "min", "x BN-ReLU", scale=2.0, worst=2.0), parameters),
        (Objective("live_nodes", "min", "nodes", scale=64.0, worst=64.0), live_nodes),
        (Objective("saved_bytes", "min", "x BN-ReLU", scale=8.0, worst=8.0), saved_bytes),
        (Objective("step_time", "min", "x BN-ReLU", scale=8.0, worst=8.0), step_time),
    )
}
"""Name -> the objective, and how it is measured. ``worst`` is what the hypervolume is measured
from, where the settings say no other; with the scale such an axis is as long as an accuracy's."""
TIMED = BUILT_IN["step_time"][0]
"""The one that another run of the same search would not repeat."""


def measure_of(name: str) -> Callable[[Trained], float] | None:
    """The function that measures that objective; None where it comes from the evaluation."""
    entry = REGISTER.find("objective", name)
    if entry is None:
        return BUILT_IN[name][1] if name in BUILT_IN else None
    function: Callable[[nn.Module], float] = entry.value[1]

    def measured(trained: Trained) -> float:
        model = trained.network()[0]
        model.eval()
        try:
            return float(function(model))
        finally:
            model.train()

    return measured


def goal_of(name: str) -> Objective:
    """The objective of that name, with its direction and unit.

    Raises:
        NotFound: nothing measures it.
    """
    entry = REGISTER.find("objective", name)
    if entry is not None:
        goal: Objective = entry.value[0]
        return goal
    if name in BUILT_IN:
        return BUILT_IN[name][0]
    known = [*BUILT_IN, *(one.name for one in REGISTER.entries("objective"))]
    raise NotFound(
        "unknown objective", expected="one of " + ", ".join(known), got=repr(name)[:60],
        where="task.objectives",
    )  # fmt: skip


def refuse_timed(task: Task) -> None:
    """Refuse an objective that no other run of the same search would repeat.

    Raises:
        ConfigError: the task has one.
    """
    timed = [one.name for one in task.anchors if _is_timed(one)]
    if timed:
        raise ConfigError(
            f"the inline pool's searches repeat bit for bit, and {TIMED.name} does not",
            got=f"the objective {TIMED.name} of {', '.join(timed)}",
            expected="saved_bytes or live_nodes, or --pool ray",
        )


def _is_timed(anchor: Anchor) -> bool:
    """Whether a step is timed here; what a user's own anchor returns under that name is theirs."""
    own = REGISTER.find("anchor", anchor.name)
    theirs = {goal.name for goal in own.value.objectives} if own is not None else set()
    return any(
        measure_of(goal.name) is step_time
        for goal in anchor.objectives if goal.name not in theirs
    )  # fmt: skip


def measure_all(goals: Iterable[Objective], trained: Trained) -> dict[str, float]:
    """Objective -> score, of those that are measured on the network.

    The network is in training mode before and after; its buffers may have changed.

    Raises:
        ConfigError: the network is hidden.
        ValueError: a measure is not finite.
    """
    found = {}
    for goal in goals:
        measure = measure_of(goal.name)
        if measure is None:
            continue
        with torch.no_grad():
            value = float(measure(trained))
        if not math.isfinite(value):
            raise ValueError(f"objective {goal.name} on {trained.anchor} is {value}")
        found[goal.name] = goal.score(value)
    return found
