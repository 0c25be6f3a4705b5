"""A training's state in a file, so that a preempted worker's steps are not done again.

Files hold tensors and numbers only and are read without unpickling code. A checkpoint belongs to
one run of one layer: its name is a digest of both. This file must not decide when to save.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from evosearch.records import Job, Run


class Resumable(Protocol):
    """Whatever goes on from its state: a training, or several of them side by side."""

    @property
    def step(self) -> int:
        """How far it is; its state says so too."""

    def state(self) -> dict[str, Any]:
        """Everything that the rest depends on, as tensors and numbers."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            LookupError, ValueError, RuntimeError: it is no such state; nothing was changed.
        """


def checkpoint_path(folder: Path, job: Job, run: Run) -> Path:
    """Where the training of that run of the job's layer is kept."""
    layer = job.graph.to_json() if job.graph is not None else job.subject.baseline
    key = [layer, run.model_dump(mode="json"), job.task.model_dump(mode="json")]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return folder / f"{name}.pt"


def save(training: Resumable, path: Path) -> None:
    """Write the training's state; a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    torch.save(training.state(), part)
    part.replace(path)


def resume(training: Resumable, path: Path) -> bool:
    """Go on from the state in the file, if there is one that fits and is ahead; says whether."""
    if not path.is_file():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if int(state["step"]) <= training.step:
            return False
        training.restore(state)
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, EOFError,
            pickle.UnpicklingError):  # fmt: skip
        return False  # a broken file costs its steps, nothing else
    return True
