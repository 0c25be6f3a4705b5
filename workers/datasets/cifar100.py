"""CIFAR-100: as CIFAR-10 with a hundred kinds (the fine labels), 600 images each.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from functools import cache

from workers.datasets import Dataset
from workers.datasets._cifar import load_cifar


@cache
def load() -> Dataset:
    """Train 45,000, select 5,000, final 10,000 images, as bytes."""
    return load_cifar(
        "cifar100",
        100,
        ("cifar-100-binary", ("train.bin",), "test.bin"),
        ("cifar-100-python", ("train",), "test"),
        label_bytes=2,
        label_key="fine_labels",
    )


ENTRY = load
