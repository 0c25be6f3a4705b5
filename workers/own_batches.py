"""Batches of whatever ``data(ctx)`` returns: tensors, a data set, or batches made by the user.

Rows of tensors lie on the device and are batched by index; what the user iterates is taken in the
user's order, again from the start when it ends. A step's batch depends on the seed and the step
alone, whatever was read before. This file must not know what a batch means.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from evosearch.errors import PluginError

SCORE_ROWS = 512
"""Rows of one batch of an evaluation."""


class Batches(Protocol):
    """One split of a task."""

    def order(self, steps: int, seed: int) -> Any:
        """Which rows each step takes."""

    def at(self, order: Any, step: int) -> Any:
        """The batch of that step."""

    def all(self) -> Iterator[Any]:
        """Every row once, in order, for an evaluation."""


def batches_of(data: Any, batch_size: int, device: torch.device, what: str, where: str) -> Batches:
    """The batches of what the user returned.

    Raises:
        PluginError: nothing of it can be iterated or indexed, or it is empty.
    """
    tensors = _tensors(data, device)
    if tensors is not None:
        count = {len(one) for one in _leaves(tensors)}
        if len(count) != 1 or 0 in count:
            raise PluginError(
                f"{what} returns tensors of unequal or no rows", where=where,
                got=", ".join(str(tuple(one.shape)) for one in _leaves(tensors)),
            )  # fmt: skip
        return _Rows(tensors, count.pop(), batch_size)
    if isinstance(data, Iterator):
        raise PluginError(
            f"{what} returns an iterator that can be read only once", where=where,
            expected="tensors, a list of batches, or an object to iterate again and again",
        )  # fmt: skip
    is_rows = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if is_rows and not isinstance(data, (Sequence, Mapping)) and not hasattr(data, "batch_size"):
        if not len(data):
            raise PluginError(f"{what} returns no rows", where=where)
        return _Dataset(data, batch_size, device)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping)):
        return _Given(data, device, what, where)
    raise PluginError(
        f"{what} returns nothing that can be batched", where=where,
        expected="a tensor, a tuple or dict of tensors, a data set or batches",
        got=type(data).__name__,
    )  # fmt: skip


def _tensors(data: Any, device: torch.device) -> Any:
    """The data with all leaves as tensors on the device; None if they are no rows of tensors."""
    if isinstance(data, Tensor):
        return data.to(device)
    if isinstance(data, np.ndarray):
        return torch.from_numpy(data).to(device)
    plain = isinstance(data, (tuple, Mapping))
    if not plain or not data:
        return None
    values = data.values() if isinstance(data, Mapping) else data
    if not all(isinstance(one, (Tensor, np.ndarray)) and one.ndim > 0 for one in values):
        return None
    moved = [_tensors(one, device) for one in values]
    return dict(zip(data, moved, strict=True)) if isinstance(data, Mapping) else _like(data, moved)


def _leaves(data: Any) -> list[Tensor]:
    if isinstance(data, Tensor):
        return [data]
    return list(data.values()) if isinstance(data, Mapping) else list(data)


def _rows(data: Any, rows: Any) -> Any:
    if isinstance(data, Tensor):
        return data[rows]
    if isinstance(data, Mapping):
        return {name: one[rows] for name, one in data.items()}
    return _like(data, [one[rows] for one in data])


def _like(given: Any, parts: list[Any]) -> Any:
    """The parts in a list, tuple or named tuple as they were given."""
    return type(given)(*parts) if hasattr(given, "_fields") else type(given)(parts)


def batch_order(rows: int, batch_size: int, steps: int, seed: int) -> Tensor:
    """Row indices of each step's batch, epoch after epoch, each a fresh permutation.

    Shapes: (steps, batch_size), int64. A batch may reach into the next epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    needed = steps * batch_size
    epochs = [torch.randperm(rows, generator=generator) for _ in range(-(-needed // rows))]
    return torch.cat(epochs)[:needed].view(steps, batch_size)


class _Rows:
    """Rows of tensors on the device."""

    def __init__(self, data: Any, count: int, batch_size: int) -> None:
        self._data, self._count, self._size = data, count, batch_size

    def order(self, steps: int, seed: int) -> Tensor:
        order = batch_order(self._count, self._size, steps, seed)
        return order.to(_leaves(self._data)[0].device)

    def at(self, order: Tensor, step: int) -> Any:
        return _rows(self._data, order[step])

    def all(self) -> Iterator[Any]:
        for start in range(0, self._count, SCORE_ROWS):
            yield _rows(self._data, slice(start, start + SCORE_ROWS))


class _Dataset:
    """A data set of torch's kind, with a length and rows by index."""

    def __init__(self, data: Any, batch_size: int, device: torch.device) -> None:
        self._data, self._size, self._device = data, batch_size, device

    def order(self, steps: int, seed: int) -> Tensor:
        return batch_order(len(self._data), self._size, steps, seed)

    def at(self, order: Tensor, step: int) -> Any:
        return self._batch(order[step].tolist())

    def all(self) -> Iterator[Any]:
        for start in range(0, len(self._data), self._size):
            yield self._batch(range(start, min(start + self._size, len(self._data))))

    def _batch(self, rows: Iterable[int]) -> Any:
        from torch.utils.data import default_collate

        return to_device(default_collate([self._data[row] for row in rows]), self._device)


@dataclass(slots=True)
class _Reading:
    """How far one training has read: the step of ``batch``, and the rest of its epoch.

    ``first``: the batch of step 0, which the checks ask for again and again.
    """

    seed: int
    step: int = -1
    epoch: int = -1
    rest: Iterator[Any] | None = None
    batch: Any = None
    first: Any = None


class _Given:
    """Batches that the user makes, in the user's order."""

    def __init__(self, data: Iterable[Any], device: torch.device, what: str, where: str) -> None:
        self._data, self._device = data, device
        self._what, self._where = what, where
        if getattr(data, "persistent_workers", False):
            raise PluginError(
                f"{what} returns batches that can be read by one reader only", where=where,
                expected="a DataLoader without persistent_workers",
            )  # fmt: skip

    def order(self, steps: int, seed: int) -> _Reading:
        """Where one training stands; it shares nothing with another's but the data."""
        return _Reading(seed)

    def at(self, order: _Reading, step: int) -> Any:
        """The batch of that step; batches come in order, and an earlier step begins anew."""
        if step == 0 and order.first is not None:
            return order.first
        if step < order.step:
            order.step, order.epoch, order.rest = -1, -1, None
        while order.step < step:
            self._next(order)
        return order.batch

    def all(self) -> Iterator[Any]:
        count = 0
        for batch in self._fresh(0):
            count += 1
            yield to_device(batch, self._device)
        if not count:
            raise PluginError(f"{self._what} returns no batches", where=self._where)

    def _fresh(self, seed: int) -> Iterator[Any]:
        """The data from their start; a loader's own generator would go on where it was."""
        for generator in _generators(self._data):
            generator.manual_seed(seed)
        return iter(self._data)

    def _next(self, order: _Reading) -> None:
        order.step += 1
        for _ in range(2):
            # What shuffles or augments draws from the step's own seed, also at a second reading.
            if order.rest is not None:
                with seeded(_mixed(order.seed, 1, order.step)):
                    found = next(order.rest, _END)
                if found is not _END:
                    order.batch = to_device(found, self._device)
                    if order.step == 0:
                        order.first = order.batch
                    return
            order.epoch += 1
            seed = _mixed(order.seed, 0, order.epoch)
            with seeded(seed):
                order.rest = self._fresh(seed)
        raise PluginError(f"{self._what} returns no batches", where=self._where)


_END = object()


def _mixed(seed: int, *numbers: int) -> int:
    return int(np.random.SeedSequence((seed, *numbers)).generate_state(1, np.uint64)[0]) >> 1


def _generators(data: Any) -> list[torch.Generator]:
    """The random generators that a torch loader and its samplers were given."""
    sampler = getattr(data, "sampler", None)
    inner = getattr(getattr(data, "batch_sampler", None), "sampler", None)
    found = (getattr(one, "generator", None) for one in (data, sampler, inner))
    return [one for one in found if isinstance(one, torch.Generator)]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it torch, numpy and random draw from the seed; afterwards they are as before."""
    python, array = random.getstate(), np.random.get_state()
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if used else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device, whatever holds them."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: to_device(one, device) for name, one in batch.items()}
    if isinstance(batch, (list, tuple)):
        return _like(batch, [to_device(one, device) for one in batch])
    return batch
