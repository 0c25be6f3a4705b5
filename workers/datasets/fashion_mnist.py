"""Fashion-MNIST: photographs of clothes at the micro size, read from idx files in a folder.

It is there to judge on data of another kind; no default trains on it. The quickstart's signal
bounds were fitted on it beside polarity digits, so a study that judges by it must take other ones.
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
