"""Tiny Shakespeare: a million characters of plays, for character transformers.

The text is cut into windows; a row's classes are the next characters. The first 90 % of the text
are *train*, the next 5 % *select*, the last 5 % *final*: windows of two splits never overlap.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from evosearch.errors import ConfigError
from workers.datasets import Dataset, SplitData, data_file

LENGTH = 64
"""Characters a window predicts."""
TRAIN_STRIDE = 16
"""Training windows overlap, so that a character is met at many positions."""


@cache
def load() -> Dataset:
    """The three splits; symbols are numbered in the order of their code points."""
    path = data_file("tinyshakespeare", "input.txt")
    text = np.frombuffer(path.read_bytes(), np.uint8)
    if len(text) < 40 * LENGTH:
        raise ConfigError(
            f"cannot read {path}", expected=f"at least {40 * LENGTH} characters",
            got=f"{len(text)}", hint="evosearch data fetch tinyshakespeare",
        )  # fmt: skip
    symbols, places = np.unique(text, return_inverse=True)
    numbers = places.astype(np.uint8)
    first, second = int(0.9 * len(text)), int(0.95 * len(text))
    return Dataset(
        name="tinyshakespeare",
        num_classes=len(symbols),
        train=windows(numbers[:first], TRAIN_STRIDE),
        select=windows(numbers[first:second], LENGTH),
        final=windows(numbers[second:], LENGTH),
        kind="text",
    )


def windows(numbers: NDArray[np.uint8], stride: int) -> SplitData:
    """Rows of `LENGTH` symbols, each ``stride`` after the one before, and their next symbols."""
    cut = np.lib.stride_tricks.sliding_window_view(numbers, LENGTH + 1)[::stride]
    return SplitData(
        x=torch.from_numpy(cut[:, :-1].copy()),
        y=torch.from_numpy(cut[:, 1:].copy()),
        image=torch.arange(len(cut)),
    )


ENTRY = load
