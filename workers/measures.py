"""Further objectives of a trained network: size by itself, and what plug-ins measure.

An objective is measured after the training it belongs to, on the network as it stands then. Times
are left to plug-ins: measured beside other work they would not repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from evosearch.errors import NotFound
from evosearch.objectives import Objective
from evosearch.own import REGISTER


def parameters(model: nn.Module) -> float:
    """Trainable numbers of the network."""
    return float(sum(one.numel() for one in model.parameters() if one.requires_grad))


def _built_in(name: str) -> Callable[[nn.Module], float] | None:
    return parameters if name == "parameters" else None


def measure_of(name: str) -> Callable[[nn.Module], float] | None:
    """The function that measures that objective; None where it comes from the evaluation."""
    entry = REGISTER.find("objective", name)
    if entry is None:
        return _built_in(name)
    function: Callable[[nn.Module], float] = entry.value[1]
    return function


def goal_of(name: str) -> Objective:
    """The objective of that name, with its direction and unit.

    Raises:
        NotFound: nothing measures it.
    """
    entry = REGISTER.find("objective", name)
    if entry is not None:
        goal: Objective = entry.value[0]
        return goal
    if name == "parameters":
        return Objective("parameters", "min", "", scale=1e6)
    known = ["parameters", *(one.name for one in REGISTER.entries("objective"))]
    raise NotFound("unknown objective", expected="one of " + ", ".join(known), got=repr(name)[:60])


def measure_all(goals: Iterable[Objective], model: nn.Module, anchor: str) -> dict[str, float]:
    """Objective -> score, of those that are measured on the network.

    Raises:
        ValueError: a measure is not finite.
    """
    found = {}
    for goal in goals:
        measure = measure_of(goal.name)
        if measure is None:
            continue
        model.eval()
        with torch.no_grad():
            value = float(measure(model))
        model.train()
        if not math.isfinite(value):
            raise ValueError(f"objective {goal.name} on {anchor} is {value}")
        found[goal.name] = goal.score(value)
    return found
