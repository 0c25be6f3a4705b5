"""Fashion-MNIST: photographs of clothes at the micro size, read from idx files in a folder.

It is there to judge on data that nothing was tuned on; no default may use it.
"""

from __future__ import annotations

from functools import cache

from workers.datasets import Dataset
from workers.datasets._idx import load_micro


@cache
def load() -> Dataset:
    """Train 2,000, select 2,000, final 5,000 images of 14x14, values 0 to 1."""
    return load_micro("fashion-mnist")


ENTRY = load
