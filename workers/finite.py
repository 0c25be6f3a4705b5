"""Ends a training whose loss is not finite, without making a GPU wait for it.

On a CPU every loss is looked at as it comes. On a GPU reading one would stop the host until the
device is done, so every few steps a flag is copied beside the work, and read once it has arrived.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

EVERY = 20
"""Steps between two looks on a GPU."""


class Watch(Protocol):
    """``losses``: (steps,) of a training, of which the first ``step`` are there."""

    def finite(self, losses: Tensor, step: int) -> bool:
        """False once a loss is known not to be finite; True may come too early."""


class EachStep:
    """For a CPU, where a loss lies in this process's own memory."""

    def finite(self, losses: Tensor, step: int) -> bool:
        """Whether the latest loss is finite."""
        return math.isfinite(losses[step - 1].item())


Copied = Callable[[], bool]
"""Whether a copy has arrived."""


def copy_aside(flag: Tensor) -> tuple[Tensor, Copied]:
    """A copy of the flag in the host's memory, and how to ask whether it has arrived."""
    there = torch.empty(flag.shape, dtype=flag.dtype, pin_memory=True)
    there.copy_(flag, non_blocking=True)
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return there, event.query


class NowAndThen:
    """For a GPU: asks every few steps and reads the answer when it is there, never waiting.

    ``copy``: starts a copy to the host's memory beside the work.
    """

    def __init__(self, copy: Callable[[Tensor], tuple[Tensor, Copied]] = copy_aside) -> None:
        self._copy = copy
        self._asked: tuple[Tensor, Copied] | None = None
        self._from = 0

    def finite(self, losses: Tensor, step: int) -> bool:
        """False once an answer has come that a loss is not finite."""
        if self._asked is not None and self._asked[1]():
            flag, self._asked = self._asked[0], None
            if not bool(flag):
                return False
        if self._asked is None and step - self._from >= EVERY:
            self._asked = self._copy(losses[self._from : step].isfinite().all())
            self._from = step
        return True


def watch(device: torch.device) -> Watch:
    """The way to look that fits the device."""
    return NowAndThen() if device.type == "cuda" else EachStep()
