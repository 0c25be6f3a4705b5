"""A store of plain dicts, for tests, studies and searches that nobody keeps.

It obeys the contract of the SQL store, state conflicts included, and keeps only what the contract
needs: no read models, no files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from db.projection import Projection
from db.refusals import (
    exists,
    expect_created,
    expect_event,
    held,
    lost,
    no_candidate,
    not_one,
    not_waiting,
)
from db.rows import KnownCandidate, KnownJob
from evosearch.config import SearchConfig
from evosearch.errors import StateConflict
from evosearch.events import Event, StoredEvent, dump_event, load_event
from evosearch.ports import Command, Lease, SearchInfo, Snapshot, StoredCommand


@dataclass(slots=True)
class _Search:
    info: SearchInfo
    events: list[tuple[datetime, str]] = field(default_factory=list)
    candidates: dict[int, KnownCandidate] = field(default_factory=dict)
    jobs: dict[str, KnownJob] = field(default_factory=dict)
    unique: set[tuple[object, ...]] = field(default_factory=set)
    commands: dict[int, Command] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    stars: set[int] = field(default_factory=set)
    owner: str | None = None
    epoch: int = 0
    expires: float = 0.0


class MemoryStore:
    """The `Store` that forgets everything when it is closed; it may be used by many threads."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock, self._wall = clock, now
        self._lock = threading.RLock()
        self._searches: dict[str, _Search] = {}
        self._last_command = 0

    def create(self, search_id: str, title: str, created: Event) -> SearchInfo:
        config = expect_created(search_id, created).config
        at = self._wall()
        with self._lock:
            if search_id in self._searches:
                raise exists(search_id)
            info = SearchInfo(search_id, title, config, "running", at, at, 1, 0, 0.0, at)
            self._searches[search_id] = _Search(info, [(at, dump_event(created))])
            return info

    def searches(self) -> list[SearchInfo]:
        with self._lock:
            found = [one.info for one in self._searches.values()]
        return sorted(found, key=lambda info: (info.created_at, info.id), reverse=True)

    def search(self, ref: str) -> SearchInfo:
        with self._lock:
            if ref in self._searches:
                return self._searches[ref].info
            found = [name for name in self._searches if ref and name.startswith(ref)]
            if len(found) != 1:
                raise not_one(ref, found)
            return self._searches[found[0]].info

    def acquire(self, search_id: str, owner: str, seconds: float) -> Lease:
        with self._lock:
            one, now = self._get(search_id), self._clock()
            if one.owner not in (None, owner) and one.expires > now:
                raise held(search_id, str(one.owner), one.expires - now)
            one.owner, one.epoch, one.expires = owner, one.epoch + 1, now + seconds
            return Lease(search_id, owner, one.epoch)

    def renew(self, lease: Lease, seconds: float) -> None:
        with self._lock:
            self._owned(lease).expires = self._clock() + seconds

    def release(self, lease: Lease) -> None:
        with self._lock:
            one = self._get(lease.search_id)
            if (one.owner, one.epoch) == (lease.owner, lease.epoch):
                one.owner = None

    def append(self, lease: Lease, events: Sequence[Event], done: Sequence[int] = ()) -> int:
        with self._lock:
            one = self._owned(lease)
            for command in done:
                if command not in one.commands:
                    raise not_waiting(command)
            change = Projection(one.candidates, one.jobs)
            at = self._wall()
            for seq, event in enumerate(events, one.info.last_seq + 1):
                change.add(seq, at, event)
            unique = _unique(one, change)
            one.candidates |= change.now
            one.jobs |= change.jobs_now
            one.unique |= unique
            one.events.extend((row["at"], row["payload"]) for row in change.events)
            one.info = _after(one.info, change)
            for command in set(done):
                del one.commands[command]
            return one.info.last_seq

    def events(self, search_id: str, after: int = 0) -> Iterator[StoredEvent]:
        with self._lock:
            log = self._get(search_id).events
            last = len(log)
        return (
            StoredEvent(seq=seq, at=log[seq - 1][0], event=load_event(log[seq - 1][1]))
            for seq in range(max(after, 0) + 1, last + 1)
        )

    def save(self, lease: Lease, snapshot: Snapshot) -> None:
        with self._lock:
            one = self._owned(lease)
            expect_event(snapshot.seq, one.info.last_seq)
            one.snapshot = snapshot

    def snapshot(self, search_id: str) -> Snapshot | None:
        with self._lock:
            return self._get(search_id).snapshot

    def send(self, search_id: str, command: Command) -> int:
        with self._lock:
            one = self._get(search_id)
            self._last_command += 1
            one.commands[self._last_command] = command
            return self._last_command

    def commands(self, lease: Lease) -> list[StoredCommand]:
        with self._lock:
            waiting = self._get(lease.search_id).commands
            return [StoredCommand(number, command) for number, command in waiting.items()]

    def star(self, search_id: str, birth: int, on: bool = True) -> None:
        with self._lock:
            one = self._get(search_id)
            if birth not in one.candidates:
                raise no_candidate(search_id, birth)
            (one.stars.add if on else one.stars.discard)(birth)

    def stars(self, search_id: str) -> list[int]:
        with self._lock:
            return sorted(self._get(search_id).stars)

    def close(self) -> None:
        with self._lock:
            self._searches.clear()

    def _get(self, search_id: str) -> _Search:
        if search_id not in self._searches:
            raise not_one(search_id, [])
        return self._searches[search_id]

    def _owned(self, lease: Lease) -> _Search:
        one = self._get(lease.search_id)
        if (one.owner, one.epoch) != (lease.owner, lease.epoch):
            raise lost(lease, one.owner, one.epoch)
        return one


def _after(info: SearchInfo, change: Projection) -> SearchInfo:
    known = ("status", "updated_at", "last_seq", "hypervolume")
    fresh = {name: change.search[name] for name in known if name in change.search}
    if "config" in change.search:
        fresh["config"] = SearchConfig.model_validate_json(change.search["config"])
    return replace(info, evaluated=info.evaluated + change.evaluated, **fresh)


def _unique(one: _Search, change: Projection) -> set[tuple[object, ...]]:
    """Keys that may stand once in a search: what the SQL store has unique indexes for."""
    births = one.candidates.keys() | change.candidates.keys()
    for child in change.parents:
        _expect_birth(child["parent"], births)
    for birth in change.repeats:
        _expect_birth(birth, births)
    keys: list[tuple[object, ...]] = []
    for row in change.candidates.values():
        if row["duplicate_of"] is not None:
            _expect_birth(row["duplicate_of"], births)
        elif row["digest"] is not None:
            keys += [("digest", row["digest"]), ("fingerprint", row["fingerprint"])]
    for run in change.evaluations:
        names = ("job_id", "anchor", "seed", "learning_rate", "split")
        keys.append(("evaluation", *(run[name] for name in names)))
    fresh = set(keys)
    if len(fresh) < len(keys) or fresh & one.unique:
        twice = next(key for key in keys if key in one.unique or keys.count(key) > 1)
        raise StateConflict(
            f"a second {twice[0]} of the same identity", got=" ".join(map(str, twice[1:])),
            hint="nothing was written",
        )  # fmt: skip
    return fresh


def _expect_birth(birth: object, births: set[int]) -> None:
    if birth not in births:
        raise StateConflict(
            "unknown candidate", expected="a birth of this search", got=str(birth),
            hint="nothing was written",
        )  # fmt: skip
