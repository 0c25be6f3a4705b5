"""Asks the helper process, with a time limit; a helper that is late or dead is replaced.

One question at a time: the helper is for people who look at a layer, not for training.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from typing import Any

from evosearch.errors import EvosearchError, LayerError, WorkerError


class Helper:
    """The one helper of a web process, started when it is first asked."""

    def __init__(self, seconds: float, command: tuple[str, ...] | None = None) -> None:
        self._seconds = seconds
        self._command = command or (sys.executable, "-P", "-m", "api.helper_process")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._left = b""

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The helper's answer.

        Raises:
            LayerError: the layer cannot be worked on, or it took too long.
            WorkerError: the helper is busy or does not start.
        """
        deadline = time.monotonic() + self._seconds
        if not self._lock.acquire(timeout=self._seconds):
            raise WorkerError("the helper is busy", hint="try again in a moment")
        try:
            found = self._exchange(json.dumps({"do": do, **request}), deadline)
        finally:
            self._lock.release()
        if "ok" in found:
            return dict(found["ok"])
        raise _error(found)

    def close(self) -> None:
        """Ends the helper; idempotent."""
        with self._lock:
            self._stop()

    def _exchange(self, line: str, deadline: float) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            return dict(json.loads(self._read(process, deadline)))
        except (OSError, ValueError, EOFError) as err:
            self._stop()
            raise WorkerError("the helper died", hint="try again; a new one starts") from err
        except TimeoutError as err:
            self._stop()
            raise LayerError(
                "this layer takes too long to work on", expected=f"{self._seconds:g} s at most",
                hint="a smaller graph is faster",
            ) from err  # fmt: skip

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._left = b""
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                env=_environment(), start_new_session=True,
            )  # fmt: skip
        return self._process

    def _read(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._left:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                part = os.read(process.stdout.fileno(), 65_536)
                if not part:
                    raise EOFError
                self._left += part
        line, _, self._left = self._left.partition(b"\n")
        return line

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


def _environment() -> dict[str, str]:
    """This process's, with the places its modules came from: the folder at hand is none of them."""
    from pathlib import Path

    root = str(Path(__file__).resolve().parents[1])
    threads = {"OMP_NUM_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(
        [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    )}  # fmt: skip


def _error(found: dict[str, Any]) -> EvosearchError:
    from evosearch import errors

    kind = getattr(errors, str(found.get("kind")), LayerError)
    made: EvosearchError = kind(str(found.get("error")))
    return made
