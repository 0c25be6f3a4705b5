"""From arrays of images to a `Dataset`: layout, splits, and the statistics that standardise bytes.

Whatever is read from files goes through here, so that every source has the same splits: *final* is
the published test set where there is one, *select* is held out of the training images by a seed of
its own. This file must not read files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evosearch.errors import ConfigError
from workers.datasets import Dataset, SplitData

SEED = 1010
HELD_OUT = 0.1
"""Share of the training images for a split that the source does not give."""

Images = NDArray[Any]
Labels = NDArray[np.int64]


def channels_first(x: Images, where: str) -> Images:
    """Images (n, h, w), (n, h, w, c) or (n, c, h, w) as (n, c, h, w), bytes or float32.

    Raises:
        ConfigError: another rank, no channels axis of 1, 3 or 4, or numbers that are not finite.
    """
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or 0 in x.shape:
        raise ConfigError(
            f"{where}: not images",
            expected="shape (n, h, w), (n, h, w, c) or (n, c, h, w)",
            got=str(x.shape),
        )
    if x.shape[1] not in (1, 3, 4):
        if x.shape[3] not in (1, 3, 4):
            raise ConfigError(
                f"{where}: no axis of channels", expected="1, 3 or 4 channels", got=str(x.shape)
            )
        x = x.transpose(0, 3, 1, 2)
    if x.dtype != np.uint8:
        x = np.asarray(x, np.float32)
        if not np.isfinite(x).all():
            raise ConfigError(f"{where}: a pixel is not finite", hint="clean the data first")
    return np.ascontiguousarray(x)


def rows(x: Images, y: Labels) -> SplitData:
    """A split of which every row is an image of its own."""
    return SplitData(
        torch.from_numpy(np.require(x, requirements=["C", "W"])),
        torch.from_numpy(y),
        torch.arange(len(y)),
    )


def build(
    name: str,
    train: tuple[Images, Labels],
    select: tuple[Images, Labels] | None,
    final: tuple[Images, Labels] | None,
    num_classes: int,
    select_rows: int | None = None,
) -> Dataset:
    """The data set; a split that is missing is held out of the training images.

    ``select_rows``: how many rows are held out for *select*; by default a tenth. Rows of *train*
    and *select* are shuffled once by a fixed seed, so that any first part of a split is a sample.
    """
    rng = np.random.default_rng(SEED)
    x, y = train
    order = rng.permutation(len(y))
    share = max(1, round(HELD_OUT * len(y)))
    if final is None:
        final, order = (x[order[:share]], y[order[:share]]), order[share:]
    if select is None:
        count = min(select_rows or share, len(order) - 1)
        select, order = (x[order[:count]], y[order[:count]]), order[count:]
    x, y = x[order], y[order]
    mean, std = _statistics(x)
    return Dataset(
        name=name,
        num_classes=num_classes,
        train=rows(x, y),
        select=rows(*select),
        final=rows(*final),
        mean=mean,
        std=std,
    )


def _statistics(x: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of bytes divided by 255; nothing for floats."""
    if x.dtype != np.uint8:
        return (), ()
    counts = [
        np.bincount(x[:, channel].reshape(-1), minlength=256) for channel in range(x.shape[1])
    ]
    values = np.arange(256) / 255.0
    means = [float((count * values).sum() / count.sum()) for count in counts]
    squares = [float((count * values**2).sum() / count.sum()) for count in counts]
    spreads = [max((s - m * m) ** 0.5, 1e-3) for s, m in zip(squares, means, strict=True)]
    return tuple(round(m, 6) for m in means), tuple(round(s, 6) for s in spreads)
