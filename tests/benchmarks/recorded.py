"""A short real search of a preset, recorded: what each of its jobs sent and how long it took.

Benchmarks take costs from it and studies replay it on simulated workers. This file must not decide
what becomes of the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.presets import load_preset
from evosearch.records import Job, JobDone, Message
from primitives.graph import Graph
from workers.evaluate import Context
from workers.inline import InlinePool

SEED = 4000


@dataclass(frozen=True, slots=True)
class Outcome:
    """One candidate's messages and seconds; ``rejected_by`` is None after a full evaluation."""

    graph: Graph
    rejected_by: str | None
    seconds: float
    messages: tuple[Message, ...]


class _Recorder(InlinePool):
    """An inline pool that keeps what it returned of the search's own candidates."""

    def __init__(self) -> None:
        super().__init__(Context(device="cpu"))
        self.outcomes: list[Outcome] = []
        self._jobs: dict[str, Job] = {}
        self._sent: list[Message] = []

    def submit(self, job: Job) -> None:
        self._jobs[job.id] = job
        super().submit(job)

    def poll(self, timeout: float) -> list[Message]:
        messages = super().poll(timeout)
        for message in messages:
            self._sent.append(message)
            if isinstance(message, JobDone):
                self._end(message)
        return messages

    def _end(self, done: JobDone) -> None:
        sent, self._sent = tuple(self._sent), []
        job = self._jobs.pop(done.job_id)
        if job.purpose != "search" or job.graph is None or done.failure is not None:
            return
        code = done.rejection.code if done.rejection is not None else None
        self.outcomes.append(Outcome(job.graph, code, done.seconds, sent))


def record_search(preset: str, overrides: tuple[str, ...], evaluations: int) -> list[Outcome]:
    """Run the preset's search inline until so many candidates are evaluated in full."""
    settings = (*overrides, f"budget.evaluations={evaluations}", "confirmation.enabled=false")
    config = load_preset(preset, settings, seed=SEED)
    store, pool = MemoryStore(), _Recorder()
    store.create("recorded", "recorded", ev.Created(config=config))
    controller = Controller(
        store, pool, store.acquire("recorded", "benchmark", 1e9), clock=perf_counter
    )
    controller.run()
    return pool.outcomes
