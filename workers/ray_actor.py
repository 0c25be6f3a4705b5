"""The actor's body: what a Ray worker process does with the jobs it is sent.

A job runs in one thread of the process; the methods of the group `SIGNS` are answered by another
one meanwhile, so a worker can be asked how far it is and told to stop. This file imports no Ray and
must not know who asks.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evosearch.garbage import collect_rarely
from workers.data_dir import DATA_DIR_VARIABLE

if TYPE_CHECKING:
    from evosearch.records import Message
    from workers.evaluate import Context

SIGNS = "signs"
"""Concurrency group of the methods that are answered while a job runs."""


class Worker:
    """Runs one job after another, with its data, anchors and plug-ins kept between them."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        collect_rarely()
        import torch

        from workers.evaluate import Context

        torch.set_num_threads(1)
        # A cluster that is joined has a niceness of its own; it can only be raised.
        behind = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, max(behind, settings["nice"]))
        if settings["data_dir"]:
            os.environ[DATA_DIR_VARIABLE] = settings["data_dir"]
        folder = settings["checkpoints"]
        self._context = Context(
            worker=name,
            device=settings["device"],
            checkpoints=Path(folder) if folder else None,
        )
        self._number = 0
        self._taken_back: set[int] = set()
        share = settings["gpu_share"] * settings["gpu_memory_share"]
        if share and torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(share)
        if settings["memory_limit"]:
            limit_memory(settings["memory_limit"])
        self._sockets = on_sigterm(self.leave)

    def leave(self) -> None:
        """Keep what is trained so far and end: the machine is taken away, or the pool closes."""
        self._context.preempted = True

    def ready(self) -> int:
        """Process id, once everything is imported."""
        return os.getpid()

    def run(self, number: int, job_text: str, sources: list[dict[str, Any]]) -> Iterator[str]:
        """The job's messages as JSON, each as soon as it is there.

        ``number``: of this submission; they grow. ``sources``: plug-ins that this worker has not
        been sent before, as text.
        """
        import torch

        from evosearch.plugins import receive

        torch.set_num_threads(1)  # of this thread: it is not the one that made the actor
        self._number = number
        self._context.cancelled = number in self._taken_back
        self._taken_back = {one for one in self._taken_back if one > number}
        for data in sources:
            receive(data, self._context.sources)
        for message in messages_of(job_text, self._context):
            yield message.model_dump_json()
        if self._context.cancelled and torch.cuda.is_available():
            torch.cuda.empty_cache()  # a search that pauses leaves the GPU to others

    def alive(self) -> tuple[int, bool]:
        """How far this worker is, a number that grows with every step, and whether it must go."""
        return self._context.beats, self._context.preempted

    def cancel(self, number: int) -> None:
        """Have that submission end at its next step, or before it begins."""
        if number == self._number:
            self._context.cancelled = True
        elif number > self._number:
            self._taken_back.add(number)


def messages_of(job_text: str, context: Context) -> Iterator[Message]:
    """Messages of a job that came as text, also where its plug-ins or its graph cannot be read."""
    from evosearch.plugins import read_job
    from evosearch.records import JobDone
    from workers.evaluate import run_job
    from workers.failures import failure_of

    try:
        job = read_job(job_text, context.sources)
    except (Exception, SystemExit) as err:  # the worker's entry: an error is a recorded failure
        job_id = json.loads(job_text)["id"]
        yield JobDone(job_id=job_id, failure=failure_of(err), seconds=0.0, worker=context.worker)
        return
    yield from run_job(job, context)


def on_sigterm(act: Any) -> tuple[socket.socket, socket.socket]:
    """Have ``act`` called when SIGTERM comes, though this process's main thread runs no Python.

    Returns:
        What must be kept as long as that is to work.
    """
    read, write = socket.socketpair()
    write.setblocking(False)

    def wait() -> None:
        while numbers := read.recv(64):
            if signal.SIGTERM in numbers:
                act()

    # A handler of Python's own would wait for the main thread; the number is written at once.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=wait, name="sigterm", daemon=True).start()
    return read, write


def limit_memory(more: int) -> None:
    """This process may take so many bytes more; beyond them an allocation fails as an error."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
