"""Tries a user's own anchor in a process of its own, and ends that whatever happens.

What the child tells is passed on as it comes. A child that is silent for too long is killed with
everything it has started, and its last known line is the answer.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from api.process_tree import end_supervised
from evosearch.errors import PluginError


class Child(Protocol):
    """A process that leads a session of its own and writes to a pipe."""

    pid: int
    stdout: Any

    def wait(self) -> int: ...


Start = Callable[[dict[str, Any], IO[bytes]], Child]
"""Makes the process that does what is wanted, with its errors in the file."""


@dataclass(slots=True)
class Checked:
    """What came of it. ``error``: the one line that says why it failed.

    ``elsewhere``: its process died, and not at a line of the user's.
    """

    result: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    elsewhere: bool = False

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Findings that are faults."""
        return [one for one in self.findings if one["ok"] is False]


def check_anchor(
    reference: str,
    *,
    seeds: int = 2,
    steps: int | None = None,
    seconds: float = 300.0,
    device: str = "auto",
    plugin_path: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    told: Callable[[dict[str, Any]], None] = lambda finding: None,
    start: Start | None = None,
) -> Checked:
    """Check ``file.py:Name`` or a registered anchor; nothing is left running afterwards.

    ``seconds``: time limit of the whole check. ``told`` hears each finding as it comes. ``start``:
    how the process is made that checks; by default `new_process`.
    """
    wanted = {
        "anchor": reference, "seeds": seeds, "steps": steps, "device": device,
        "plugin_path": str(plugin_path or ""), "settings": dict(settings or {}),
    }  # fmt: skip
    return run_apart(wanted, reference, seconds, told, start or new_process)


def run_apart(
    wanted: dict[str, Any], reference: str, seconds: float,
    told: Callable[[dict[str, Any]], None], start: Start,
) -> Checked:  # fmt: skip
    """Have a child do what is wanted; it and all that it started are gone afterwards."""
    with tempfile.TemporaryFile() as noise:
        child = start(wanted, noise)
        try:
            return _listen(child, seconds, told, noise, reference)
        finally:
            end_supervised(child.pid, child.wait)
            if child.stdout is not None:
                child.stdout.close()


def new_process(wanted: dict[str, Any], noise: IO[bytes]) -> Child:
    """The check in an interpreter of its own, with its errors in the file ``noise``."""
    code = "from api.check_child import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise,
        start_new_session=True, env=_environment(), text=True,
    )  # fmt: skip
    assert child.stdin is not None
    with suppress(BrokenPipeError), child.stdin:
        child.stdin.write(json.dumps(wanted))
    return child


@dataclass(slots=True)
class _Forked:
    """A fork of this process."""

    pid: int
    stdout: Any
    code: int | None = None

    def wait(self) -> int:
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


def forked(wanted: dict[str, Any], noise: IO[bytes]) -> Child:
    """The check in a fork of this process: in milliseconds, where torch has been loaded."""
    from api.check_child import check

    read, write = os.pipe()
    with warnings.catch_warnings():
        # Of threads that hold locks here: the child is ended after its time, whatever it waits for.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(write, 1)
            os.dup2(noise.fileno(), 2)
            os.close(read)
            os.close(write)
            check(wanted)
        finally:
            os._exit(1)  # never back into what this process was doing
    os.close(write)
    return _Forked(pid, os.fdopen(read))


def _environment() -> dict[str, str]:
    """The child finds this package where this process has it."""
    root = str(Path(__file__).resolve().parents[1])
    before = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": root + (os.pathsep + before if before else "")}


def _listen(
    child: Child, seconds: float, told: Callable[[dict[str, Any]], None],
    noise: IO[bytes], reference: str,
) -> Checked:  # fmt: skip
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    found, deadline = Checked(), time.monotonic() + seconds
    stage, line = "loading", ""
    while True:
        try:
            text = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            found.error = f"{line or reference}: {stage} takes longer than {seconds:g} s"
            return found
        if text is None:
            if not found.error:
                code, said = _end_of(child, noise)
                crashed = crashed_at(said, reference)
                found.elsewhere = not crashed
                found.error = f"{crashed or line or reference}: its process died: {code}"
            return found
        data = json.loads(text)
        if "finding" in data:
            found.findings.append(data["finding"])
            told(data["finding"])
        elif "result" in data:
            found.result = data["result"]
        elif "error" in data:
            found.error = data["error"]
            return found
        elif "done" in data:
            return found
        else:
            stage, line = data["stage"], data["line"]


def _read(child: Child, lines: queue.Queue[str | None]) -> None:
    assert child.stdout is not None
    with suppress(ValueError, OSError):  # closed by the end of the check
        for line in child.stdout:
            lines.put(line)
    lines.put(None)


def _end_of(child: Child, noise: IO[bytes]) -> tuple[str, str]:
    """How it ended, and what it said last."""
    code = child.wait()
    noise.seek(0)
    return (
        f"signal {-code}" if code < 0 else f"exit code {code}",
        noise.read().decode(errors="replace"),
    )


def crashed_at(said: str, reference: str) -> str:
    """The user's line in what Python's fault handler wrote about a crash."""
    name = reference.rpartition(":")[0] or reference
    file = re.escape(Path(name).name)
    found = re.search(rf'File "[^"]*{file}", line (\d+) in (\S+)', said)
    return f"{Path(name).name}:{found[1]} in {found[2]}" if found else ""


def refuse_failed(checked: Checked, reference: str) -> None:
    """Do nothing for an anchor that passed.

    Raises:
        PluginError: it did not; the line of the first fault stands in front.
    """
    if checked.error:
        raise PluginError(checked.error)
    if checked.failed:
        first = checked.failed[0]
        more = f" (and {len(checked.failed) - 1} more)" if len(checked.failed) > 1 else ""
        raise PluginError(
            f"{first['name']}: {first['text']}{more}", where=first["where"] or reference
        )
