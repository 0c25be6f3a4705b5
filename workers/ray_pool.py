"""The pool of Ray actors, on this machine or on a cluster; the only file that imports ray.

Jobs go to long-lived actors that keep data warm, and messages stream back as JSON. Nothing of ours
is pickled but what a notebook's cells define, which has no file to send. Ray runs with an empty
working folder, for with the default one it would import a user's own folders ``db`` or ``api`` in
place of this package's. This file must not know what a job computes.
"""

from __future__ import annotations

import logging
import os
import signal
import site
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from pydantic import TypeAdapter, ValidationError
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from evosearch.errors import WorkerError
from evosearch.own import Entry
from evosearch.plugins import loaded
from evosearch.records import EvaluationDone, Failure, Job, JobDone, Message

BACKLOG = 2
"""Waiting jobs per worker that the pool wants to hold beside the running one."""
AHEAD = 2
"""Jobs an actor holds when they have checks: most end in milliseconds, and none should wait."""
START_SECONDS = 180.0
JOIN_SECONDS = 10.0
"""How often the pool looks whether the cluster has grown."""
IDLE_SECONDS = 5.0
"""How often an idle worker is asked whether it lives."""
GPU_SHARE = 0.25
"""Of a GPU for one worker, where there are GPUs and nothing else is asked for; not measured yet."""
GPU_MEMORY_SHARE = 0.9
"""Of a GPU's memory, what all workers on it may take together."""
CANCEL_SECONDS = 10.0
"""How long a cancelled job may go on before its worker is replaced; a new worker takes as long."""
TICK = 0.5
OBJECT_STORE_BYTES = 80 * 2**20
"""Messages are a few kilobytes; Ray's own default takes a third of the memory."""
DATA_DIR_VARIABLE = "EVOSEARCH_DATA_DIR"
MESSAGES: TypeAdapter[Message] = TypeAdapter(EvaluationDone | JobDone)


class _Worker:
    """The actor: runs one job after another, with its data kept between them."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        import torch

        from workers.evaluate import Context

        torch.set_num_threads(1)
        if settings["data_dir"]:
            os.environ[DATA_DIR_VARIABLE] = settings["data_dir"]
        folder = settings["checkpoints"]
        self._context = Context(
            worker=name,
            device=settings["device"],
            checkpoints=Path(folder) if folder else None,
        )
        if settings["gpu_share"] and torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(GPU_MEMORY_SHARE * settings["gpu_share"])
        if settings["memory_limit"]:
            _limit_memory(settings["memory_limit"])
        # A preempted machine sends it before the end: what is trained so far is kept.
        signal.signal(signal.SIGTERM, self._preempt)

    def _preempt(self, *_: object) -> None:
        self._context.preempted = True

    def ready(self) -> int:
        """Process id, once everything is imported."""
        return os.getpid()

    def run(self, job_text: str, sources: list[dict[str, Any]]) -> Iterator[str]:
        """The job's messages as JSON, each as soon as it is there.

        ``sources``: plug-ins that this worker has not been sent before, as text.
        """
        from evosearch.plugins import receive
        from workers.evaluate import run_job

        for data in sources:
            receive(data, self._context.sources)
        for message in run_job(Job.model_validate_json(job_text), self._context):
            yield message.model_dump_json()


@dataclass(slots=True)
class _Assigned:
    """A job at an actor, the stream of its messages, and hashes of plug-ins sent with it."""

    job: Job
    stream: Any
    brings: frozenset[str] = frozenset()
    cancelled: bool = False


@dataclass(slots=True)
class _Actor:
    """An actor and its jobs; the first one runs.

    ``answer``: what it was asked when it was started or had nothing to do, until it has answered.
    ``since``: when it last answered or got its first job. ``has``: hashes of plug-ins that came.
    """

    name: str
    handle: Any
    answer: Any
    jobs: deque[_Assigned] = field(default_factory=deque)
    since: float = 0.0
    has: set[str] = field(default_factory=set)


class RayPool:
    """A `Pool` of Ray actors with one torch thread each.

    ``workers``: number of actors; by default one for each CPU of this machine or cluster, or with
    ``gpu_share`` as many as fit on its GPUs, and more as machines join the cluster. ``address``: an
    existing cluster; without it a local Ray is started, and stopped again by `close`.
    ``hang_seconds``: longest silence of a job before its worker is replaced. ``gpu_share``: part of
    a GPU for each worker, 0 for none; by default a quarter where there are GPUs. ``memory_limit``:
    bytes that a worker may take beyond what it has when it starts. ``checkpoints``: folder that all
    workers see, for trainings of workers that are told to go.

    Raises:
        WorkerError: Ray or its workers do not start.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        hang_seconds: float = 600.0,
        device: str = "auto",
        gpu_share: float | None = None,
        memory_limit: int | None = None,
        checkpoints: str | None = None,
    ) -> None:
        if gpu_share is not None and not 0.0 <= gpu_share <= 1.0:
            raise WorkerError("bad share of a GPU", expected="0 to 1", got=f"{gpu_share:g}")
        self._gpu_share, self._fixed = gpu_share or 0.0, workers is not None
        self._settings: dict[str, Any] = {
            "device": device,
            "gpu_share": self._gpu_share,
            "memory_limit": memory_limit,
            "checkpoints": checkpoints,
            "data_dir": os.environ.get(DATA_DIR_VARIABLE, ""),
        }
        self._looked = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="evosearch-")
        self._hang_seconds = hang_seconds
        self._waiting: deque[Job] = deque()
        # Kept here and not in `poll`, so that an interrupt there loses no message.
        self._inbox: list[Message] = []
        self._made = 0
        self._actors: list[_Actor] = []
        self._joining: list[_Actor] = []
        self._closed = False
        self._owns_ray = not ray.is_initialized()
        try:
            if self._owns_ray:
                _start_ray(workers, address, self._folder.name)
            if gpu_share is None and device != "cpu" and _resources().get("GPU", 0):
                self._gpu_share = self._settings["gpu_share"] = GPU_SHARE
            count = workers or self._room()
            self._actors = [self._new_actor() for _ in range(count)]
            ray.get([actor.answer for actor in self._actors], timeout=START_SECONDS)
        except (RayError, OSError, ValueError, RuntimeError) as err:
            self.close()
            raise WorkerError(
                "the Ray workers do not start",
                got=f"{type(err).__name__}: {err}"[:300],
                hint="use the inline pool, or fewer workers"
                if address is None
                else f"check that a cluster answers at {address}, and if it asks for a token, "
                "set RAY_AUTH_MODE=token and give Ray the cluster's token",
            ) from err

    def grow(self, count: int) -> None:
        """Start so many more workers; they take jobs once they are up, and none before."""
        self._joining += [self._new_actor() for _ in range(count)]

    def _let_in(self) -> None:
        """Joining workers that are up get jobs from now on."""
        up = ray.wait([a.answer for a in self._joining], num_returns=len(self._joining),
                      timeout=0)[0]  # fmt: skip
        for actor in [one for one in self._joining if one.answer in up]:
            self._joining.remove(actor)
            self._actors.append(actor)
        self._dispatch()

    def _room(self) -> int:
        """Workers that fit on the machine or cluster as it is now."""
        resources = _resources()
        if self._gpu_share:
            # The small number makes 3 x 1/3 fit on one GPU in spite of rounding.
            return max(1, int(resources.get("GPU", 0) * (1 / self._gpu_share + 1e-9)))
        return max(1, int(resources.get("CPU", 1)))

    def _look_for_joiners(self) -> None:
        """Machines that have joined the cluster get workers."""
        if self._fixed or time.monotonic() - self._looked < JOIN_SECONDS:
            return
        self._looked = time.monotonic()
        self.grow(max(0, self._room() - len(self._actors) - len(self._joining)))

    def _look_at_idle(self) -> None:
        """Workers that died with nothing to do are replaced before a job meets them."""
        for actor in [one for one in self._actors if not one.jobs]:
            if time.monotonic() - actor.since < IDLE_SECONDS:
                continue
            if actor.answer is None:
                actor.answer = actor.handle.ready.remote()
            elif ray.wait([actor.answer], timeout=0)[0]:
                try:
                    ray.get(actor.answer)
                except RayActorError:
                    self._renew(actor)
                else:
                    actor.answer, actor.since = None, time.monotonic()

    @property
    def gpu_share(self) -> float:
        """Part of a GPU that each worker takes."""
        return self._gpu_share

    @property
    def capacity(self) -> int:
        """One running job and a short backlog per worker."""
        return len(self._actors) * (1 + BACKLOG)

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            WorkerError: the pool is closed.
        """
        if self._closed:
            raise WorkerError("the pool is closed", hint="make a new one")
        self._waiting.append(job)
        self._dispatch()

    def poll(self, timeout: float) -> list[Message]:
        """Messages that have come; waits up to ``timeout`` seconds for the first one.

        Raises:
            WorkerError: Ray itself is gone.
        """
        deadline = time.monotonic() + timeout
        try:
            self._look_for_joiners()
            self._look_at_idle()
            while any(actor.jobs for actor in self._actors):
                if self._joining:
                    self._let_in()
                left = deadline - time.monotonic()
                for actor in self._ready(0.0 if self._inbox else max(0.0, min(left, TICK))):
                    self._inbox += self._receive(actor)
                for actor in self._actors:
                    self._inbox += self._end_silence(actor)
                self._dispatch()
                if self._inbox or left <= 0:
                    break
        except RayError as err:
            raise WorkerError(
                "Ray is gone", got=f"{type(err).__name__}: {err}"[:300], hint="start again"
            ) from err
        messages, self._inbox = self._inbox, []
        return messages

    def cancel(self, job_id: str) -> None:
        """Drop a job; a running one is left to end by itself for a moment, unheard."""
        self._waiting = deque(job for job in self._waiting if job.id != job_id)
        self._inbox = [message for message in self._inbox if message.job_id != job_id]
        for actor in self._actors:
            for place, assigned in enumerate(actor.jobs):
                if assigned.job.id != job_id:
                    continue
                assigned.cancelled = True
                if place == 0:
                    actor.since = time.monotonic()
                else:
                    ray.cancel(assigned.stream)

    def close(self) -> None:
        """Stop all workers, and Ray if this pool started it; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._waiting.clear()
        for actor in self._actors + self._joining:
            ray.kill(actor.handle)
        self._actors, self._joining = [], []
        if self._owns_ray:
            ray.shutdown()
        self._folder.cleanup()

    def _new_actor(self) -> _Actor:
        self._made += 1
        name = f"ray-{self._made}"
        # Not restarted by Ray: a death is a failure that must be seen here.
        # A GPU's worker asks for no CPU: GPUs decide how many there are.
        share = self._gpu_share
        needs: dict[str, Any] = {"num_gpus": share, "num_cpus": 0} if share else {"num_cpus": 1}
        # In order, Ray would wait for a job that was taken back on its way, and lose the next ones.
        needs["allow_out_of_order_execution"] = True
        handle: Any = ray.remote(max_restarts=0, **needs)(_Worker).remote(name, self._settings)
        return _Actor(name, handle, handle.ready.remote(), since=time.monotonic())

    def _dispatch(self) -> None:
        """Hand waiting jobs to actors, the idlest first."""
        while self._waiting:
            actor = min(self._actors, key=lambda actor: len(actor.jobs))
            # A job without checks is long: behind another one it would miss the next free worker.
            room = AHEAD if self._waiting[0].checks is not None else 1
            if len(actor.jobs) >= room:
                return
            job = self._waiting.popleft()
            run = actor.handle.run.options(num_returns="streaming")
            if not actor.jobs:
                actor.since = time.monotonic()
            sources = _sources(job, actor.has)
            stream = run.remote(job.model_dump_json(), [*sources.values()])
            actor.jobs.append(_Assigned(job, stream, frozenset(sources)))

    def _ready(self, timeout: float) -> list[_Actor]:
        """Actors that have something to say, or died."""
        # Only the first job's stream: a cancelled job's is ready before its turn comes.
        streams = {actor.jobs[0].stream: actor for actor in self._actors if actor.jobs}
        ready, _ = ray.wait(list(streams), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = ray.wait(list(streams), num_returns=len(streams), timeout=0)
        return [streams[stream] for stream in ready]

    def _receive(self, actor: _Actor) -> list[Message]:
        """The next message of the actor's first job."""
        assigned = actor.jobs[0]
        try:
            message = MESSAGES.validate_json(ray.get(next(assigned.stream)))
        except StopIteration:
            failure = Failure(cause="rubbish", detail="the job ended without a verdict")
            return self._end_job(actor, failure)
        except ValidationError as err:
            line = " ".join(str(err).split())[:300]
            return self._replace(actor, Failure(cause="rubbish", detail=line))
        except (RayActorError, OutOfMemoryError) as err:
            return self._replace(actor, _death(err))
        except RayError as err:  # cancelled before it began, or an error of Ray's in this job
            line = f"{type(err).__name__}: {err}".splitlines()[0][:300]
            return self._end_job(actor, Failure(cause="error", detail=line))
        actor.since = time.monotonic()
        actor.has |= assigned.brings
        if isinstance(message, JobDone):
            actor.jobs.popleft()
            if message.failure is not None and message.failure.cause == "died":
                self._renew(actor)  # it was told to go, and will not be there for long
        return [] if assigned.cancelled else [message]

    def _end_silence(self, actor: _Actor) -> list[Message]:
        """Replace the actor if its job has been silent for too long."""
        if not actor.jobs:
            return []
        limit = self._hang_seconds
        if actor.answer is not None:
            if ray.wait([actor.answer], timeout=0)[0]:
                actor.answer, actor.since = None, time.monotonic()
            limit = START_SECONDS
        elif actor.jobs[0].cancelled:
            limit = min(CANCEL_SECONDS, limit)
        if time.monotonic() - actor.since <= limit:
            return []
        detail = f"no message for {limit:g} seconds"
        return self._replace(actor, Failure(cause="hung", detail=detail))

    def _end_job(self, actor: _Actor, failure: Failure) -> list[Message]:
        """The first job of the actor ends with a failure."""
        assigned = actor.jobs.popleft()
        seconds, actor.since = time.monotonic() - actor.since, time.monotonic()
        if assigned.cancelled:
            return []
        return [
            JobDone(job_id=assigned.job.id, failure=failure, worker=actor.name, seconds=seconds)
        ]

    def _replace(self, actor: _Actor, failure: Failure) -> list[Message]:
        """A new actor for this one: its first job fails, the others wait again, in their order."""
        messages = self._end_job(actor, failure)
        self._renew(actor)
        return messages

    def _renew(self, actor: _Actor) -> None:
        """A new actor for this one, whose jobs wait again, in their order."""
        back = [assigned.job for assigned in actor.jobs if not assigned.cancelled]
        self._waiting.extendleft(reversed(back))
        ray.kill(actor.handle)
        self._actors[self._actors.index(actor)] = self._new_actor()


def _resources() -> dict[str, float]:
    """What the machine or cluster has in all: CPU, GPU and others."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _sources(job: Job, has: set[str]) -> dict[str, dict[str, Any]]:
    """Hash -> the job's plug-ins that the worker lacks, as text; a notebook's as Ray's own bytes.

    A plug-in that this process has not loaded is left out: the worker looks for it itself.
    """
    found = {}
    for plugin in job.task.plugins:
        known = loaded(plugin.sha256)
        if known is None or plugin.sha256 in has:
            continue
        data = known.source.to_json()
        if not known.source.file:
            data["pickled"] = pickled(known.entries)
        found[plugin.sha256] = data
    return found


def pickled(entries: list[Entry]) -> bytes:
    """What cells of a notebook define, as Ray takes it to other processes."""
    return bytes(ray.cloudpickle.dumps(entries))  # type: ignore[no-untyped-call]


def _limit_memory(more: int) -> None:
    """This process may take so many bytes more; beyond them an allocation fails as an error."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _death(err: RayError) -> Failure:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    # The text of any death names the kernel's memory killer as one of several possible causes;
    # only Ray's own memory monitor says so for certain.
    short = isinstance(err, OutOfMemoryError) or "running low on memory" in str(err)
    detail = " ".join(lines)[:300]
    return Failure(cause="out_of_memory" if short else "died", detail=detail)


def _start_ray(workers: int | None, address: str | None, empty_folder: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    environment: dict[str, Any] = {"working_dir": empty_folder}
    options: dict[str, Any] = {"address": address or "local"}
    root = Path(__file__).resolve().parents[1]
    if address is not None:
        environment["py_modules"] = [
            str(root / name) for name in ("primitives", "evosearch", "workers")
        ]
    else:
        options |= {
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        if not _is_installed(root):
            environment["env_vars"] = {"PYTHONPATH": str(root)}
    with _own_sigterm():
        ray.init(
            runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR, **options
        )


def _is_installed(root: Path) -> bool:
    """Whether workers find the package by themselves: it lies where packages are installed."""
    places = {*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("purelib")}
    return any(Path(place).resolve() == root for place in places)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray sets a handler for SIGTERM; what SIGTERM does is not Ray's to decide."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
