"""A user's own images in folders: one folder a class, below ``train`` (and ``test``) or at once.

Images are read by Pillow, made RGB, and brought to one square size: the shorter side is scaled to
it and the middle is cut out. The size is 32, or what ``NAME@SIZE`` says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evosearch.errors import ConfigError
from workers.datasets import Dataset, data_root
from workers.datasets._arrays import Images, Labels, build
from workers.latest import Latest

SIZE = 32
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
SPLITS = {"select": ("select", "val"), "final": ("final", "test")}
_KNOWN = Latest[Dataset]()


def load_folder(name: str) -> Dataset:
    """The data set in that folder (``NAME`` or ``NAME@SIZE``) of the data folder.

    Raises:
        ConfigError: there is no such folder, no class in it, or an image that cannot be read.
    """
    folder, at, size = name.partition("@")
    if at and not (size.isascii() and size.isdigit() and 4 <= int(size) <= 1024):
        raise ConfigError(
            "bad image size", expected="folder:NAME@SIZE, SIZE from 4 to 1024", got=name
        )
    path = Path(folder)
    if not path.is_absolute():
        path = data_root(f"folder {folder}") / folder
    if not path.is_dir():
        raise ConfigError(
            "a data folder is missing", expected=f"a folder with one folder a class: {path}",
            got="no such folder",
        )  # fmt: skip
    side = int(size) if at else SIZE
    return _KNOWN.of((path, side), _changed(path), lambda: _load(path, side))


def _changed(path: Path) -> tuple[int, ...]:
    """When files last came to or left any folder up to two below; an edited image is not seen."""
    folders = [path, *sorted(path.glob("*/")), *sorted(path.glob("*/*/"))]
    return tuple(one.stat().st_mtime_ns for one in folders)


def _load(path: Path, size: int) -> Dataset:
    base = path / "train" if (path / "train").is_dir() else path
    classes = sorted(entry.name for entry in base.iterdir() if entry.is_dir())
    if len(classes) < 2:
        raise ConfigError(
            f"no classes in {base}", expected="two folders or more, one a class",
            got=", ".join(classes) or "none",
        )  # fmt: skip
    held: dict[str, tuple[Images, Labels] | None] = {"select": None, "final": None}
    if base != path:
        for split, words in SPLITS.items():
            found = next((path / word for word in words if (path / word).is_dir()), None)
            held[split] = None if found is None else _read(found, classes, size)
    train = _read(base, classes, size)
    return build(path.name, train, held["select"], held["final"], len(classes))


def _read(base: Path, classes: list[str], size: int) -> tuple[Images, Labels]:
    files = [
        (file, number)
        for number, name in enumerate(classes)
        for file in sorted((base / name).rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise ConfigError(f"no images below {base}", expected=", ".join(sorted(SUFFIXES)))
    images = np.stack([_image(file, size) for file, _ in files])
    return images.transpose(0, 3, 1, 2), np.array([number for _, number in files], np.int64)


def _image(file: Path, size: int) -> Images:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (size, size))
            return np.asarray(fitted, np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as err:
        raise ConfigError(f"cannot read {file}", expected="an image", got=str(err)[:120]) from err
