"""What other searches learnt of layers, for a search that has learnt nothing yet.

``experience.npz`` holds, of candidates of searches on the quickstart's task, the traits and how far
they came: the rank from 0 to 1 among those that were trained to the end, 0 for who fell at a check
or a hurdle. No graph is in it: what a search is told is how good layers behave, not which they are.
``tests/benchmarks/study_experience.py`` makes it and says how much it is worth elsewhere.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evosearch.errors import ConfigError
from primitives.traits import TRAITS, TRAITS_VERSION

SHIPPED = Path(__file__).with_name("experience.npz")


class Experience(NamedTuple):
    """Traits (n, len(TRAITS)) of candidates, and their worth (n,) from 0 to 1."""

    traits: NDArray[np.float32]
    worth: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        told: dict[str, Any] = {"names": np.array(TRAITS), "version": np.array(TRAITS_VERSION)}
        np.savez_compressed(path, **self._asdict(), **told)


def load(path: Path = SHIPPED) -> Experience:
    """The experience in a file.

    Raises:
        ConfigError: it was made with other traits.
    """
    with np.load(path, allow_pickle=False) as found:
        known = (tuple(found["names"].tolist()), int(found["version"]))
        if known != (TRAITS, TRAITS_VERSION):
            raise ConfigError(
                "experience of other traits", where=str(path), expected=f"version {TRAITS_VERSION}",
                got=f"version {known[1]}", hint="python -m tests.benchmarks.study_experience",
            )  # fmt: skip
        return Experience(found["traits"], found["worth"])


@cache
def shipped() -> Experience:
    """The experience that comes with the package; read when it is first asked for."""
    return load()
