"""The rows of a table while it is built: a file of lines that several processes append to.

A row is claimed before it is measured, by a lock that ends with its process; so a killed build
loses the row at hand alone, and another process takes it over. This file must not measure anything.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from evosearch.errors import ConfigError
from workers.table.form import Ascent, Row, Stored

_APPEND, _PACK = 0, 1
"""Bytes of the lock file that are no row's."""
_ROWS = 2


class Journal:
    """Rows that are done, in a folder beside the table.

    ``identity``: everything that decides the rows' content.

    Raises:
        ConfigError: the folder is of a build with another identity.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "rows.jsonl"
        self._locks = (folder / "locks").open("a+b")
        self._done: dict[int, dict[str, Any]] = {}
        self._read_to = 0
        try:
            with self._locked(_APPEND):
                self._begin(identity)
        except BaseException:
            self._locks.close()
            raise

    def _begin(self, identity: dict[str, Any]) -> None:
        told = json.dumps(identity, sort_keys=True)
        head = self.folder / "build.json"
        if not head.exists():
            part = head.with_suffix(".part")
            part.write_text(told)
            part.replace(head)
        elif head.read_text() != told:
            raise ConfigError(
                "another build is in that folder", got=str(self.folder),
                hint="build it with the same options, choose another --out, or remove the folder",
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.close()

    def done(self) -> dict[int, dict[str, Any]]:
        """Number -> what was appended for it, by any process so far."""
        if not self._path.exists():
            return self._done
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written, or its writer was killed
                self._read_to += len(line)
                entry = _entry(line)
                if entry is not None:
                    self._done[entry["row"]] = entry
        return self._done

    @contextmanager
    def claim(self, number: int) -> Iterator[bool]:
        """Whether the row is this process's to measure, while the context lasts."""
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _ROWS + number)
        except OSError:
            yield False
            return
        try:
            yield number not in self.done()
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _ROWS + number)

    def append(self, number: int, row: Row, **more: Any) -> None:
        """Write the row down for good."""
        line = json.dumps({"row": number, **more, **_plain(row)}).encode() + b"\n"
        with self._locked(_APPEND), self._path.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a killed writer's line
                    file.write(b"\n")
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def packing(self) -> Iterator[None]:
        """Within it no other process packs the table."""
        with self._locked(_PACK):
            yield

    @contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, byte)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, byte)


def _entry(line: bytes) -> dict[str, Any] | None:
    """The line's content; None of a line whose writer was killed."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "runs" in entry else None


def _plain(row: Row) -> dict[str, Any]:
    return {
        "runs": [
            [
                {
                    "signal": one.signal,
                    "scores": {str(step): score for step, score in one.scores.items()},
                    "curve": [list(point) for point in one.curve],
                    "diverged_at": one.diverged_at,
                    "trained": one.trained,
                    "seconds": [
                        one.build_seconds, one.signal_seconds, one.step_seconds, one.score_seconds
                    ],
                }
                for one in seed
            ]
            for seed in row.runs
        ],
        "ascents": [
            None if one is None else [one.norm, one.steps, one.seconds] for one in row.ascents
        ],
    }  # fmt: skip


def read_row(entry: dict[str, Any]) -> Row:
    """The row that an entry of the journal holds."""
    return Row(
        tuple(tuple(_stored(one) for one in seed) for seed in entry["runs"]),
        tuple(None if one is None else Ascent(*one) for one in entry["ascents"]),
    )


def _stored(entry: dict[str, Any]) -> Stored:
    return Stored(
        entry["signal"],
        {int(step): score for step, score in entry["scores"].items()},
        tuple((step, loss) for step, loss in entry["curve"]),
        entry["diverged_at"],
        entry["trained"],
        *entry["seconds"],
    )
