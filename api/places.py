"""Where the stream of all searches stands, as the short text that an event's id carries.

A place is a moment and the searches that had news since, each with its last number. What it does
not name was told up to that moment and no further, so an id never grows beyond `LONGEST`, however
many searches the store has. Nothing here reads
the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from evosearch.errors import ConfigError

MARGIN = timedelta(hours=1)
"""Searches with events within it are named: so late may an event be stored, or a clock be wrong."""
MOST = 512
"""Searches that a place names; with more of them in the last hour its moment lies nearer to now."""
LONGEST = 7000
"""Characters that no place passes."""
BEGINNING = datetime.min.replace(tzinfo=UTC)
_MARK = 5
"""Bytes of a search's name in a place: two of 512 look alike once in ten million places."""
_HEAD = struct.Struct(">Bd")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Place:
    """All events up to ``since`` are told, and of searches with marks those up to a number."""

    since: datetime
    marks: dict[bytes, int]

    def seq(self, search_id: str) -> int | None:
        """The number of that search's last event that is told; None where the moment counts."""
        return self.marks.get(mark_of(search_id))


@dataclass(slots=True)
class Trail:
    """What a reader was told of late: mark -> (number, the latest time of its events).

    ``least``: what it does not name was told up to this moment at least.
    """

    least: datetime = BEGINNING
    told: dict[bytes, tuple[int, datetime]] = field(default_factory=dict)

    @classmethod
    def behind(cls, place: Place) -> Trail:
        """The trail of a reader that comes back with this place."""
        # When those events happened is not in a place: no later than it was made.
        at = place.since + MARGIN
        return cls(place.since, {mark: (seq, at) for mark, seq in place.marks.items()})

    def copy(self, now: datetime) -> Trail:
        """One that goes its own way from here."""
        self._forget(now)
        return Trail(self.least, dict(self.told))

    def add(self, mark: bytes, seq: int, at: datetime) -> None:
        """An event was told; numbers and times only rise."""
        before = self.told.get(mark)
        self.told[mark] = (seq, at) if before is None else (max(seq, before[0]), max(at, before[1]))

    def place(self, now: datetime) -> str:
        """The place behind what was told, where all before ``now`` less the margin was."""
        since = self._forget(now)
        named = [(mark, seq, at) for mark, (seq, at) in self.told.items()]
        if len(named) > MOST:
            named.sort(key=lambda one: one[2], reverse=True)
            since = named[MOST][2]
            named = [one for one in named if one[2] > since]
        parts = [_HEAD.pack(_VERSION, since.timestamp())]
        parts += [mark + _varint(seq) for mark, seq, _ in named]
        return base64.urlsafe_b64encode(b"".join(parts)).decode().rstrip("=")

    def _forget(self, now: datetime) -> datetime:
        """Lets go of what need not be named any more; returns the moment that stands for it."""
        since = self.least = max(self.least, now - MARGIN)
        if any(at <= since for _, at in self.told.values()):
            self.told = {mark: one for mark, one in self.told.items() if one[1] > since}
        return since


def mark_of(search_id: str) -> bytes:
    """What stands for a search in a place."""
    return hashlib.blake2s(search_id.encode(), digest_size=_MARK).digest()


def read_place(text: str) -> Place:
    """The place in an event's id.

    Raises:
        ConfigError: the text is no place that the stream of all gave out.
    """
    bad = ConfigError("bad Last-Event-ID", expected="the id of an event", got=repr(text)[:60])
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        version, since = _HEAD.unpack_from(data)
        moment = datetime.fromtimestamp(since, UTC)
    except (ValueError, OverflowError, OSError, binascii.Error, struct.error) as err:
        raise bad from err
    if version != _VERSION:
        raise bad
    marks, at = {}, _HEAD.size
    while at < len(data):
        mark, at = data[at : at + _MARK], at + _MARK
        seq, at = _read_varint(data, at)
        if seq < 0:
            raise bad
        marks[mark] = seq
    return Place(moment, marks)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the last byte has no high bit."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and the place behind it; -1 where there is none."""
    number = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            return -1, at
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    return -1, at
