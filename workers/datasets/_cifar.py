"""CIFAR-10 and CIFAR-100 from the official files, in the binary or the python layout.

Either layout gives the same rows in the same order; a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evosearch.errors import ConfigError
from workers.datasets import Dataset, data_root
from workers.datasets._arrays import build
from workers.datasets._unpickle import read_batch

PIXELS = 3 * 32 * 32
SELECT_ROWS = 5_000
"""Held out of the 50,000 training images; *final* is the published test set."""

Rows = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load_cifar(
    name: str,
    classes: int,
    binary: tuple[str, Sequence[str], str],
    python: tuple[str, Sequence[str], str],
    label_bytes: int,
    label_key: str,
) -> Dataset:
    """The data set from whichever layout is there.

    ``binary``, ``python``: folder, files of the training images, file of the test images.
    ``label_bytes``: bytes of labels before the pixels of a binary record; the last one counts.
    """
    folder, is_binary = _folder(name, binary, python)
    _, parts, test = binary if is_binary else python

    def read(file: str) -> Rows:
        path = folder / file
        return _binary(path, label_bytes) if is_binary else _python(path, label_key)

    batches = [read(part) for part in parts]
    train = (np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches]))
    final = read(test)
    for x, y in (train, final):
        if len(x) != len(y) or y.min() < 0 or y.max() >= classes:
            raise ConfigError(
                f"broken labels in {folder}", expected=f"{len(x)} labels below {classes}",
                got=f"{len(y)} labels up to {y.max()}",
            )  # fmt: skip
    return build(name, train, None, final, classes, min(SELECT_ROWS, len(train[1]) // 4))


def _folder(
    name: str, binary: tuple[str, Sequence[str], str], python: tuple[str, Sequence[str], str]
) -> tuple[Path, bool]:
    """The first folder that has all files, below the data folder or below its folder ``name``."""
    root = data_root(name)
    for parent in (root, root / name):
        for layout, is_binary in ((binary, True), (python, False)):
            folder, parts, test = layout
            if all((parent / folder / file).is_file() for file in (*parts, test)):
                return parent / folder, is_binary
    folder, parts, test = binary
    missing = [f for f in (*parts, test) if not (root / folder / f).is_file()]
    raise ConfigError(
        f"files of {name} are missing",
        expected=f"{', '.join(missing)} in {root / folder}, or the python layout in "
        f"{root / python[0]}",
        got="no such files",
        hint=f"evosearch data fetch {name}",
    )


def _binary(path: Path, label_bytes: int) -> Rows:
    data = np.fromfile(path, np.uint8)
    if not data.size or data.size % (PIXELS + label_bytes):
        raise ConfigError(
            f"cannot read {path}",
            expected=f"records of {PIXELS + label_bytes} bytes",
            got=f"{data.size} bytes",
            hint="fetch it again",
        )
    records = data.reshape(-1, PIXELS + label_bytes)
    labels = records[:, label_bytes - 1].astype(np.int64)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def _python(path: Path, label_key: str) -> Rows:
    batch = read_batch(path)
    pixels, labels = batch.get("data"), batch.get(label_key)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise ConfigError(f"cannot read {path}", expected=f"data of shape (n, {PIXELS})")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ConfigError(f"cannot read {path}", expected=f"a list of integers under {label_key}")
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, np.int64)
