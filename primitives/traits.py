"""How a layer behaves in a deep network, as a few numbers that cost less than a millisecond.

They are measured on a small fixed probe in numpy, so they say nothing of data or training: how the
spread of the output and the gradient grow with the input, and what is left of a signal after
several such layers with random maps between them. This file decides nothing.
"""

from __future__ import annotations

import numpy as np

from primitives.graph import Graph
from primitives.probe import Array, Inputs, at_initial_values, make_inputs, respond, value_of

SCALES = (0.1, 1.0, 10.0)
"""Standard deviations of the inputs."""
DEPTH = 4
"""Layers in a row, each after a random map of the channels."""
_LEAST, _MOST = 1e-12, 1e12
_SHAPE = (8, 8, 16)

TRAITS = (
    "log_std", "growth_from_small", "growth_to_large",
    "log_gradient_at_small", "log_gradient", "log_gradient_at_large",
    "gradient_growth_from_small", "gradient_growth_to_large",
    "log_std_deep", "log_peak_deep",
)  # fmt: skip
"""Names of the numbers, natural logarithms or differences of such, in their order."""


def traits(graph: Graph) -> tuple[float, ...]:
    """The `TRAITS` of a graph at the initial v0 = 0 and v1 = 1; all of them are finite.

    Standard deviations are over batch and space within a channel, the gradient is that of a random
    projection of the output with respect to ``x``; ``small`` and ``large`` are the first and last
    of `SCALES`, growth is from one scale to the next. A deep peak is the largest absolute value
    over the standard deviation after `DEPTH` layers. What is not finite counts as very large.
    """
    with np.errstate(all="ignore"):
        found = respond(graph, _PROBE)
        spread = _log(_spread(np.broadcast_to(found.value, _PROBE.x.shape)))
        slope = np.zeros(1) if found.gradients[0] is None else found.gradients[0]
        slope = np.broadcast_to(slope, _PROBE.x.shape)
        steep = _log(np.sqrt(np.square(slope).mean(axis=(1, 2, 3))))
        deep = _DEEP.x
        for weight in _MAPS:
            mixed = np.einsum("pncs,cd->pnds", deep, weight)
            deep = np.broadcast_to(value_of(graph, _DEEP._replace(x=mixed)), mixed.shape)
        end = _spread(deep)
        peak = np.abs(deep - deep.mean(axis=(1, 3), keepdims=True)).max(axis=(1, 2, 3)) / end
    small, middle, large = spread.reshape(len(SCALES), -1).mean(axis=1).tolist()
    low, slope_of_one, high = steep.reshape(len(SCALES), -1).mean(axis=1).tolist()
    return (
        middle, middle - small, large - middle,
        low, slope_of_one, high, slope_of_one - low, high - slope_of_one,
        float(_log(end).mean()), float(_log(peak).mean()),
    )  # fmt: skip


def _spread(value: Array) -> Array:
    """Standard deviation within channels of each probe (P,)."""
    centred = value - value.mean(axis=(1, 3), keepdims=True)
    spread: Array = np.sqrt(np.square(centred).mean(axis=(1, 2, 3)))
    return spread


def _log(values: Array) -> Array:
    found: Array = np.log(np.clip(np.where(np.isnan(values), _MOST, values), _LEAST, _MOST))
    return found


def _maps() -> list[Array]:
    rng = np.random.RandomState(20262)
    channels = _SHAPE[1]
    return [rng.standard_normal((channels, channels)) / np.sqrt(channels) for _ in range(DEPTH)]


def _scaled(inputs: Inputs) -> Inputs:
    """The same values at every scale, one after the other."""
    return inputs._replace(
        x=np.concatenate([scale * inputs.x for scale in SCALES]),
        cotangent=np.concatenate([inputs.cotangent for _ in SCALES]),
    )


_PROBE: Inputs = _scaled(at_initial_values(make_inputs(20261, _SHAPE, 2, (1.0,))))
_DEEP: Inputs = at_initial_values(make_inputs(20263, _SHAPE, 2, (1.0,)))
_MAPS = _maps()
