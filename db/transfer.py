"""Carries searches between stores as JSON lines, in a stream, whatever the databases are.

The events are the truth: an import projects them anew, some at a time, and the search is seen once
it is whole. Leases are not carried: they belong to the store. Nothing here may trust a file: each
line is checked, and a search comes in whole or not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, insert, select

from db.building import Building, Numbered
from db.engine import begin
from db.queries_rest import Notes
from db.refusals import not_one
from db.schema import commands, events, searches, traces
from db.schema_service import notes
from db.sql_store import SqlStore
from db.stars import add_star, starred
from evosearch.errors import StoreError
from evosearch.events import EvaluationRecorded, Event, dump_event, load_event
from evosearch.ports import COMMANDS, Progress, unseen

FORMAT = {"format": "evosearch export", "version": 1}
_BATCH = 500
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NOTES = TypeAdapter(Notes)


@dataclass(slots=True)
class Imported:
    """What an import did: ids of searches added, and of those that were there already."""

    added: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)


def export(
    store: SqlStore, out: TextIO, search_ids: Sequence[str] = (), progress: Progress = unseen
) -> int:
    """Writes these searches, or all of them, and returns their number."""
    if not search_ids:
        oldest = (
            select(searches.c.id)
            .where(searches.c.ready)
            .order_by(searches.c.created_at, searches.c.id)
        )
        with begin(store.engine) as connection:
            search_ids = connection.execute(oldest).scalars().all()
    out.write(_line(FORMAT))
    for search_id in search_ids:
        digest = hashlib.sha256()
        with begin(store.engine, snapshot=True) as connection:
            for line in _search_lines(connection, search_id, progress):
                digest.update(line.encode())
                out.write(line)
        out.write(_line({"end": search_id, "sha256": digest.hexdigest()}))
    return len(search_ids)


def _search_lines(connection: Connection, search_id: str, progress: Progress) -> Iterator[str]:
    head = select(searches.c.title, searches.c.last_seq).where(searches.c.id == search_id)
    found = connection.execute(head).first()
    if found is None:
        raise not_one(search_id, [])
    yield _line({"search": search_id, "title": found.title, "events": found.last_seq})
    for first in range(1, found.last_seq + 1, _BATCH):
        progress(search_id, first - 1, found.last_seq)
        yield from _event_lines(connection, search_id, first, first + _BATCH - 1)
    sent = select(commands.c.command, commands.c.sent_at, commands.c.done_at)
    sent = sent.where(commands.c.search_id == search_id).order_by(commands.c.id)
    for row in connection.execute(sent).all():
        done = row.done_at and row.done_at.isoformat()
        times = {"sent_at": row.sent_at.isoformat(), "done_at": done}
        yield _line({"command": json.loads(row.command), **times})
    written = connection.execute(select(notes).where(notes.c.search_id == search_id)).first()
    if written is not None:
        about = dict(written._mapping) | {"tags": json.loads(written.tags)}
        yield _line({"notes": {name: about[name] for name in Notes.__dataclass_fields__}})
    given = starred(connection, search_id)
    if given:
        yield _line({"stars": list(given)})
    progress(search_id, found.last_seq, found.last_seq)


def _event_lines(connection: Connection, search_id: str, first: int, last: int) -> Iterator[str]:
    wanted = (
        select(events.c.seq, events.c.at, events.c.payload, traces.c.curve)
        .outerjoin(
            traces, (traces.c.search_id == events.c.search_id) & (traces.c.seq == events.c.seq)
        )
        .where(events.c.search_id == search_id, events.c.seq.between(first, last))
        .order_by(events.c.seq)
    )
    for row in connection.execute(wanted).all():
        line = {"event": row.seq, "at": row.at.isoformat(), "data": json.loads(row.payload)}
        if row.curve not in (None, "[]"):
            line["curve"] = json.loads(row.curve)
        yield _line(line)


def import_searches(store: SqlStore, lines: Iterable[str], progress: Progress = unseen) -> Imported:
    """Adds the searches of an export beside those that are there, under the ids that they had.

    Each comes in whole or not at all. One that is there already, event by event, stays as it is.

    Raises:
        StoreError: the file is damaged or cut off, or holds another search under an id that is
            there already; the searches before it stay added.
    """
    reader = _Reader(lines, progress)
    reader.head()
    done = Imported()
    while (head := reader.search()) is not None:
        search_id = head["search"]
        with begin(store.engine) as connection:
            known = select(searches.c.title).where(searches.c.id == search_id, searches.c.ready)
            title = connection.execute(known).scalar()
        if title is not None:
            _compare(store, search_id, reader)
            done.same.append(search_id)
            continue
        with Building(store, search_id) as building:
            _add(building, head, reader)
        done.added.append(search_id)
    return done


def _add(building: Building, head: dict[str, Any], reader: _Reader) -> None:
    search_id, batch = head["search"], list[Numbered]()
    for numbered in reader.events():
        if numbered[0] == 1:
            building.begin(head["title"], numbered[2], numbered[1])
            continue
        batch.append(numbered)
        if len(batch) == _BATCH:
            building.add(batch, _nothing)
            batch = []
    if batch:
        building.add(batch, _nothing)
    rows = [{"search_id": search_id, **row} for row in reader.commands()]
    about, given = reader.notes(), reader.stars()
    reader.end()

    def finish(connection: Connection) -> None:
        if rows:
            connection.execute(insert(commands), rows)
        if about is not None:
            row = asdict(about) | {"search_id": search_id, "tags": json.dumps(about.tags)}
            connection.execute(insert(notes), row)
        for birth in given:
            add_star(connection, search_id, birth)

    building.finish(finish)


def _nothing(_connection: Connection) -> None:
    """Nothing beside the events."""


def _compare(store: SqlStore, search_id: str, reader: _Reader) -> None:
    """Refuses a search that differs from the stored one of the same id."""
    stored = store.events(search_id)
    for seq, at, event in reader.events():
        mine = next(stored, None)
        theirs = dump_event(event)
        if mine is None or mine.at != at or dump_event(mine.event) != theirs:
            raise _differs(search_id, seq)
    left = next(stored, None)
    if left is not None:
        raise _differs(search_id, left.seq)
    for _ in reader.commands():
        pass
    reader.notes()
    reader.stars()
    reader.end()


def _differs(search_id: str, seq: int) -> StoreError:
    return StoreError(
        f"another search {search_id} is there already", expected="the same events",
        got=f"a difference at event {seq}",
        hint="nothing was changed; import it into another store",
    )  # fmt: skip


class _Reader:
    """The lines of an export, checked one by one."""

    def __init__(self, lines: Iterable[str], progress: Progress) -> None:
        self._lines, self._progress = iter(lines), progress
        self._number = 0
        self._digest = hashlib.sha256()
        self._ahead: dict[str, Any] | None = None
        self._before = b""
        self._left = self._last = self._all = 0
        self._id = ""

    def _next(self) -> dict[str, Any] | None:
        if self._ahead is not None:
            data, self._ahead = self._ahead, None
            return data
        for line in self._lines:
            self._number += 1
            if not line.strip():
                continue
            self._digest.update(self._before)
            self._before = line.encode()
            try:
                data = json.loads(line)
            except ValueError as err:
                raise self._bad("a line of JSON", "something else") from err
            if not isinstance(data, dict):
                raise self._bad("a JSON object", type(data).__name__)
            return data
        return None

    def _bad(self, expected: str, got: str) -> StoreError:
        return StoreError(
            "this is no whole export", expected=expected, got=got, where=f"line {self._number}",
            hint="export again; nothing of this search was added",
        )  # fmt: skip

    def head(self) -> None:
        if (found := self._next()) != FORMAT:
            raise self._bad(json.dumps(FORMAT), json.dumps(found)[:80])

    def search(self) -> dict[str, Any] | None:
        """The next search's head; None at the end of the file."""
        data = self._next()
        if data is None:
            return None
        types = {"search": str, "title": str, "events": int}
        if (
            data.keys() != types.keys()
            or not all(type(data[k]) is kind for k, kind in types.items())
            or data["events"] < 1
        ):
            raise self._bad("a search", ", ".join(data)[:80])
        if not _ID.fullmatch(data["search"]):
            raise self._bad("an id of letters and digits", repr(data["search"])[:80])
        self._digest, self._left, self._last = hashlib.sha256(), data["events"], 0
        self._id, self._all = data["search"], data["events"]
        return data

    def events(self) -> Iterator[tuple[int, datetime, Event]]:
        """The events of the search, as many as its head promised, with their curves."""
        while self._left:
            if self._last % _BATCH == 0:
                self._progress(self._id, self._last, self._all)
            data = self._next() or {}
            if data.get("event") != self._last + 1:
                raise self._bad(f"event {self._last + 1}", f"event {data.get('event')}")
            self._left, self._last = self._left - 1, self._last + 1
            try:
                event = load_event(json.dumps(data["data"]))
                if isinstance(event, EvaluationRecorded) and "curve" in data:
                    one = event.evaluation.model_dump() | {"curve": data["curve"]}
                    event = event.model_copy(
                        update={"evaluation": type(event.evaluation).model_validate(one)}
                    )
                yield self._last, _time(data["at"]), event
            except (ValidationError, KeyError, TypeError, ValueError) as err:
                raise self._bad("an event of this version", str(err).splitlines()[0]) from err

    def commands(self) -> Iterator[dict[str, Any]]:
        """Rows of the commands that were sent to the search."""
        while (data := self._next()) is not None:
            if "command" not in data:
                self._ahead = data
                return
            try:
                done = data["done_at"]
                command = json.dumps(data["command"], separators=(",", ":"))
                COMMANDS.validate_json(command)
                times = {"sent_at": _time(data["sent_at"]), "done_at": done and _time(done)}
            except (KeyError, TypeError, ValueError) as err:
                raise self._bad("a command of this version", str(err).splitlines()[0]) from err
            yield {"command": command, **times}

    def notes(self) -> Notes | None:
        """What people wrote about the search, if they did."""
        data = self._next()
        if data is None or "notes" not in data:
            self._ahead = data
            return None
        try:
            return _NOTES.validate_python(data["notes"])
        except ValidationError as err:
            raise self._bad("notes of this version", str(err).splitlines()[0]) from err

    def stars(self) -> list[int]:
        """Births of the candidates that people gave a star."""
        data = self._next()
        if data is None or "stars" not in data:
            self._ahead = data
            return []
        found = data["stars"]
        if not isinstance(found, list) or not all(type(b) is int and 0 <= b < 2**63 for b in found):
            raise self._bad("births of starred candidates", repr(found)[:80])
        return found

    def end(self) -> None:
        """Refuses a search that was cut off or changed."""
        data = self._next() or {}
        self._progress(self._id, self._last, self._all)
        if "end" not in data or data.get("sha256") != self._digest.hexdigest():
            raise self._bad(
                "the end of a search with its digest", ", ".join(data)[:80] or "nothing"
            )


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return moment


def _line(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":")) + "\n"
