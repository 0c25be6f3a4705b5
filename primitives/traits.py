"""How a layer behaves in a deep network, as a few numbers that cost less than a millisecond.

They are measured on a small fixed probe in numpy, so they say nothing of data or training: how the
spread of the output and the gradient grow with the input, what the output looks like, what becomes
of channels that differ, and what is left of a signal, of a small change of it and of the difference
between two examples after several such layers with random maps between them. This file decides
nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        seen = _centred(value)
        return (*_plain(seen, slope), *_shape(seen, slope), *_uneven(seen), *_deep(graph))


class _Seen(NamedTuple):
    """Values about their means: ``means`` (P, C) over batch and space, and ``spread`` (P,), the
    standard deviation within channels."""

    values: Array
    means: Array
    spread: Array

    def at(self, rows: slice) -> _Seen:
        """Those of some probes."""
        return _Seen(*(each[rows] for each in self))


def _plain(seen: _Seen, slope: Array) -> tuple[float, ...]:
    spread = _log(seen.spread)
    steep = _log(np.sqrt(_mean(np.square(slope), (1, 2, 3))))
    small, middle, large = (float(_mean(spread[rows], 0)) for rows in _AT)
    low, slope_of_one, high = (float(_mean(steep[rows], 0)) for rows in _AT)
    return (
        middle, middle - small, large - middle,
        low, slope_of_one, high, slope_of_one - low, high - slope_of_one,
    )  # fmt: skip


def _shape(seen: _Seen, slope: Array) -> tuple[float, ...]:
    one, large = seen.at(_AT[1]), seen.at(_AT[2])
    steepness = np.abs(slope[_AT[1]])
    flat = steepness < FLAT * np.sqrt(_mean(np.square(steepness), None))
    return (
        _correlation(one, _X_AT_ONE), _correlation(one, _ABS_AT_ONE),
        _correlation(large, _ABS_AT_LARGE),
        float(_mean(flat, None)), _peak(one), _off_centre(one),
    )  # fmt: skip


def _uneven(seen: _Seen) -> tuple[float, ...]:
    uneven = seen.at(_UNEVEN)
    by_channel = _log(np.sqrt(_mean(np.square(uneven.values), (1, 3))))
    return _off_centre(uneven), float(_mean(by_channel.std(axis=1), 0))


def _deep(graph: Graph) -> tuple[float, ...]:
    deep = _DEEP.x
    for weight in _MAPS:
        mixed = np.einsum("pncs,cd->pnds", deep, weight)
        deep = np.broadcast_to(value_of(graph, _DEEP._replace(x=mixed)), mixed.shape)
    plain, changed = deep[: len(deep) // 2], deep[len(deep) // 2 :]
    seen = _centred(plain)
    change = np.sqrt(_mean(np.square(changed - plain), (1, 2, 3)))
    apart = _mean(_mean(plain, 3).std(axis=1), 1)
    return (
        float(_mean(_log(seen.spread), 0)), _peak(seen),
        float(_mean(_log(change / seen.spread / CHANGE), 0)),
        float(_mean(_log(apart / seen.spread), 0)),
    )  # fmt: skip


def _centred(value: Array) -> _Seen:
    means = _mean(value, (1, 3))
    values = value - means[:, None, :, None]
    return _Seen(values, means, np.sqrt(_mean(np.square(values), (1, 2, 3))))


def _peak(seen: _Seen) -> float:
    highest = np.maximum.reduce(np.abs(seen.values), axis=(1, 2, 3))
    return float(_mean(_log(highest / seen.spread), 0))


def _off_centre(seen: _Seen) -> float:
    return float(_mean(_log(_mean(np.abs(seen.means), 1) / seen.spread), 0))


def _correlation(one: _Seen, other: Array) -> float:
    """Within channels with a centred array, -1 to 1; 0 where there is none."""
    a, b = one.values, other
    found = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    return found if np.isfinite(found) else 0.0


def _mean(values: Array | NDArray[np.bool_], axis: int | tuple[int, ...] | None) -> Array:
    """As numpy's own, in half the time: there are many for each graph, of few numbers each."""
    total: Array = np.add.reduce(values, axis=axis, dtype=np.float64)
    return total / (values.size / total.size)


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
_X_AT_ONE = _centred(_PROBE.x[_AT[1]]).values
_ABS_AT_ONE, _ABS_AT_LARGE = (_centred(np.abs(_PROBE.x[rows])).values for rows in _AT[1:])
_START = at_initial_values(make_inputs(20263, _SHAPE, 2, (1.0,)))
_DEEP: Inputs = _START._replace(
    x=np.concatenate([_START.x, _START.x + CHANGE * _RNG.standard_normal(_START.x.shape)])
)
