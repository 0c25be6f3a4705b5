"""Starts the check of an anchor as a fork of the test's process, which has torch loaded already.

It does what a new interpreter does, in milliseconds: a session of its own, a pipe, and its end.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import IO, Any


@dataclass
class Forked:
    """A forked process as `api.anchor_check` takes it."""

    pid: int
    stdout: Any

    def wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    _code: int | None = None


def forked(wanted: dict[str, Any], noise: IO[bytes]) -> Forked:
    """The check in a fork of this process."""
    import torch

    import workers.anchor_check  # noqa: F401  loaded once, before the fork
    from api.check_child import check

    torch.set_num_threads(1)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(write, 1)
        os.dup2(noise.fileno(), 2)
        os.close(read)
        check(json.loads(json.dumps(wanted)))
    os.close(write)
    return Forked(pid, os.fdopen(read))
