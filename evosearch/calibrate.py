"""What a proxy task can tell apart: figures of known good layers over seeds, and advice.

A search learns from differences between layers; where the seeds' noise is as large, one seed says
nothing. Pure functions of arrays; this file must not train anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
"""Shape (layers, seeds)."""

POINT = 0.01
Z = 1.96
UNSTEADY = 5.0
"""Medians of the layers' seed noise that make a layer unsteady. Normal noise of equal size exceeds
that once in some 1,400 layers of two seeds, and practically never with more."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """``between``: standard deviation of the layers' true means (the seeds' part taken out);
    ``noise``: of a layer's seeds; ``seeds``: seeds a layer that resolve one point at 95 %;
    ``correlation``: Spearman's, of mean scores with the longer task; NaN where it is undefined.
    ``longer_ratio``: what `ratio` is there; NaN where it had fewer than two seeds."""

    between: float
    noise: float
    seeds: int
    correlation: float
    longer_ratio: float = float("nan")

    @property
    def ratio(self) -> float:
        """Between-layer over seed-noise standard deviation."""
        return self.between / self.noise if self.noise > 0 else float("inf")


def calibrate(scores: Scores, longer: Scores | None = None) -> Calibration:
    """The figures of one anchor, or of the mean of all.

    Shapes: ``scores`` (layers, seeds), ``longer`` (layers, any number of seeds).

    Source: one-way analysis of variance; the number of seeds from the normal approximation of the
    difference of two means.
    """
    layers, seeds = scores.shape
    if layers < 2 or seeds < 2:
        raise ValueError(f"two layers and two seeds at least, got {scores.shape}")
    noise = float(np.sqrt(scores.var(axis=1, ddof=1).mean()))
    spread = float(scores.mean(axis=1).var(ddof=1)) - noise**2 / seeds
    needed = max(1, int(np.ceil(2 * (Z * noise / POINT) ** 2)))
    correlation = there = float("nan")
    if longer is not None:
        correlation = spearman(scores.mean(axis=1), longer.mean(axis=1))
        there = calibrate(longer).ratio if longer.shape[1] > 1 else there
    return Calibration(float(np.sqrt(max(0.0, spread))), noise, needed, correlation, there)


def unsteady(scores: Scores) -> list[int]:
    """Rows of the layers that fail with some seeds: their noise is far above the others'.

    Shape (layers, seeds).
    """
    noise = scores.std(axis=1, ddof=1)
    return [int(row) for row in np.flatnonzero(noise > UNSTEADY * np.median(noise))]


def spearman(a: Scores, b: Scores) -> float:
    """Rank correlation of two vectors; equal values share their mean rank. NaN if one is constant.

    Shapes: (n,), (n,).
    """
    ranks = [_ranks(values) for values in (a, b)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Scores) -> Scores:
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2.0, np.float64)


def advice(found: Calibration, failing: Sequence[str] = ()) -> list[str]:
    """What to do about it, a sentence each. ``failing``: names of the unsteady layers."""
    said = []
    if failing:
        said.append(
            f"{', '.join(failing)} fail with some seeds, and that is most of the noise: a lower "
            "learning rate may steady them"
        )
    if found.ratio < 1:
        said.append(
            "one seed does not rank these layers: use more seeds, more steps or more select rows"
        )
    elif found.ratio < 2:
        said.append("one seed ranks them roughly: confirm with fresh seeds before believing a lead")
    else:
        said.append("one seed tells these layers apart")
    said.append(f"a difference of one point takes {found.seeds} seeds a layer")
    if found.correlation == found.correlation:  # not NaN
        if found.correlation < 0.5 and found.longer_ratio < 1:
            said.append(
                "the longer task's seeds differ more than its layers do: how it ranks them says "
                "little, and more of --longer-seeds says more"
            )
        elif found.correlation < 0.5:
            said.append("the longer task ranks them otherwise: this proxy may mislead a search")
        else:
            said.append("the longer task ranks them much alike")
    return said
