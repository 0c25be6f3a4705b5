"""Starts the check of an anchor as a fork of the test's process, and sees what is left of one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO, Any

from api import anchor_check


def forked(wanted: dict[str, Any], noise: IO[bytes]) -> anchor_check.Child:
    """The check in a fork of this process."""
    import torch

    import workers.anchor_check  # noqa: F401  loaded once, before the fork

    torch.set_num_threads(1)
    return anchor_check.forked(wanted, noise)


def in_session(leader: int) -> bool:
    """Whether a living process is in that session."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                return True
    return False
