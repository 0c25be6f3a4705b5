"""Behavioural identity: graphs that compute the same function get the same short text.

A fingerprint is for finding duplicates. It must not judge whether a graph is any good, and it is
never the only evidence that two layers are equal where that would be costly to get wrong.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np

from primitives.graph import Graph
from primitives.probe import (
    Array,
    Inputs,
    Response,
    at_initial_values,
    evaluation_moments,
    make_inputs,
    respond,
)

FINGERPRINT_VERSION = "f1"
"""Prefix of every fingerprint; fingerprints of different versions are not comparable."""

STEPS = 1e6 / 1.0347391
"""Rounding steps from zero to the largest magnitude: six digits; no simple ratio is on an edge."""

NOISE = 1e-12
"""Magnitudes below this count as zero; for gradients, below this times the value's magnitude."""

PROBES = (
    make_inputs(7001, (4, 6, 9), 3, (1.0,)),
    make_inputs(7002, (3, 4, 2), 2, (1.0,)),
)
"""Shapes (4, 6, 3, 3) in three groups of two and (3, 4, 1, 2) in two, with random v0 and v1: group,
instance and sample, and groups of different sizes, give different values."""

INITIAL_PROBES = tuple(map(at_initial_values, PROBES))
"""The same inputs at the initial v0, v1 and further vectors."""

_STEP = np.dtype("<i8")
_SIGN_WEIGHTS = make_inputs(7003, (4, 6, 9), 3, (1.0,)).x


def fingerprint(graph: Graph, *, modulo_affine: bool = False) -> str:
    """Hash of the graph's rounded values and gradients on fixed probes, e.g. ``f1:0c9a...``.

    Training mode and, where it differs from that, evaluation mode; gradients with respect to x, v0
    and v1. ``modulo_affine``: graphs that differ in sign or scale only are the same, because the
    affine that follows every layer makes up for it.
    """
    state = hashlib.sha256(FINGERPRINT_VERSION.encode())
    factor: float | None = None if modulo_affine else 1.0
    with np.errstate(all="ignore"):
        for inputs in PROBES:
            training = respond(graph, inputs)
            if factor is None:
                factor = _unit(training.value)
            answer = _rounded(training, inputs, factor)
            state.update(answer)
            moments = evaluation_moments(graph, training)
            if moments is not None:
                evaluated = _rounded(respond(graph, inputs, moments), inputs, factor)
                if evaluated != answer:
                    state.update(evaluated)
    kind = FINGERPRINT_VERSION + ("a" if modulo_affine else "")
    return f"{kind}:{state.hexdigest()[:32]}"


def initial_fingerprint(graph: Graph) -> str:
    """Hash of the graph at the initial v0 = 0 and v1 = 1, up to sign and scale, e.g. ``f1i:77...``.

    Training mode; gradients with respect to x alone. Layers that share it begin every training as
    the same network, and differ by what v0 and v1 learn.
    """
    state = hashlib.sha256(FINGERPRINT_VERSION.encode())
    factor: float | None = None
    with np.errstate(all="ignore"):
        for inputs, response in zip(INITIAL_PROBES, _initial(graph), strict=True):
            if factor is None:
                factor = _unit(response.value)
            response = response._replace(
                gradients=(response.gradients[0], None, None), by_vector={}
            )
            state.update(_rounded(response, inputs, factor))
    return f"{FINGERPRINT_VERSION}i:{state.hexdigest()[:32]}"


def initial_response(graph: Graph) -> Array | None:
    """The output at the initial v0 = 0 and v1 = 1 as a unit vector, up to an affine a channel.

    The product of two is the correlation of the layers' outputs on the probe, in training mode.

    Returns:
        None where the output is not finite, or constant in each channel.
    """
    parts = []
    with np.errstate(all="ignore"):
        for inputs, found in zip(INITIAL_PROBES, _initial(graph), strict=True):
            value = np.broadcast_to(found.value, inputs.x.shape)
            floor = NOISE * max(1.0, float(np.abs(value).max()))
            value = value - value.mean(axis=(1, 3), keepdims=True)
            scale = np.sqrt(np.square(value).mean(axis=(1, 3), keepdims=True))
            parts.append(np.where(scale > floor, value / scale, 0.0).ravel())
        response = np.concatenate(parts)
        length = float(np.sqrt(np.square(response).sum()))
    return response / length if NOISE < length < np.inf else None


@lru_cache(maxsize=8)  # who asks for one identity asks for the other
def _initial(graph: Graph) -> tuple[Response, ...]:
    """What the graph answers to `INITIAL_PROBES`; the caller silences numpy's warnings."""
    return tuple(respond(graph, inputs) for inputs in INITIAL_PROBES)


def _unit(value: Array) -> float:
    """Factor that takes away sign and scale; the sign is that of a random projection."""
    scale = float(np.abs(value).max())
    if not NOISE < scale < np.inf:
        return 1.0
    projection = float((value * _SIGN_WEIGHTS).sum())
    return (1.0 if projection >= 0.0 else -1.0) / scale


def _rounded(response: Response, inputs: Inputs, factor: float) -> bytes:
    value = response.value * factor
    magnitude = float(np.abs(value).max())
    parts = [_digits(value, inputs.x.shape, NOISE)]
    floor = NOISE * max(1.0, magnitude) if magnitude < np.inf else NOISE
    shapes = (inputs.x.shape, inputs.v0.shape, inputs.v1.shape)
    for gradient, shape in zip(response.gradients, shapes, strict=True):
        parts.append(
            _nothing(shape) if gradient is None else _digits(gradient * factor, shape, floor)
        )
    shape = inputs.v0.shape
    unused = _nothing(shape)
    for name, own in sorted(response.by_vector.items()):
        digits = _digits(own * factor, shape, floor)
        parts += [name.encode(), digits] if digits != unused else []
    return b"".join(parts)


def _nothing(shape: tuple[int, ...]) -> bytes:
    """The digits of zeros."""
    return bytes(_STEP.itemsize * (math.prod(shape) + 1))


def _digits(values: Array, shape: tuple[int, ...], floor: float) -> bytes:
    """Six digits relative to the largest finite magnitude, and that magnitude, as bytes.

    ``shape``: what the values are broadcast to.
    """
    scale = float(np.abs(values).max())
    odd = np.zeros(0)
    if not scale < np.inf:
        values = np.broadcast_to(values, shape)
        finite = np.isfinite(values)
        odd = np.where(np.isnan(values), 2.0, np.sign(values)) * ~finite
        odd = np.where(finite, 0.0, odd)
        values = np.where(finite, values, 0.0)
        scale = float(np.abs(values).max())
    if scale <= floor:
        return _nothing(shape) + odd.astype(_STEP).tobytes()
    # The offset keeps zero and its rounding noise away from the edge between two steps.
    steps = np.empty(shape, _STEP)
    steps[...] = np.floor(values * (STEPS / scale) + 0.371)
    level = np.floor(np.log([scale]) * STEPS + 0.371)
    return b"".join(part.astype(_STEP).tobytes() for part in (steps, level, odd))
