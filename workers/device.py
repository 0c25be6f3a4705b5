"""Which device a worker computes on, and in which precision: the one place that asks torch.

Without a GPU everything runs on the CPU through the same code.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from evosearch.config import Task
from evosearch.errors import ConfigError


def choose(name: str = "auto") -> torch.device:
    """The device of that name; auto: the first GPU that this process may use, else the CPU.

    Raises:
        ConfigError: it is not there, or torch knows no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise ConfigError("unknown device", expected="auto, cpu or cuda", got=name) from err
    if device.type not in ("cpu", "cuda"):
        raise ConfigError("unknown device", expected="auto, cpu or cuda", got=name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "no GPU that torch can use", expected="cpu", got=name,
            hint="install a torch build with CUDA, or let the device be chosen: auto",
        )  # fmt: skip
    return device


def precision(task: Task, device: torch.device) -> torch.dtype:
    """The type of matrix products on that device."""
    if task.precision != "auto":
        chosen: torch.dtype = getattr(torch, task.precision)
        return chosen
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context in which a network is called."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)
