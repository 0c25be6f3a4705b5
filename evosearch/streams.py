"""Independent random streams, one per purpose and number, from one seed.

Ids of searches never enter, so a cloned config repeats. Only `random.Random.random` is used of a
stream: its sequence for a seed is promised by Python across versions, those of its other methods
are not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

PURPOSES = {
    "propose": 1, "audit": 2, "train": 3, "report": 4, "origin": 5, "table": 6, "share": 7,
    "surrogate": 8, "choice": 9,
}  # fmt: skip
"""Purpose -> first number of the spawn key; a number is never given to another purpose."""

SEED_PURPOSES = {
    "search": 0, "remeasure": 1, "confirm": 2, "tune": 3, "final": 4, "rerank tune": 5,
    "rerank final": 6, "study": 7,
}  # fmt: skip
"""Purpose of a training -> its own range of seeds.

Baselines share the search's seeds, and at its end the confirmation's."""


def stream(seed: int, purpose: str, number: int) -> random.Random:
    """The random stream of that purpose and number; streams of other numbers are independent.

    Source: numpy's ``SeedSequence(seed, spawn_key=(purpose, number))``.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES[purpose], number))
    return random.Random(sequence.generate_state(2, np.uint64).tobytes())


def evaluation_seed(seed: int, purpose: str, index: int) -> int:
    """The training seed (0 to 2**31 - 1) of the index-th measurement for that purpose.

    All layers of a search share it: the same initial weights and the same order of batches, so
    that differences are the layers' own.
    """
    key = (PURPOSES["train"], SEED_PURPOSES[purpose], index)
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint32)
    return int(state[0]) >> 1


def below(rng: random.Random, count: int) -> int:
    """A uniform integer from 0 to ``count - 1``."""
    return int(rng.random() * count)


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """A uniform member of a non-empty sequence."""
    return items[int(rng.random() * len(items))]


def sample(rng: random.Random, items: Sequence[T], count: int) -> list[T]:
    """``count`` distinct members in random order (all of them where there are fewer)."""
    pool = list(items)
    count = min(count, len(pool))
    for index in range(count):
        other = index + below(rng, len(pool) - index)
        pool[index], pool[other] = pool[other], pool[index]
    return pool[:count]
