"""A user's own images in one ``.npz`` file: ``x_train``, ``y_train``, and more splits if wanted.

``x_select``/``y_select`` (or ``val``) and ``x_final``/``y_final`` (or ``test``) are taken where
they are given. Pickled objects in the file are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evosearch.errors import ConfigError
from workers.datasets import Dataset, data_root
from workers.datasets._arrays import Images, Labels, build, channels_first
from workers.latest import Latest

WORDS = {"train": ("train",), "select": ("select", "val"), "final": ("final", "test")}
_KNOWN = Latest[Dataset]()


def load_npz(name: str) -> Dataset:
    """The data set in that file; a relative name is looked for in the data folder.

    Raises:
        ConfigError: the file is missing, broken, or holds no labelled images.
    """
    path = Path(name)
    if not path.is_absolute():
        path = data_root(name) / name
    if not path.is_file():
        raise ConfigError(
            "a data file is missing", expected=f"file {path.name}",
            got=f"no such file in folder {path.parent}", hint="put it there",
        )  # fmt: skip
    return _KNOWN.of(path, path.stat().st_mtime_ns, lambda: _load(str(path)))


def _load(path: str) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as err:
        raise ConfigError(
            f"cannot read {path}", expected="an .npz file of plain arrays", got=str(err)[:120]
        ) from err
    train = _split(arrays, "train", path)
    if train is None:
        raise ConfigError(
            f"{path} holds no training images", expected="arrays x_train and y_train",
            got=", ".join(arrays) or "no arrays",
        )  # fmt: skip
    select, final = (_split(arrays, split, path) for split in ("select", "final"))
    shapes = {part[0].shape[1:] for part in (train, select, final) if part is not None}
    if len(shapes) > 1:
        raise ConfigError(f"{path}: images of several shapes", got=", ".join(map(str, shapes)))
    classes = 1 + max(int(part[1].max()) for part in (train, select, final) if part is not None)
    return build(Path(path).stem, train, select, final, classes)


def _split(
    arrays: Mapping[str, NDArray[Any]], split: str, path: str
) -> tuple[Images, Labels] | None:
    for word in WORDS[split]:
        x, y = arrays.get(f"x_{word}"), arrays.get(f"y_{word}")
        if x is None and y is None:
            continue
        if x is None or y is None or y.size != len(x) or not len(x):
            raise ConfigError(
                f"{path}: x_{word} and y_{word} belong together",
                expected="one label for each image, and at least one",
                got=f"{0 if x is None else len(x)} images, {0 if y is None else y.size} labels",
            )
        labels = y.reshape(-1)
        if labels.dtype.kind not in "iu" or labels.min() < 0:
            raise ConfigError(
                f"{path}: y_{word} holds no classes", expected="integers from 0 on",
                got=f"{labels.dtype}, smallest {labels.min()}",
            )  # fmt: skip
        return channels_first(x, f"{path}, x_{word}"), labels.astype(np.int64)
    return None
