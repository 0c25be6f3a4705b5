"""Polarity digits: scikit-learn's 8x8 digits of either sign under noise, the quickstart's task.

Negating some images is what makes the task one for layers that normalise *and* bend: at a share
of 0 it is linear, at 0.5 nothing but a finished layer learns it, at 0.3 there is a slope to climb.
The data depend on nothing but the constants below.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workers.datasets import Dataset, SplitData

SEED = 2004_02967
NEGATED_SHARE = 0.3
NOISE_SD = 0.35
TRAIN_IMAGES, TRAIN_DRAWS = 400, 4
SELECT_IMAGES, SELECT_DRAWS = 700, 1
FINAL_DRAWS = 4


def _draw(
    images: NDArray[np.float64], labels: NDArray[np.int64], draws: int, rng: np.random.Generator
) -> SplitData:
    """``draws`` rows of each image (n, 8, 8), each with a sign and noise of its own."""
    x = np.repeat(images, draws, axis=0)
    sign = np.where(rng.random(len(x)) < NEGATED_SHARE, -1.0, 1.0)
    x = sign[:, None, None] * x + NOISE_SD * rng.standard_normal(x.shape)
    return SplitData(
        x=torch.from_numpy(x.astype(np.float32)).unsqueeze(1).contiguous(),
        y=torch.from_numpy(np.repeat(labels, draws)),
        image=torch.from_numpy(np.repeat(np.arange(len(images)), draws)),
    )


def _digits() -> NDArray[np.float64]:
    """Rows of 64 pixels from 0 to 16 and the label (1797, 65), as scikit-learn has them.

    Its file is read without the package, whose import takes a second of every training process.
    """
    found = find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.exists():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.float64)


@cache
def load() -> Dataset:
    """Train 400 images x 4 draws, select 700 x 1, final the other 697 x 4."""
    digits = _digits()
    rng = np.random.default_rng(SEED)
    digits = digits[rng.permutation(len(digits))]
    images, labels = digits[:, :-1].reshape(-1, 8, 8) / 16.0, digits[:, -1].astype(np.int64)
    train = slice(0, TRAIN_IMAGES)
    select = slice(TRAIN_IMAGES, TRAIN_IMAGES + SELECT_IMAGES)
    final = slice(TRAIN_IMAGES + SELECT_IMAGES, None)
    return Dataset(
        name="polarity-digits",
        num_classes=10,
        train=_draw(images[train], labels[train], TRAIN_DRAWS, rng),
        select=_draw(images[select], labels[select], SELECT_DRAWS, rng),
        final=_draw(images[final], labels[final], FINAL_DRAWS, rng),
    )


ENTRY = load
