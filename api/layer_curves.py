"""Response curves: what a layer makes of one element while the rest of its batch stays.

One element of a random batch is moved along x; the curve is the output there, and its gradient
with respect to that very element, at the initial v0 = 0 and v1 = 1, in training mode, without the
affine. Numpy only: it must not import torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from primitives.graph import Graph
from primitives.probe import Inputs, respond

BATCHES = ((0.0, 1.0), (0.0, 3.0), (2.0, 1.0), (-2.0, 1.0))
"""Mean and standard deviation of the batches that the element is looked at in."""
POINTS = 97
REACH = 6.0
_SHAPE = (8, 4, 64)


def response_curves(graph: Graph) -> dict[str, Any]:
    """``x`` (97,) and one curve a batch: ``mean``, ``deviation``, ``output`` and ``gradient``.

    Values that are not finite are None.
    """
    moved = np.linspace(-REACH, REACH, POINTS)
    noise = np.random.default_rng(11).normal(size=_SHAPE)
    noise -= noise.mean(axis=(0, 2), keepdims=True)  # each channel has the batch's distribution
    noise /= noise.std(axis=(0, 2), keepdims=True)
    curves = [_curve(graph, moved, mean, deviation, noise) for mean, deviation in BATCHES]
    return {"x": moved.tolist(), "curves": curves}


def _curve(graph: Graph, moved: Any, mean: float, deviation: float, noise: Any) -> dict[str, Any]:
    x = np.repeat((mean + deviation * noise)[None], POINTS, axis=0)
    x[:, 0, 0, 0] = moved
    cotangent = np.zeros_like(x)
    cotangent[:, 0, 0, 0] = 1.0
    channels = (1, 1, _SHAPE[1], 1)
    inputs = Inputs(x, np.zeros(channels), np.ones(channels), cotangent, 2)
    with np.errstate(all="ignore"):
        found = respond(graph, inputs)
        value = np.broadcast_to(found.value, x.shape)[:, 0, 0, 0]
        found_slope = found.gradients[0]
        slope = np.broadcast_to(0.0 if found_slope is None else found_slope, x.shape)
    return {
        "mean": mean, "deviation": deviation, "output": _finite(value),
        "gradient": _finite(slope[:, 0, 0, 0]),
    }  # fmt: skip


def _finite(values: Any) -> list[float | None]:
    return [float(f"{one:.6g}") if np.isfinite(one) else None for one in values.tolist()]
