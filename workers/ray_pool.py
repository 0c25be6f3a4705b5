"""The pool of Ray actors, on this machine or on a cluster.

Jobs go to long-lived actors that keep data warm, and messages stream back as JSON. Nothing of ours
is pickled but what a notebook's cells define, which has no file to send. What an actor does is in
`workers.ray_actor`, how Ray is started in `workers.ray_start`. This file must not know what a job
computes.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from typing import Any

import ray
from pydantic import TypeAdapter, ValidationError
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from evosearch.errors import WorkerError
from evosearch.ports import WorkerReport, WorkerState
from evosearch.records import EvaluationDone, Failure, Job, JobDone, Message
from workers.data_dir import DATA_DIR_VARIABLE
from workers.ray_held import Actor, Assigned, signs
from workers.ray_start import death, default_share, resources, sources, start_actor, start_ray
from workers.reports import Reports

BACKLOG = 2
"""Waiting jobs per worker that the pool wants to hold beside the running one."""
AHEAD = 2
"""Jobs an actor holds when they have checks: most end in milliseconds, and none should wait."""
START_SECONDS = 180.0
JOIN_SECONDS = 10.0
"""How often the pool looks whether the cluster has grown, and tries a failed start again."""
FAILED_STARTS = 3
"""Starts that may fail in a row while no worker is left."""
HANG_SECONDS = 600.0
SIGN_SECONDS = 5.0
"""How often a worker is asked how far it is."""
GPU_MEMORY_SHARE = 0.9
"""Of a GPU's memory, what all workers on it may take together."""
CANCEL_SECONDS = 5.0
"""How long a cancelled job may go on before its worker is replaced: it ends at its next step."""
LEAVE_SECONDS = 5.0
"""How long workers may take to keep their trainings when the pool is closed."""
TICK = 0.5
REMEMBERED = 10_000
"""Jobs of which the pool remembers where they have been."""
MESSAGES: TypeAdapter[Message] = TypeAdapter(EvaluationDone | JobDone)


class RayPool:
    """A `Pool` of Ray actors with one torch thread each.

    ``workers``: number of actors; by default one for each CPU of this machine or cluster, or with
    ``gpu_share`` as many as fit on its GPUs, and more as machines join the cluster. ``address``: an
    existing cluster; without it a local Ray is started, and stopped again by `close`.
    ``hang_seconds``: how long a job may stand still, without a training step, before its worker is
    replaced. ``gpu_share``: part of a GPU for each worker, 0 for none; by default what a short
    measurement finds best, where this machine has a GPU. ``gpu_memory_share``: of a GPU's memory,
    for all its workers together. ``memory_limit``: bytes that a worker may take beyond what it has
    when it starts. ``checkpoints``: folder that all workers see, for trainings of workers that are
    told to go. ``nice``: how far workers stand back for other processes; on a cluster that sets
    more by itself, that counts.

    Raises:
        WorkerError: Ray or its workers do not start.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        hang_seconds: float = HANG_SECONDS,
        device: str = "auto",
        gpu_share: float | None = None,
        gpu_memory_share: float = GPU_MEMORY_SHARE,
        memory_limit: int | None = None,
        checkpoints: str | None = None,
        nice: int = 10,
    ) -> None:
        if gpu_share is not None and not 0.0 <= gpu_share <= 1.0:
            raise WorkerError("bad share of a GPU", expected="0 to 1", got=f"{gpu_share:g}")
        self._fixed = workers is not None
        self._settings: dict[str, Any] = {
            "device": "cpu" if gpu_share == 0 and device == "auto" else device,
            "gpu_share": gpu_share or 0.0,
            "gpu_memory_share": gpu_memory_share,
            "memory_limit": memory_limit,
            "checkpoints": checkpoints,
            "data_dir": os.environ.get(DATA_DIR_VARIABLE, ""),
            "nice": nice,
        }
        self._looked = self._polled = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="evosearch-")
        self._hang_seconds = hang_seconds
        self._waiting: deque[Job] = deque()
        self._been: dict[str, set[str]] = {}
        # Kept here and not in `poll`, so that an interrupt there loses no message.
        self._inbox: list[Message] = []
        self._made = self._numbers = self._owed = self._failed_starts = 0
        self._actors: list[Actor] = []
        self._joining: list[Actor] = []
        self._closed = False
        self._reports = Reports()
        self._owns_ray = not ray.is_initialized()
        try:
            if self._owns_ray:
                start_ray(workers, address, self._folder.name, nice)
            if gpu_share is None and device != "cpu" and resources().get("GPU", 0):
                self._settings["gpu_share"] = default_share(gpu_memory_share, address)
            self._actors = [self._new_actor() for _ in range(workers or self._room())]
            ray.get([actor.answer for actor in self._actors], timeout=START_SECONDS)
            self._polled = time.monotonic()
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

    @property
    def gpu_share(self) -> float:
        """Part of a GPU that each worker takes."""
        share: float = self._settings["gpu_share"]
        return share

    @property
    def device_kind(self) -> str:
        """What the workers compute on: cpu or cuda."""
        return "cuda" if self.gpu_share or self._settings["device"].startswith("cuda") else "cpu"

    @property
    def capacity(self) -> int:
        """One running job and a short backlog per worker that is up."""
        return max(1, len(self._actors)) * (1 + BACKLOG)

    # -- workers come and go -----------------------------------------------------------------

    def grow(self, count: int) -> None:
        """Start so many more workers; they take jobs once they are up, and none before."""
        self._joining += [self._new_actor() for _ in range(count)]

    def _new_actor(self) -> Actor:
        self._made += 1
        name = f"ray-{self._made}"
        handle = start_actor(name, self._settings)
        now = time.monotonic()
        return Actor(name, handle, handle.ready.remote(), since=now, asked=now)

    def _let_in(self) -> None:
        """Joining workers that are up get jobs from now on.

        Raises:
            WorkerError: no worker is left, and none starts.
        """
        up = ray.wait([a.answer for a in self._joining], num_returns=len(self._joining),
                      timeout=0)[0]  # fmt: skip
        for actor in [one for one in self._joining if one.answer in up]:
            self._joining.remove(actor)
            try:
                ray.get(actor.answer)
            except RayError as err:
                self._owed, self._failed_starts = self._owed + 1, self._failed_starts + 1
                if self._failed_starts >= FAILED_STARTS and not self._actors:
                    raise WorkerError(
                        "the Ray workers do not start again", got=str(err)[:300]
                    ) from err
                continue
            self._failed_starts = 0
            actor.since = actor.asked = time.monotonic()
            self._actors.append(actor)

    def _room(self) -> int:
        """Workers that fit on the machine or cluster as it is now."""
        found = resources()
        if self.gpu_share:
            # The small number makes 3 x 1/3 fit on one GPU in spite of rounding.
            return max(1, int(found.get("GPU", 0) * (1 / self.gpu_share + 1e-9)))
        return max(1, int(found.get("CPU", 1)))

    def _look_for_joiners(self) -> None:
        """Machines that have joined the cluster get workers; failed starts are tried again."""
        if time.monotonic() - self._looked < JOIN_SECONDS:
            return
        self._looked = time.monotonic()
        owed, self._owed = self._owed, 0
        self.grow(owed)
        if not self._fixed:
            self.grow(max(0, self._room() - len(self._actors) - len(self._joining)))

    def _renew(self, actor: Actor) -> None:
        """A new actor for this one, whose jobs wait again, in their order.

        It joins as any other: where a machine has left for good it never comes up, and no job may
        wait for it.
        """
        back = [one.job for one in actor.jobs if one.cancelled is None]
        self._waiting.extendleft(reversed(back))
        actor.jobs.clear()
        ray.kill(actor.handle)
        self._reports.gone(actor.name)
        self._actors.remove(actor)
        self.grow(1)

    # -- jobs --------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a job; one that was lost goes to a worker where it has not been.

        Raises:
            WorkerError: the pool is closed.
        """
        if self._closed:
            raise WorkerError("the pool is closed", hint="make a new one")
        if job.attempt == 1:
            self._been.pop(job.id, None)
        self._waiting.append(job)
        self._dispatch()

    def cancel(self, job_id: str) -> None:
        """Drop a job; a running one ends at its next step, unheard."""
        self._waiting = deque(job for job in self._waiting if job.id != job_id)
        self._inbox = [message for message in self._inbox if message.job_id != job_id]
        for actor in self._actors:
            for assigned in actor.jobs:
                if assigned.job.id == job_id and assigned.cancelled is None:
                    assigned.cancelled = time.monotonic()
                    signs(actor.handle.cancel).remote(assigned.number)

    def workers(self) -> list[WorkerReport]:
        """Every worker as it is, and those that died within the last hour."""
        seen: list[tuple[str, WorkerState | None, str | None]] = [
            (one.name, "busy" if one.jobs else "idle", one.jobs[0].job.id if one.jobs else None)
            for one in self._actors
        ]
        return self._reports.told([*seen, *((one.name, None, None) for one in self._joining)])

    def close(self) -> None:
        """Stop all workers, and Ray if this pool started it; idempotent.

        Where trainings are kept, those at hand are kept first.
        """
        if self._closed:
            return
        self._closed = True
        self._waiting.clear()
        if self._settings["checkpoints"]:
            self._leave()
        for actor in self._actors + self._joining:
            ray.kill(actor.handle)
        self._actors, self._joining = [], []
        if self._owns_ray:
            ray.shutdown()
        self._folder.cleanup()

    def _leave(self) -> None:
        """Have all workers keep what they train, within a few seconds."""
        busy = [actor for actor in self._actors if actor.jobs]
        try:
            for actor in busy:
                signs(actor.handle.leave).remote()
            streams = [actor.jobs[0].stream for actor in busy]
            ray.wait(streams, num_returns=max(1, len(streams)), timeout=LEAVE_SECONDS)
        except (RayError, ValueError):
            pass  # then they are lost, as those of any worker that is gone

    def _dispatch(self) -> None:
        """Hand waiting jobs to actors in their order, each to the idlest."""
        held: list[Job] = []
        while self._waiting:
            # A job without checks is long: behind another one it would miss the next free worker.
            room = AHEAD if self._waiting[0].checks is not None else 1
            free = [actor for actor in self._actors if len(actor.jobs) < room]
            if not free:
                break
            job = self._waiting.popleft()
            fit = [actor for actor in free if self._may_take(actor, job)]
            if fit:
                self._assign(min(fit, key=lambda actor: len(actor.jobs)), job)
            else:
                held.append(job)
        self._waiting.extendleft(reversed(held))

    def _may_take(self, actor: Actor, job: Job) -> bool:
        """Whether the job has not been at that worker, or has been at all there are."""
        been = self._been.get(job.id)
        if not been or actor.name not in been:
            return True
        recent = time.monotonic() - START_SECONDS  # an older one waits for a machine that has left
        others = self._actors + [one for one in self._joining if one.since > recent]
        return all(one.name in been for one in others)

    def _assign(self, actor: Actor, job: Job) -> None:
        self._numbers += 1
        run = actor.handle.run.options(num_returns="streaming")
        if not actor.jobs:
            actor.since = time.monotonic()
        told = sources(job, actor.has)
        stream = run.remote(self._numbers, job.model_dump_json(), [*told.values()])
        actor.jobs.append(Assigned(job, self._numbers, stream, frozenset(told)))
        self._been.setdefault(job.id, set()).add(actor.name)
        while len(self._been) > REMEMBERED:
            del self._been[next(iter(self._been))]

    def poll(self, timeout: float) -> list[Message]:
        """Messages that have come; waits up to ``timeout`` seconds for the first one.

        Raises:
            WorkerError: Ray itself is gone, or no worker starts any more.
        """
        deadline = time.monotonic() + timeout
        try:
            self._forgive_absence()
            self._look_for_joiners()
            while True:
                if self._joining:
                    self._let_in()
                self._dispatch()
                left = deadline - time.monotonic()
                self._wait(0.0 if self._inbox else max(0.0, min(left, TICK)))
                self._look_at_workers()
                self._dispatch()
                busy = self._waiting or any(actor.jobs for actor in self._actors)
                if self._inbox or left <= 0 or not busy:
                    break
        except RayError as err:
            raise WorkerError(
                "Ray is gone", got=f"{type(err).__name__}: {err}"[:300], hint="start again"
            ) from err
        finally:
            self._polled = time.monotonic()
        messages, self._inbox = self._inbox, []
        return messages

    def _forgive_absence(self) -> None:
        """While nobody polled, no worker could show that it gets on: that time does not count."""
        away = time.monotonic() - self._polled
        for actor in self._actors:
            actor.since += away
            for assigned in actor.jobs:
                if assigned.cancelled is not None:
                    assigned.cancelled += away

    def _wait(self, timeout: float) -> None:
        """Take in messages, waiting for the first one; or wait for a worker that joins."""
        # Only the first job's stream: a cancelled job's is ready before its turn comes.
        streams = {actor.jobs[0].stream: actor for actor in self._actors if actor.jobs}
        if not streams:
            if self._waiting and self._joining:
                ray.wait([actor.answer for actor in self._joining], timeout=timeout)
            elif self._waiting:
                time.sleep(timeout)
            return
        ready, _ = ray.wait(list(streams), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = ray.wait(list(streams), num_returns=len(streams), timeout=0)
        for stream in ready:
            self._inbox += self._receive(streams[stream])

    def _receive(self, actor: Actor) -> list[Message]:
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
            return self._replace(actor, death(err))
        except RayError as err:  # an error of Ray's in this job
            line = f"{type(err).__name__}: {err}".splitlines()[0][:300]
            return self._end_job(actor, Failure(cause="error", detail=line))
        actor.since = time.monotonic()
        actor.has |= assigned.brings
        if isinstance(message, JobDone):
            self._next(actor)
            if message.failure is not None:
                self._reports.failed(actor.name, message.failure.cause)
            taken = message.failure is not None and message.failure.cause == "preempted"
            if taken and assigned.cancelled is None:
                self._renew(actor)  # it was told to go, and will not be there for long
            elif message.failure is not None and message.failure.cause == "died":
                self._renew(actor)  # it lives, but its GPU will not work again in this process
        return [] if assigned.cancelled is not None else [message]

    def _next(self, actor: Actor) -> None:
        """The actor's first job has ended, and its next one begins."""
        actor.jobs.popleft()
        actor.since = time.monotonic()
        if actor.jobs and actor.jobs[0].cancelled is not None:
            actor.jobs[0].cancelled = actor.since

    def _look_at_workers(self) -> None:
        """Ask how far workers are; those that died idle or stand still are replaced."""
        now = time.monotonic()
        every = min(SIGN_SECONDS, self._hang_seconds / 4)
        for actor in self._actors:
            if actor.sign is None and now - actor.asked >= every:
                actor.sign, actor.asked = signs(actor.handle.alive).remote(), now
        asked = {actor.sign: actor for actor in self._actors if actor.sign is not None}
        if asked:
            for sign in ray.wait(list(asked), num_returns=len(asked), timeout=0)[0]:
                self._heed(asked[sign], now)
        for actor in [*self._actors]:
            self._inbox += self._end_silence(actor)

    def _heed(self, actor: Actor, now: float) -> None:
        """The actor has said how far it is."""
        sign, actor.sign = actor.sign, None
        try:
            beats, leaves = ray.get(sign)
        except RayActorError:
            if not actor.jobs:  # else the job's own stream says why
                self._reports.failed(actor.name, "died")
                self._renew(actor)
            return
        if beats != actor.beats or not actor.jobs:
            actor.beats, actor.since = beats, now
        if leaves and not actor.jobs:
            self._renew(actor)

    def _end_silence(self, actor: Actor) -> list[Message]:
        """Replace the actor if its job has stood still, or was cancelled, for too long."""
        now = time.monotonic()
        if not actor.jobs:
            if now - actor.since > max(self._hang_seconds, 2 * SIGN_SECONDS):
                self._renew(actor)  # it does not even answer
            return []
        cancelled = actor.jobs[0].cancelled
        if cancelled is not None and now - cancelled > CANCEL_SECONDS:
            return self._replace(actor, Failure(cause="hung"))  # unheard
        if now - actor.since <= self._hang_seconds:
            return []
        detail = f"no step and no message for {self._hang_seconds:g} seconds"
        return self._replace(actor, Failure(cause="hung", detail=detail))

    def _end_job(self, actor: Actor, failure: Failure) -> list[Message]:
        """The first job of the actor ends with a failure."""
        assigned, seconds = actor.jobs[0], time.monotonic() - actor.since
        self._next(actor)
        if assigned.cancelled is not None:
            return []
        self._reports.failed(actor.name, failure.cause)
        return [
            JobDone(job_id=assigned.job.id, failure=failure, worker=actor.name, seconds=seconds)
        ]

    def _replace(self, actor: Actor, failure: Failure) -> list[Message]:
        """A new actor for this one: its first job fails, the others wait again, in their order."""
        messages = self._end_job(actor, failure)
        self._renew(actor)
        return messages
