"""Data sets as tensors: one file a data set; ``ENTRY`` is a function that loads it.

All images of a split lie in one tensor on the device, and batches are made by indexing there.
Nothing here may draw from a global random state or download anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from evosearch.errors import ConfigError
from workers.registry import Registry

DATA_DIR_VARIABLE = "EVOSEARCH_DATA_DIR"

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images (n, c, h, w) -> images (n, c, h', w'), drawn anew for each training batch."""


@dataclass(frozen=True, slots=True)
class SplitData:
    """The rows of one split.

    Shapes:
        x: (n, channels, height, width), float32. y: (n,), int64, the class.
        image: (n,), int64, which image a row shows: all draws of one image share the number,
        images are numbered from 0 in each split.
    """

    x: Tensor
    y: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> SplitData:
        """The same rows on another device."""
        return SplitData(self.x.to(device), self.y.to(device), self.image.to(device))


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three splits of a task. ``augment``: applied to training batches, on the device."""

    name: str
    num_classes: int
    train: SplitData
    select: SplitData
    final: SplitData
    augment: Augment | None = None

    @property
    def channels(self) -> int:
        return self.train.x.shape[1]

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on another device."""
        return replace(
            self,
            train=self.train.to(device),
            select=self.select.to(device),
            final=self.final.to(device),
        )


Loader = Callable[[], Dataset]
DATASETS: Registry[Loader] = Registry("data set", __name__)


def load(name: str, device: torch.device | str = "cpu") -> Dataset:
    """The data set of that name on the device.

    Raises:
        NotFound: there is no such data set.
        ConfigError: its files are missing or broken.
    """
    return DATASETS.get(name)().to(device)


def data_file(folder: str, name: str) -> Path:
    """The path of a data file below the data folder (setting ``EVOSEARCH_DATA_DIR``).

    Raises:
        ConfigError: the setting or the file is missing; the error names file and folder.
    """
    root = os.environ.get(DATA_DIR_VARIABLE)
    if not root:
        raise ConfigError(
            f"the data set {folder} is read from files, and no data folder is set",
            hint=f"set {DATA_DIR_VARIABLE} to the folder that holds {folder}/{name}",
        )
    path = Path(root) / folder / name
    if not path.is_file():
        raise ConfigError(
            "a data file is missing",
            expected=f"file {name}",
            got=f"no such file in folder {path.parent}",
            hint=f"put it there, or set {DATA_DIR_VARIABLE} to another folder",
        )
    return path
