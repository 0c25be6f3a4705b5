"""Ends a process together with everything it has started, sessions of their own included.

The process that does the work is the child of one that does nothing but wait: the kernel hands it
all orphans below it (Linux's child subreaper), so none gets away, however the work ends. This file
must not import anything heavy: it is forked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_SECONDS = 0.5
END_SECONDS = 5.0
ROUNDS = 200
"""How often what is left is killed: each time may have been that of a start."""


def supervised(work: Callable[[], NoReturn]) -> NoReturn:
    """Do the work in a child, then end all that it left, and end as it did.

    SIGTERM, or the end of this process's parent, ends the work.
    """
    parent = os.getppid()
    if not _prctl(PR_SET_CHILD_SUBREAPER, 1):
        work()  # no Linux: its session is all that can be ended
    waited = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    worker = os.fork()
    if worker == 0:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)
        work()
    code = None
    while code is None and os.getppid() == parent:
        heard = signal.sigtimedwait(waited, LOOK_SECONDS)
        if heard is not None and heard.si_signo == signal.SIGTERM:
            break
        code = _ended(worker)
    end_children(os.getpid())
    _end_as(code)


def _ended(worker: int) -> int | None:
    """The worker's exit code, once it has ended; other children are buried on the way."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == worker:
                found = os.waitstatus_to_exitcode(status)
    return found


def _end_as(code: int | None) -> NoReturn:
    if code is not None and code < 0:
        # A crash is told by its signal; one core file of it is enough.
        with suppress(ImportError, ValueError, OSError):
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code is not None and code >= 0 else 1)


def end_children(pid: int) -> None:
    """Kill all below a process; its own children are buried if it is this one."""
    clean = 0
    for _ in range(ROUNDS):
        below = descendants(pid)
        # While /proc is read, processes move: one look that sees nothing is none.
        clean = 0 if below else clean + 1
        if clean == 3:
            return
        for one in below:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        if pid == os.getpid():
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        time.sleep(0.005)


def end_supervised(pid: int, wait: Callable[[], int]) -> None:
    """End a process that is `supervised`, by its own means or else by force."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    if _lives(pid):
        end_children(pid)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    wait()


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return _stat(pid)[0] != "Z"
    return False


def _stat(pid: int) -> tuple[str, int]:
    """State and parent of a process."""
    text = Path(f"/proc/{pid}/stat").read_text()
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)


def descendants(pid: int) -> list[int]:
    """Living processes below this one, children before grandchildren; none without /proc."""
    parents: dict[int, list[int]] = {}
    dead = set()
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                state, parent = _stat(int(entry.name))
                parents.setdefault(parent, []).append(int(entry.name))
                if state == "Z":
                    dead.add(int(entry.name))  # its children may have been read before it died
    found, waiting = [], [pid]
    while waiting:
        below = parents.get(waiting.pop(0), [])
        found += below
        waiting += below
    return [one for one in found if one not in dead]


def _prctl(option: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(option, int(value), 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False
