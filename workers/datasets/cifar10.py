"""CIFAR-10: 32x32 colour photographs of ten kinds of things, the paper's task.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from functools import cache

from workers.datasets import Dataset
from workers.datasets._cifar import load_cifar

_PARTS = tuple(f"data_batch_{number}" for number in range(1, 6))


@cache
def load() -> Dataset:
    """Train 45,000, select 5,000, final 10,000 images, as bytes."""
    return load_cifar(
        "cifar10",
        10,
        ("cifar-10-batches-bin", tuple(f"{part}.bin" for part in _PARTS), "test_batch.bin"),
        ("cifar-10-batches-py", _PARTS, "test_batch"),
        label_bytes=1,
        label_key="labels",
    )


ENTRY = load
