"""A second, independent look for functional duplicates: torch in float64, other inputs and shapes.

It shares nothing with the fingerprint but the interpreter's definition of meaning, and compares
responses with a tolerance instead of hashing rounded ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from primitives.graph import Graph
from primitives.interpret import batch_moments_of, interpret

SHAPES = (
    ((5, 8, 3, 2), 4, 1.0, 0.0), ((3, 6, 2, 4), 3, 1.0, 0.0), ((4, 8, 4, 4), 4, 0.1, 0.0),
    ((4, 8, 4, 4), 4, 5.0, 0.0), ((3, 6, 2, 4), 3, 1.0, 2.0), ((3, 6, 2, 4), 3, 1.0, -2.0),
)  # fmt: skip
"""(N, C, H, W), the number of groups, each of two channels, and scale and shift of the input: a
branch of a maximum that is never taken at one scale is taken at another."""

TOLERANCE = 1e-9


def responses(graph: Graph) -> np.ndarray:
    """Outputs and input gradients in training and evaluation mode, as one float64 vector."""
    generator = torch.Generator().manual_seed(20_26)
    parts: list[torch.Tensor] = []
    for shape, groups, scale, shift in SHAPES:
        x, other = (
            shift + scale * torch.randn(shape, generator=generator, dtype=torch.float64)
            for _ in "ab"
        )
        v0, v1 = (torch.randn(shape[1], generator=generator, dtype=torch.float64) for _ in "ab")
        if scale < 1.0:  # as every training begins
            v0, v1 = torch.zeros_like(v0), torch.ones_like(v1)
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        moments = batch_moments_of(graph, other, v0, v1, groups=groups)
        for mode in (None, moments):
            inputs = [t.clone().requires_grad_() for t in (x, v0, v1)]
            y = interpret(graph, *inputs, groups=groups, batch_moments=mode)
            gradients = torch.autograd.grad((y * weight).sum(), inputs, allow_unused=True)
            parts.append(y.detach())
            parts += [
                torch.zeros_like(i) if g is None else g
                for i, g in zip(inputs, gradients, strict=True)
            ]
    return torch.cat([part.flatten() for part in parts]).nan_to_num(nan=7e77).numpy()


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
