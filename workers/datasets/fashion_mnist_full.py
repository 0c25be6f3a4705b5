"""Fashion-MNIST: all photographs of clothes, 28x28, from the same idx files as the micro size."""

from __future__ import annotations

from functools import cache

from workers.datasets import Dataset
from workers.datasets._idx import load_full


@cache
def load() -> Dataset:
    """Train 54,000, select 6,000, final 10,000 images of 28x28, bytes."""
    return load_full("fashion-mnist")


ENTRY = load
