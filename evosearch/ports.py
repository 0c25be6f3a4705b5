"""What the search needs from outside: a memory (`Store`) and workers (`Pool`).

Domain objects in and out; nothing here may know of SQL, HTTP or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal, Protocol

from pydantic import Field, TypeAdapter

from evosearch.config import Limits, SearchConfig
from evosearch.events import Event, SearchStatus, StoredEvent
from evosearch.records import GraphData, Job, Message, Record

Progress = Callable[[str, int, int], None]
"""Told by long tasks now and then: what they are at, how much is done, of how much."""


def unseen(what: str, done: int, of: int) -> None:
    """The `Progress` that nobody looks at."""


class Pause(Record):
    """Stop proposing, let go of what is running, keep everything."""

    kind: Literal["pause"] = "pause"


class Resume(Record):
    """Go on after a pause."""

    kind: Literal["resume"] = "resume"


class Stop(Record):
    """End for good without the confirmation."""

    kind: Literal["stop"] = "stop"


class Enqueue(Record):
    """Evaluate this layer before the next proposal."""

    kind: Literal["enqueue"] = "enqueue"
    graph: GraphData
    note: str = ""


class Extend(Record):
    """Set the budget of fully evaluated candidates; 0 ends a search that has none.

    ``limits``: others of the budget's limits that change. What is not named stays.
    """

    kind: Literal["extend"] = "extend"
    evaluations: Annotated[int, Field(ge=0)] | None = None
    limits: Limits = {}
    reason: str = ""


class ChangeCode(Record):
    """Go on with other code of the plug-ins; ``config`` and ``reason`` as in `CodeChanged`."""

    kind: Literal["change_code"] = "change_code"
    config: SearchConfig
    reason: str


class Remeasure(Record):
    """Give an evaluated candidate fresh seeds on every anchor."""

    kind: Literal["remeasure"] = "remeasure"
    birth: Annotated[int, Field(ge=0)]
    seeds: Annotated[int, Field(ge=1, le=20)] = 1


Command = Pause | Resume | Stop | Enqueue | Extend | ChangeCode | Remeasure
COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command that waits; ``id`` grows with the order in which commands came."""

    id: int
    command: Command


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """What a list of searches shows: identity, status and counts, kept up to date by the store.

    ``here_since``: when it came into this store; a clone or an import is younger here than it is.
    """

    id: str
    title: str
    config: SearchConfig
    status: SearchStatus
    created_at: datetime
    updated_at: datetime
    last_seq: int
    evaluated: int
    hypervolume: float
    here_since: datetime

    @property
    def key(self) -> tuple[str, datetime]:
        """What tells it from another one that comes under its id once it is deleted."""
        return self.id, self.here_since


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to one search. ``epoch`` grows with each owner: a fencing token."""

    search_id: str
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the events up to number ``seq`` fold to, as text that the store does not read."""

    seq: int
    text: str


class Store(Protocol):
    """The memory of all searches.

    Every method is one transaction. Errors are `evosearch.errors.StoreError` and its children.
    """

    def create(self, search_id: str, title: str, created: Event) -> SearchInfo:
        """Add a search whose first event is ``created``; its status is ``running``."""

    def searches(self) -> list[SearchInfo]:
        """All searches, the newest first."""

    def search(self, ref: str) -> SearchInfo:
        """The search of that id or unambiguous prefix of an id.

        Raises:
            NotFound: there is none, or more than one.
        """

    def acquire(self, search_id: str, owner: str, seconds: float) -> Lease:
        """Take the lease for so long, judged by the store's clock.

        Raises:
            LeaseHeld: another owner's lease has not expired.
        """

    def renew(self, lease: Lease, seconds: float) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: another owner took it.
        """

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens if it is lost already."""

    def append(self, lease: Lease, events: Sequence[Event], done: Sequence[int] = ()) -> int:
        """Write events, what follows from them, and commands done, all or nothing.

        Returns:
            The sequence number of the last event.

        Raises:
            LeaseLost: the lease is another's by now; nothing was written.
            StateConflict: an event does not fit the candidate's state; nothing was written.
        """

    def events(self, search_id: str, after: int = 0) -> Iterator[StoredEvent]:
        """The events of a search with a sequence number above ``after``, in order."""

    def save(self, lease: Lease, snapshot: Snapshot) -> None:
        """Keep the snapshot in place of an older one.

        Raises:
            LeaseLost: the lease is another's by now; nothing was written.
            StateConflict: the search has no such event.
        """

    def snapshot(self, search_id: str) -> Snapshot | None:
        """The search's snapshot that can be read, if there is one."""

    def send(self, search_id: str, command: Command) -> int:
        """Leave a command for whoever runs the search; returns its id."""

    def commands(self, lease: Lease) -> list[StoredCommand]:
        """The commands of the search that are not done, in order; whoever's the lease is by now."""

    def star(self, search_id: str, birth: int, on: bool = True) -> None:
        """Give a candidate a reader's star, or take it away; it is no event of the search.

        Raises:
            NotFound: there is no such search or candidate.
        """

    def stars(self, search_id: str) -> list[int]:
        """Births of the search's starred candidates, ascending."""

    def close(self) -> None:
        """Let go of connections; idempotent."""


WorkerState = Literal["starting", "idle", "busy", "dead"]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker as its pool sees it. ``seconds``: how long it has been so; None where unknown.

    ``failures``: cause -> how often a job, or the worker itself, failed so at it.
    """

    name: str
    state: WorkerState
    job: str | None = None
    seconds: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)


class Pool(Protocol):
    """The workers that evaluate.

    A pool is used by one thread. It never loses a job silently: each submitted job ends in
    exactly one `JobDone`, whatever happened to its worker, unless it was cancelled.
    """

    @property
    def capacity(self) -> int:
        """Jobs that the pool wants to hold, running and waiting."""

    @property
    def gpu_share(self) -> float:
        """Part of a GPU that each worker takes, by which GPU-hours are counted; 0 for none."""

    def submit(self, job: Job) -> None:
        """Queue a job."""

    def poll(self, timeout: float) -> list[Message]:
        """Messages that have come; waits up to ``timeout`` seconds for the first one.

        The inline pool computes the next message here instead.
        """

    def cancel(self, job_id: str) -> None:
        """Drop a job, running or waiting; no further message comes from it."""

    def workers(self) -> list[WorkerReport]:
        """What each worker is at, the dead of late included."""

    def close(self) -> None:
        """Stop all workers; idempotent."""
