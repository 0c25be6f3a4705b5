"""How Ray is started or joined, and what it has: the parts of the Ray pool that hold no state.

Ray runs with an empty working folder, for with the default one it would import a user's own
folders ``db`` or ``api`` in place of this package's.
"""

from __future__ import annotations

import logging
import os
import signal
import site
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError

from evosearch.own import Entry
from evosearch.plugins import loaded
from evosearch.records import Failure, Job
from workers.ray_actor import SIGNS, Worker

GPU_SHARE = 0.25
"""Of a GPU for one worker, where nothing is asked for and nothing can be measured."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Messages are a few kilobytes; Ray's own default takes a third of the memory."""


def start_ray(workers: int | None, address: str | None, empty_folder: str, nice: int = 10) -> None:
    """Start a local Ray whose workers have that nice value, or join the cluster at that address."""
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
            # Workers that Ray starts ahead lack the environment below and would never be used.
            "_system_config": {"worker_niceness": nice, "prestart_worker_first_driver": False},
        }
        if not _is_installed(root):
            environment["env_vars"] = {"PYTHONPATH": str(root)}
    with _own_sigterm():
        ray.init(
            runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR, **options
        )


def start_actor(name: str, settings: dict[str, Any]) -> Any:
    """A new actor, by its handle; it is up once its `ready` answers."""
    share = settings["gpu_share"]
    # Not restarted by Ray: a death is a failure that must be seen by the pool.
    # A GPU's worker asks for no CPU: GPUs decide how many there are.
    needs: dict[str, Any] = {"num_gpus": share, "num_cpus": 0} if share else {"num_cpus": 1}
    # In order, Ray would wait for a job that was taken back on its way, and lose the next ones.
    needs["allow_out_of_order_execution"] = True
    remote: Any = ray.remote  # its types know of no concurrency groups
    made = remote(max_restarts=0, concurrency_groups={SIGNS: 1}, **needs)(Worker)
    return made.remote(name, settings)


def default_share(memory_share: float, address: str | None) -> float:
    """Part of a GPU for each worker where none is asked for.

    Measured on this machine's GPU; the GPUs of a cluster may be others, and this one may have none.
    """
    import torch

    from workers.gpu_share import measured_share

    if address is not None or not torch.cuda.is_available():
        return GPU_SHARE
    return measured_share(memory_share)


def resources() -> dict[str, float]:
    """What the machine or cluster has in all: CPU, GPU and others."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def sources(job: Job, has: set[str]) -> dict[str, dict[str, Any]]:
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
    found: bytes = ray.cloudpickle.dumps(entries)  # type: ignore[no-untyped-call]
    return found


def death(err: RayError) -> Failure:
    """The failure that a dead worker is: out of memory, its machine taken away, or died."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    text, detail = str(err), " ".join(lines)[:300]
    # The text of any death names the kernel's memory killer as one of several possible causes;
    # only Ray's own memory monitor says so for certain.
    if isinstance(err, OutOfMemoryError) or "running low on memory" in text:
        return Failure(cause="out_of_memory", detail=detail)
    # A machine that ends as it was told to, spot machines among them, is no fault of the layer.
    if getattr(err, "preempted", False) or "terminated expectedly" in text:
        return Failure(cause="preempted", detail=detail)
    return Failure(cause="died", detail=detail)


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
