"""Evaluations kept across searches: what was trained once is never paid for twice.

An evaluation is found again by all that decides it: the layer (digest, or the baseline's name), the
anchor's setting, the data's content, the recipe, seed, rate and split, the kind of device, and the
version of the code and of torch. A candidate's evaluation is found only under the same checks,
which it had to pass; learnt bounds and hurdles move on, so what was found then is judged again by
those of now. This file must not know which pool it stands before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evosearch.jobs import least_score
from evosearch.ports import Pool, WorkerReport
from evosearch.records import EvaluationDone, Job, JobDone, Message, Run
from primitives.digest import digest
from workers.anchors import ANCHORS, can_be_checked
from workers.checks import judge_hurdle, judge_signal
from workers.datasets._digest import content_digest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("workers/*.py", "workers/anchors/*.py", "workers/datasets/*.py", "primitives/*.py")
"""Files whose change may change a score."""


@cache
def code_version() -> str:
    """A digest of the code that trains, and the version of torch."""
    text = hashlib.sha256(version("torch").encode())
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            text.update(path.name.encode() + b"\0" + path.read_bytes())
    return text.hexdigest()


def key_of(job: Job, run: Run, device: str = "cpu") -> str | None:
    """The name under which that run of the job's layer is kept; None where it cannot be told.

    It cannot where the data are not at hand here: their name alone would stand for any content.
    """
    own = ANCHORS.get(run.anchor).own
    # The data of a user's own task come from its code, which is part of the key.
    name = job.task.dataset if own is None else own.dataset
    data = content_digest(name) if name else ""
    if data is None:
        return None
    task = job.task.model_dump(mode="json")
    anchors: list[dict[str, Any]] = task.pop("anchors")
    anchor = next((one for one in anchors if one["name"] == run.anchor), {})
    for name in ("reference", "references"):  # they judge scores and do not change them
        anchor.pop(name, None)
    for plugin in task["plugins"]:  # the content counts, not where it lies
        plugin.pop("file"), plugin.pop("folder")
    parts = {
        "layer": digest(job.graph) if job.graph is not None else job.subject.key,
        "is_baseline": job.graph is None,
        "anchor": anchor,
        "task": task,
        "data": data,
        "device": device,
        "run": run.model_dump(mode="json"),
        "checks": job.checks.model_dump(mode="json") if job.checks is not None else None,
        "code": code_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def passes(job: Job, told: Sequence[EvaluationDone]) -> bool:
    """Whether the job would end well now: no check's run is missing, and all are within bounds."""
    assert job.checks is not None
    checks = [check for one in told for check in one.checks]
    anchors = [run.anchor for run in job.runs if can_be_checked(run.anchor)]
    wanted = {(name, anchor) for name in ("signal", "quality") for anchor in anchors
              if getattr(job.checks, name).enabled}  # fmt: skip
    if job.checks.stability.enabled and anchors:
        wanted.add(("stability", anchors[0]))
    if not wanted <= {(check.check, check.anchor) for check in checks}:
        return False
    bounds = job.bounds or job.checks.signal.bounds
    if any(
        check.check == "signal"
        and judge_signal(check.anchor, check.findings, bounds.get(check.anchor, {})) is not None
        for check in checks
    ):
        return False
    reached = {one.evaluation.anchor: one.evaluation.milestones for one in told}
    return not any(
        judge_hurdle(anchor, step, score, least_score(job, anchor, step, reached)).rejection
        for anchor, by_step in reached.items()
        for step, score in by_step.items()
    )


class EvaluationCache:
    """A folder of evaluations, one small file each; many processes may share it.

    ``device``: the kind that evaluations are made on, for scores differ between kinds.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._folder, self._device = folder, device
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, job: Job, run: Run) -> EvaluationDone | None:
        """What was told of that run, with its checks, if it was kept; a broken file is none."""
        path = self._path(job, run)
        if path is None:
            return None
        try:
            return EvaluationDone.model_validate_json(path.read_text())
        except (OSError, ValidationError):
            return None

    def put(self, job: Job, done: EvaluationDone) -> None:
        """Keep what a worker told of a run; a reader never sees half of it."""
        evaluation = done.evaluation
        run = Run(
            anchor=evaluation.anchor,
            seed=evaluation.seed,
            learning_rate=evaluation.learning_rate,
            split=evaluation.split,
        )
        path = self._path(job, run)
        if path is None:
            return
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(done.model_dump_json())
        part.replace(path)

    def _path(self, job: Job, run: Run) -> Path | None:
        key = key_of(job, run, self._device)
        return None if key is None else self._folder / key[:2] / f"{key}.json"


class CachedPool:
    """A `Pool` that answers what it knows from the cache and asks another pool for the rest.

    A job with checks is answered only whole: its rejections are not kept, and cost little. What is
    answered says the steps and seconds that it once took, so that a search with a budget of steps
    comes out the same. ``saved``: evaluations that were not trained.
    """

    def __init__(self, pool: Pool, kept: EvaluationCache) -> None:
        self._pool, self._kept = pool, kept
        self._known: list[Message] = []
        self._jobs: dict[str, Job] = {}
        self.saved = 0

    @property
    def capacity(self) -> int:
        return self._pool.capacity

    def interrupt(self) -> None:
        """End the job at hand at its next step, where the other pool can."""
        interrupt = getattr(self._pool, "interrupt", None)
        if interrupt is not None:
            interrupt()

    @property
    def gpu_share(self) -> float:
        """That of the other pool."""
        return self._pool.gpu_share

    def submit(self, job: Job) -> None:
        """Queue a job, or what of it is not known."""
        known = {} if job.signal_only else self._known_runs(job)
        self.saved += len(known)
        self._known += [one.model_copy(update={"job_id": job.id}) for one in known.values()]
        if known and len(known) == len(job.runs):
            self._known.append(JobDone(job_id=job.id, worker="cache"))
            return
        self._jobs[job.id] = job
        left = tuple(run for run in job.runs if run not in known)
        self._pool.submit(job.model_copy(update={"runs": left}))

    def _known_runs(self, job: Job) -> dict[Run, EvaluationDone]:
        found = {run: one for run in job.runs if (one := self._kept.get(job, run)) is not None}
        if job.checks is None:  # whatever they were, nobody asked for them
            return {run: one.model_copy(update={"checks": ()}) for run, one in found.items()}
        anchors = {run.anchor for run in job.runs}
        found = {
            run: one.model_copy(
                update={"checks": tuple(c for c in one.checks if c.anchor in anchors)}
            )
            for run, one in found.items()
        }
        return found if len(found) == len(job.runs) and passes(job, [*found.values()]) else {}

    def poll(self, timeout: float) -> list[Message]:
        """Messages that have come; what was known comes first."""
        messages, self._known = self._known, []
        fresh = self._pool.poll(0.0 if messages else timeout)
        for message in fresh:
            job = self._jobs.get(message.job_id)
            if job is None:
                continue
            if isinstance(message, EvaluationDone):
                self._kept.put(job, message)
            else:
                del self._jobs[message.job_id]
        return messages + fresh

    def cancel(self, job_id: str) -> None:
        """Drop a job, wherever it is."""
        self._known = [message for message in self._known if message.job_id != job_id]
        self._jobs.pop(job_id, None)
        self._pool.cancel(job_id)

    def workers(self) -> list[WorkerReport]:
        """Those of the other pool."""
        return self._pool.workers()

    def close(self) -> None:
        """Close the other pool; what was kept stays."""
        self._pool.close()
