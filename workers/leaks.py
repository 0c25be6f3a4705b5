"""Whether a network lets one row of a batch, or a later position, reach another: by trying it.

The input of the first training batch is changed in one place and the outputs that must not know of
it are compared. Nothing is proved where nothing is found.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workers.own_task import OwnTraining, seeded
from workers.training import Training, undisturbed

TOLERANCE = 1e-4


def leak_between(training: Training, axis: str) -> bool | None:
    """Whether a change at the end of the axis reaches outputs before it.

    ``axis``: batch or positions. None where the input of a batch is not known.
    """
    batch = training.own_batch(0) if isinstance(training, OwnTraining) else training.batch(0)
    x = _input(batch)
    if x is None or x.ndim < 2 or len(x) < 2:
        return None
    place: tuple[Any, ...] = (-1,) if axis == "batch" else (slice(None), -1)
    network = training.network.train()
    try:
        before, after = (_outputs(network, one) for one in (x, _changed(x, place)))
    except (TypeError, RuntimeError, AttributeError):
        return None
    if before is None or after is None or before.ndim < 2:
        return None
    kept = (slice(None, -1),) if axis == "batch" else (slice(None), slice(None, -1))
    if axis == "positions" and (before.ndim < 3 or before.shape[1] != x.shape[1]):
        return None
    ours, theirs = before[kept].float(), after[kept].float()
    size = max(1.0, float(ours.abs().max()))
    return not float((ours - theirs).abs().max()) <= TOLERANCE * size


def _input(batch: Any) -> Tensor | None:
    if isinstance(batch, (list, tuple)) and batch:
        batch = batch[0]
    elif isinstance(batch, dict):
        batch = next(iter(batch.values()), None)
    return batch if isinstance(batch, Tensor) else None


def _changed(x: Tensor, place: tuple[Any, ...]) -> Tensor:
    """The input with other values of its own range in that place."""
    other = x.clone()
    if x.is_floating_point():
        other[place] = other[place] + x.std() + 1.0
    else:
        low, high = int(x.min()), int(x.max())
        other[place] = torch.where(other[place] < high, other[place] + 1, low)
    return other


def _outputs(network: torch.nn.Module, x: Tensor) -> Tensor | None:
    with torch.no_grad(), undisturbed(network), seeded(0):
        found = network(x)
    return found if isinstance(found, Tensor) else None
