"""How a layer behaves in a deep network, as a few numbers that cost less than a millisecond.

They are measured on a small fixed probe in numpy, so they say nothing of data or training: how the
spread of the output and the gradient grow with the input, what the output looks like, what becomes
of channels that differ, and what is left of a signal, of a small change of it and of the difference
between two examples after several such layers with random maps between them. This file decides
nothing.
"""

from __future__ import annotations

import numpy as np

from primitives.graph import Graph
from primitives.probe import Array, Inputs, at_initial_values, make_inputs, respond, value_of

TRAITS_VERSION = 1
"""Changes with the probe or with a rule below: what was learnt of older traits is then void."""
SCALES = (0.1, 1.0, 10.0)
"""Standard deviations of the inputs."""
DEPTH = 4
"""Layers in a row, each after a random map of the channels."""
CHANGE = 0.03
"""Standard deviation of the small change of an input."""
FLAT = 0.02
"""Where a gradient's absolute value is below this share of its root mean square, it is flat."""
_LEAST, _MOST = 1e-12, 1e12
_SHAPE = (8, 8, 16)

TRAITS = (
    "log_std", "growth_from_small", "growth_to_large",
    "log_gradient_at_small", "log_gradient", "log_gradient_at_large",
    "gradient_growth_from_small", "gradient_growth_to_large",
    "like_x", "like_abs", "like_abs_at_large", "flat_share", "log_peak", "log_mean",
    "log_mean_uneven", "std_uneven",
    "log_std_deep", "log_peak_deep", "log_change_deep", "log_apart_deep",
)  # fmt: skip
"""Names of the numbers in their order; those that begin with log or tell of growth are natural
logarithms or differences of such."""


def traits(graph: Graph) -> tuple[float, ...]:
    """The `TRAITS` of a graph at the initial v0 = 0 and v1 = 1; all of them are finite.

    Standard deviations are over batch and space within a channel, the gradient is that of a random
    projection of the output with respect to ``x``; ``small`` and ``large`` are the first and last
    of `SCALES`, growth is from one scale to the next. ``like_x`` and ``like_abs`` are correlations
    of the output with the input and with its absolute value. A peak is the largest absolute value,
    and a mean that of the channels' absolute means, over the standard deviation. ``uneven`` inputs
    have channels of different scales and means; ``std_uneven`` is the standard deviation over the
    output's channels of their log standard deviations. After `DEPTH` layers, ``change`` is what
    became of a small change of the input, over that change, and ``apart`` how far the examples'
    means differ; both over the standard deviation. What is not finite counts as very large.
    """
    with np.errstate(all="ignore"):
        found = respond(graph, _PROBE)
        value = np.broadcast_to(found.value, _PROBE.x.shape)
        by_x = found.gradients[0]
        slope = np.broadcast_to(np.zeros(1) if by_x is None else by_x, _PROBE.x.shape)
        return (*_plain(value, slope), *_shape(value, slope), *_uneven(value[_UNEVEN]),
                *_deep(graph))  # fmt: skip


def _plain(value: Array, slope: Array) -> tuple[float, ...]:
    spread = _log(_spread(value))
    steep = _log(np.sqrt(np.square(slope).mean(axis=(1, 2, 3))))
    small, middle, large = (float(spread[rows].mean()) for rows in _AT)
    low, slope_of_one, high = (float(steep[rows].mean()) for rows in _AT)
    return (
        middle, middle - small, large - middle,
        low, slope_of_one, high, slope_of_one - low, high - slope_of_one,
    )  # fmt: skip


def _shape(value: Array, slope: Array) -> tuple[float, ...]:
    one, large = _AT[1], _AT[2]
    steepness = np.abs(slope[one])
    flat = steepness < FLAT * np.sqrt(np.square(steepness).mean())
    return (
        _correlation(value[one], _PROBE.x[one]),
        _correlation(value[one], np.abs(_PROBE.x[one])),
        _correlation(value[large], np.abs(_PROBE.x[large])),
        float(flat.mean()),
        _peak(value[one]), _mean(value[one]),
    )  # fmt: skip


def _uneven(value: Array) -> tuple[float, ...]:
    by_channel = _log(np.sqrt(np.square(_centred(value)).mean(axis=(1, 3))))
    return _mean(value), float(by_channel.std(axis=1).mean())


def _deep(graph: Graph) -> tuple[float, ...]:
    deep = _DEEP.x
    for weight in _MAPS:
        mixed = np.einsum("pncs,cd->pnds", deep, weight)
        deep = np.broadcast_to(value_of(graph, _DEEP._replace(x=mixed)), mixed.shape)
    plain, changed = deep[: len(deep) // 2], deep[len(deep) // 2 :]
    end = _spread(plain)
    change = np.sqrt(np.square(changed - plain).mean(axis=(1, 2, 3)))
    apart = plain.mean(axis=3).std(axis=1).mean(axis=1)
    return (
        float(_log(end).mean()), _peak(plain),
        float(_log(change / end / CHANGE).mean()), float(_log(apart / end).mean()),
    )  # fmt: skip


def _centred(value: Array) -> Array:
    centred: Array = value - value.mean(axis=(1, 3), keepdims=True)
    return centred


def _spread(value: Array) -> Array:
    """Standard deviation within channels of each probe (P,)."""
    spread: Array = np.sqrt(np.square(_centred(value)).mean(axis=(1, 2, 3)))
    return spread


def _peak(value: Array) -> float:
    return float(_log(np.abs(_centred(value)).max(axis=(1, 2, 3)) / _spread(value)).mean())


def _mean(value: Array) -> float:
    return float(_log(np.abs(value.mean(axis=(1, 3))).mean(axis=1) / _spread(value)).mean())


def _correlation(value: Array, other: Array) -> float:
    """Within channels, -1 to 1; 0 where there is none."""
    a, b = _centred(value), _centred(other)
    found = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    return found if np.isfinite(found) else 0.0


def _log(values: Array) -> Array:
    found: Array = np.log(np.clip(np.where(np.isnan(values), _MOST, values), _LEAST, _MOST))
    return found


def _scaled(inputs: Inputs, uneven: Array) -> Inputs:
    """The same values at every scale, one after the other, and then the uneven ones."""
    scaled = [scale * inputs.x for scale in SCALES]
    return inputs._replace(
        x=np.concatenate([*scaled, uneven]),
        cotangent=np.concatenate([inputs.cotangent] * (len(SCALES) + 1)),
    )


_RNG = np.random.RandomState(20262)
_MAPS = [_RNG.standard_normal((_SHAPE[1],) * 2) / np.sqrt(_SHAPE[1]) for _ in range(DEPTH)]
_CHANNELS = (1, 1, _SHAPE[1], 1)
_ONE = at_initial_values(make_inputs(20261, _SHAPE, 2, (1.0,)))
_PROBE: Inputs = _scaled(
    _ONE, _ONE.x * np.exp(0.8 * _RNG.standard_normal(_CHANNELS)) + _RNG.standard_normal(_CHANNELS)
)
_AT = [slice(len(_ONE.x) * at, len(_ONE.x) * (at + 1)) for at in range(len(SCALES))]
_UNEVEN = slice(len(_ONE.x) * len(SCALES), None)
_START = at_initial_values(make_inputs(20263, _SHAPE, 2, (1.0,)))
_DEEP: Inputs = _START._replace(
    x=np.concatenate([_START.x, _START.x + CHANGE * _RNG.standard_normal(_START.x.shape)])
)
