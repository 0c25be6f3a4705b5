"""Data sets as tensors: one file a data set; ``ENTRY`` is a function that loads it.

All rows of a split lie in one tensor on the device, and batches are made by indexing there. Besides
the named data sets there are two forms for a user's own: ``FILE.npz`` and ``folder:NAME``. Nothing
here may draw from a global random state or download anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from evosearch.errors import ConfigError
from evosearch.own import REGISTER
from workers.data_dir import DATA_DIR_VARIABLE
from workers.registry import Registry

EMBEDDED: dict[str, Literal["image", "text"]] = {"polarity-digits": "image"}
"""Data that needs no file of the data folder, with its kind."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images (n, c, h, w) -> images (n, c, h', w'), drawn anew for each training batch."""


@dataclass(frozen=True, slots=True)
class SplitData:
    """The rows of one split.

    Shapes:
        x: (n, channels, height, width), float32 or uint8; of texts (n, length), uint8, symbols.
        y: (n,), int64, the class; of texts (n, length), uint8, each position's next symbol.
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
    """The three splits of a task. ``augment``: applied to training batches, on the device.

    ``mean``, ``std``: per channel, of the training images divided by 255; for bytes only.
    """

    name: str
    num_classes: int
    train: SplitData
    select: SplitData
    final: SplitData
    augment: Augment | None = None
    kind: Literal["image", "text"] = "image"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of an image; of texts the number of symbols."""
        return self.train.x.shape[1] if self.kind == "image" else self.num_classes

    def prepare(self, x: Tensor) -> Tensor:
        """Rows as a network takes them: bytes become standardised floats, symbols int64.

        Floats are returned as they are.
        """
        if x.dtype != torch.uint8:
            return x
        if self.kind == "text":
            return x.long()
        shift, scale = _standard(self.mean, self.std, x.device)
        return (x.float() - shift) / scale

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on another device."""
        return replace(
            self,
            train=self.train.to(device),
            select=self.select.to(device),
            final=self.final.to(device),
        )


@cache
def _standard(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """What bytes are shifted and divided by; kept, for making it would stop a GPU's stream."""
    shape = (1, -1, 1, 1)
    shift, scale = (255.0 * torch.tensor(one, device=device).view(shape) for one in (mean, std))
    return shift, scale


Loader = Callable[[], Dataset]


class _Datasets(Registry[Loader]):
    """The named data sets, those of users, and the forms ``FILE.npz`` and ``folder:NAME``."""

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*super().names(), *(e.name for e in REGISTER.entries("dataset"))}))

    def get(self, name: str) -> Loader:
        if name.endswith(".npz"):
            from workers.datasets._npz import load_npz

            return partial(load_npz, name)
        if name.startswith("folder:"):
            from workers.datasets._folder import load_folder

            return partial(load_folder, name.removeprefix("folder:"))
        entry = REGISTER.find("dataset", name)
        if entry is not None:
            from workers.datasets._own import load_own

            return partial(load_own, entry)
        return super().get(name)


DATASETS: Registry[Loader] = _Datasets("data set", __name__)


def load(name: str, device: torch.device | str = "cpu") -> Dataset:
    """The data set of that name on the device.

    Raises:
        NotFound: there is no such data set.
        ConfigError: its files are missing or broken.
    """
    return DATASETS.get(name)().to(device)


def data_root(what: str) -> Path:
    """The data folder (option ``--data-dir``, setting ``EVOSEARCH_DATA_DIR``).

    Raises:
        ConfigError: it is not set, or is no folder. ``what`` says what was looked for.
    """
    root = os.environ.get(DATA_DIR_VARIABLE)
    if not root:
        raise ConfigError(
            f"{what} is read from files, and no data folder is set",
            hint=f"give --data-dir DIR or set {DATA_DIR_VARIABLE} to the folder that holds it",
        )
    if not Path(root).is_dir():
        raise ConfigError(
            "the data folder does not exist", got=root, hint=f"make it, or change --data-dir or "
            f"{DATA_DIR_VARIABLE}",
        )  # fmt: skip
    return Path(root)


def data_file(folder: str, name: str) -> Path:
    """The path of a data file below the data folder.

    Raises:
        ConfigError: the setting or the file is missing; the error names file and folder.
    """
    path = data_root(f"{folder}/{name}") / folder / name
    if not path.is_file():
        raise ConfigError(
            "a data file is missing",
            expected=f"file {name}",
            got=f"no such file in folder {path.parent}",
            hint=f"put it there, or run: evosearch data fetch {folder}",
        )
    return path
