"""What the Ray pool knows of each actor and of the jobs that it gave it: plain data."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from evosearch.records import Job
from workers.ray_actor import SIGNS


@dataclass(slots=True)
class Assigned:
    """A job at an actor, and the stream that its messages come by.

    ``number``: of this submission. ``brings``: hashes of the plug-ins that were sent with it.
    ``cancelled``: since when it is to end, once its turn has come.
    """

    job: Job
    number: int
    stream: Any
    brings: frozenset[str] = frozenset()
    cancelled: float | None = None


@dataclass(slots=True)
class Actor:
    """An actor and its jobs; the first one runs.

    ``answer``: of its start. ``since``: when it last got on: answered, took a step, sent a message
    or got its first job. ``sign``: what it was asked at ``asked`` and has not answered yet.
    ``beats``: how far it said it was. ``has``: hashes of the plug-ins that have reached it: a job
    that was sent and taken back brought nothing.
    """

    name: str
    handle: Any
    answer: Any
    jobs: deque[Assigned] = field(default_factory=deque)
    since: float = 0.0
    asked: float = 0.0
    sign: Any = None
    beats: int = -1
    has: set[str] = field(default_factory=set)


def signs(method: Any) -> Any:
    """The actor's method, answered while a job runs."""
    return method.options(concurrency_group=SIGNS)
