"""Reader of the pickled batches of CIFAR's python layout that runs no foreign code.

A pickle may call whatever it names. Those files name three things of numpy, and each of them is
met by a stand-in here; every other name is refused, so that numpy itself is never called either.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evosearch.errors import ConfigError


class _Kind:
    """Stands for ``numpy.dtype``; bytes are the only kind."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"an array of {code!r}, expected bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: of no meaning for bytes."""


class _Array:
    """Stands for ``numpy.ndarray``: collects shape and content."""

    value: NDArray[np.uint8]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array that does not hold bytes")
        flat = np.frombuffer(content, np.uint8)
        self.value = flat.reshape(tuple(shape), order="F" if fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except LookupError:
            raise pickle.UnpicklingError(f"the file names {module}.{name}") from None


def read_batch(path: Path) -> dict[str, Any]:
    """The dictionary of a batch file: keys as text, arrays as arrays of bytes.

    Raises:
        ConfigError: the file is broken, or names anything that such a file has no need of.
    """
    try:
        with path.open("rb") as file:
            content = _Reader(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"a {type(content).__name__}, expected a dictionary")
        return {
            key.decode() if isinstance(key, bytes) else str(key): (
                value.value if isinstance(value, _Array) else value
            )
            for key, value in content.items()
        }
    except (
        pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, AttributeError,
        IndexError, LookupError, ImportError, MemoryError, OverflowError,
    ) as err:  # fmt: skip
        raise ConfigError(
            f"cannot read {path}",
            expected="a batch of CIFAR's python layout",
            got=f"{type(err).__name__}: {err}"[:120],
            hint="fetch it again from the official address",
        ) from err
