"""A second, independent look for functional duplicates: torch in float64, other inputs and shapes.

It shares nothing with the fingerprint but the interpreter's definition of meaning, and compares
responses with a tolerance instead of hashing rounded ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from primitives.graph import Graph
from primitives.interpret import batch_moments_of, interpret
from primitives.ops import VECTORS


class Case(NamedTuple):
    """(N, C, H, W), groups of two channels, scale and shift of the input, scale of the vectors.

    ``uneven``: channels and samples differ in scale a hundredfold, so that statistics over
    different axes change places in a maximum. ``initial``: vectors as every training begins.
    """

    shape: tuple[int, int, int, int]
    groups: int
    scale: float = 1.0
    shift: float = 0.0
    vectors: float = 1.0
    uneven: bool = False
    initial: bool = False


CASES = (
    Case((5, 8, 3, 2), 4), Case((3, 6, 2, 4), 3), Case((4, 8, 4, 4), 4, 0.1, initial=True),
    Case((4, 8, 4, 4), 4, 5.0), Case((3, 6, 2, 4), 3, shift=2.0), Case((3, 6, 2, 4), 3, shift=-2.0),
    Case((5, 8, 3, 2), 4, uneven=True), Case((3, 6, 2, 4), 3, 0.1, 0.1, 10.0, uneven=True),
)  # fmt: skip
"""A branch of a maximum that is never taken in one of them is taken in another."""

TOLERANCE = 1e-9


def responses(graph: Graph) -> np.ndarray:
    """Outputs and input gradients in training and evaluation mode, as one float64 vector."""
    generator = torch.Generator().manual_seed(20_26)
    parts: list[torch.Tensor] = []
    for case in CASES:
        shape, groups = case.shape, case.groups
        x, other = (
            case.shift + case.scale * torch.randn(shape, generator=generator, dtype=torch.float64)
            for _ in "ab"
        )
        if case.uneven:
            x, other = x * _uneven(shape), other * _uneven(shape)
        v0, v1 = (
            case.vectors * torch.randn(shape[1], generator=generator, dtype=torch.float64)
            for _ in "ab"
        )
        if case.vectors > 1.0:  # large and of one sign, so that a mean over them is large as well
            v0, v1 = v0.abs(), v1.abs()
        if case.initial:
            v0, v1 = torch.zeros_like(v0), torch.ones_like(v1)
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        vectors = {
            name: torch.randn(shape[1], generator=generator, dtype=torch.float64)
            for name in VECTORS
        }
        if case.initial:
            vectors = {name: torch.full_like(v0, VECTORS[name]) for name in VECTORS}
        moments = batch_moments_of(graph, other, v0, v1, groups=groups, vectors=vectors)
        for mode in (None, moments):
            inputs = [t.clone().requires_grad_() for t in (x, v0, v1, *vectors.values())]
            own = dict(zip(vectors, inputs[3:], strict=True))
            y = interpret(graph, *inputs[:3], groups=groups, batch_moments=mode, vectors=own)
            gradients = torch.autograd.grad((y * weight).sum(), inputs, allow_unused=True)
            parts.append(y.detach())
            parts += [
                torch.zeros_like(i) if g is None else g
                for i, g in zip(inputs, gradients, strict=True)
            ]
    return torch.cat([part.flatten() for part in parts]).nan_to_num(nan=7e77).numpy()


def _uneven(shape: tuple[int, int, int, int]) -> torch.Tensor:
    """A factor for each sample and channel, up and down."""
    samples = 10.0 ** torch.linspace(-1, 1, shape[0], dtype=torch.float64)
    channels = 10.0 ** (torch.arange(shape[1], dtype=torch.float64) % 3 - 1)
    return samples[:, None, None, None] * channels[:, None, None]


def equal_pairs(graphs: Mapping[int, Graph]) -> list[tuple[int, int]]:
    """Pairs of births whose graphs respond alike, within a relative tolerance."""
    births = list(graphs)
    if len(births) < 2:
        return []
    matrix = np.stack([responses(graphs[birth]) for birth in births])
    order = np.argsort(matrix[:, 0], kind="stable")
    pairs = []
    for place, index in enumerate(order):
        for other in order[place + 1 :]:
            first, second = matrix[index], matrix[other]
            if second[0] - first[0] > TOLERANCE * max(1.0, abs(first[0])):
                break
            if np.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE):
                pairs.append((births[index], births[other]))
    return pairs
