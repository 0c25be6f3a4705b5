"""A data set that a user registered: arrays or tensors of images with classes, in any layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from evosearch.errors import PluginError
from evosearch.own import Entry
from workers.datasets import Dataset
from workers.datasets._arrays import build, channels_first
from workers.latest import PLUGIN_VERSIONS, Latest

SPLITS = ("train", "select", "final")
_KNOWN = Latest[Dataset](PLUGIN_VERSIONS)


def load_own(entry: Entry) -> Dataset:
    """What the user's function returns, with the splits that are missing held out of *train*.

    Raises:
        PluginError: it is no data set; the error says what is missing.
    """
    return _KNOWN.of(entry.name, entry, lambda: _load(entry))


def _load(entry: Entry) -> Dataset:
    found = entry.value()
    if not isinstance(found, dict) or "train" not in found:
        raise PluginError(
            f"data set {entry.name} returns no splits", where=entry.where,
            expected='{"train": (x, y), ...}', got=type(found).__name__,
        )  # fmt: skip
    parts = {name: _split(found[name], entry, name) for name in SPLITS if name in found}
    classes = found.get("num_classes") or 1 + max(int(y.max()) for _, y in parts.values())
    return build(entry.name, parts["train"], parts.get("select"), parts.get("final"), int(classes))


def _split(pair: Any, entry: Entry, name: str) -> tuple[Any, Any]:
    try:
        x, y = (np.asarray(one) for one in pair)
    except (TypeError, ValueError) as err:
        raise PluginError(
            f"split {name} of {entry.name} is no pair", where=entry.where, expected="(x, y)",
            got=str(err)[:100],
        ) from err  # fmt: skip
    if len(x) != len(y) or y.ndim != 1 or not len(y):
        raise PluginError(
            f"split {name} of {entry.name}: images and classes do not fit", where=entry.where,
            expected="one class an image", got=f"{x.shape} and {y.shape}",
        )  # fmt: skip
    return channels_first(x, f"{entry.name}, {name}"), y.astype(np.int64)
