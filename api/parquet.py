"""Candidates as Parquet in a stream: row group by row group, so memory stays flat."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from db.candidate_pages import COLUMNS

ROWS = 5000
_TEXT = (
    "state", "origin", "formula", "scores", "properties", "rejection_code", "rejection_detail",
    "failure_cause", "failure_detail", "note", "digest", "fingerprint", "worker",
)  # fmt: skip
_FLAGS = (
    "on_front", "batch_independent", "causal_safe", "pointwise", "audit", "audit_passed",
)  # fmt: skip
_TIMES = ("queued_at", "finished_at")
_FLOATS = ("mean_score", "seconds", "step_time")


def parquet_stream(rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """The rows as one Parquet file, in pieces."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(name, _kind(pyarrow, name)) for name in COLUMNS])
    out = _Sink()
    with parquet.ParquetWriter(pyarrow.PythonFile(out, "w"), schema) as writer:
        while group := list(islice(rows, ROWS)):
            for row in group:
                for name in ("scores", "properties"):
                    row[name] = None if row[name] is None else json.dumps(row[name])
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
            yield out.take()
    yield out.take()


def _kind(pyarrow: Any, name: str) -> Any:
    if name in _TEXT:
        return pyarrow.string()
    if name in _FLAGS:
        return pyarrow.bool_()
    if name in _TIMES:
        return pyarrow.timestamp("us", tz="UTC")
    return pyarrow.float64() if name in _FLOATS else pyarrow.int64()


class _Sink(io.RawIOBase):
    """Keeps what was written until it is taken; knows its place as a file does."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._place += len(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
