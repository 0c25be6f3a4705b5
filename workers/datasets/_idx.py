"""Reader of idx files (gzip), the form of MNIST and its successors, in full and at a micro size.

The micro size exists so that a second, independent data set trains as fast as the quickstart's:
28x28 images become 14x14 by averaging 2x2 blocks, and each split is a fixed subset.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evosearch.errors import ConfigError
from workers.datasets import Dataset, SplitData, data_file
from workers.datasets._arrays import build, channels_first

SEED = 1998
TRAIN, SELECT, FINAL = 2_000, 2_000, 5_000


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of unsigned bytes in a gzipped idx file.

    Raises:
        ConfigError: the file is cut off, or no idx file of bytes.
    """
    try:
        with gzip.open(path, "rb") as file:
            data = file.read()
    except (EOFError, OSError, zlib.error) as err:
        raise _broken(path, str(err)) from err
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise _broken(path, f"a file that starts with {data[:4]!r}")
    rank = data[3]
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=rank, offset=4))
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
    if body.size != int(np.prod(shape)):
        raise _broken(path, f"{body.size} bytes for shape {shape}")
    return body.reshape(shape)


def _broken(path: Path, got: str) -> ConfigError:
    return ConfigError(
        f"cannot read {path}",
        expected="a gzipped idx file of bytes",
        got=got[:80],
        hint="fetch it again",
    )


def _rows(images: NDArray[np.uint8], labels: NDArray[np.uint8], chosen: Any) -> SplitData:
    x = images[chosen].astype(np.float32) / 255.0
    n, height, width = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return SplitData(
        x=torch.from_numpy(x).unsqueeze(1).contiguous(),
        y=torch.from_numpy(labels[chosen].astype(np.int64)),
        image=torch.arange(n),
    )


def read_all(name: str) -> list[NDArray[np.uint8]]:
    """Training images and labels, test images and labels of the idx data set in folder ``name``.

    Raises:
        ConfigError: a file is missing or broken.
    """
    return [
        read_idx(data_file(name, f"{part}.gz"))
        for part in (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        )
    ]


def load_full(folder: str) -> Dataset:
    """All images of the idx data set in that folder, 28x28 bytes as published.

    A tenth of the published training images is *select*; *final* is the published test set.
    """
    images, labels, test_images, test_labels = read_all(folder)
    return build(
        f"{folder}-full",
        (channels_first(images, folder), labels.astype(np.int64)),
        None,
        (channels_first(test_images, folder), test_labels.astype(np.int64)),
        num_classes=10,
    )


def load_micro(name: str) -> Dataset:
    """The micro size of the idx data set in folder ``name``: 14x14, values 0 to 1.

    Train and select come from the published training images, final from the published test
    images, drawn without replacement by a seed of their own.
    """
    images, labels, test_images, test_labels = read_all(name)
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(labels))[: TRAIN + SELECT]
    held_out = rng.permutation(len(test_labels))[:FINAL]
    return Dataset(
        name=name,
        num_classes=10,
        train=_rows(images, labels, order[:TRAIN]),
        select=_rows(images, labels, order[TRAIN:]),
        final=_rows(test_images, test_labels, held_out),
    )
