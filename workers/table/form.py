"""The table's form: one compressed numpy file, versioned, without pickle.

A row is a function of the sub-space or a baseline; for each seed and anchor it holds what a
training measured, as far as it was carried. This file must not train anything.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from evosearch.config import SearchConfig
from evosearch.errors import ConfigError, NotFound
from evosearch.records import Record
from evosearch.subspace import Function
from primitives.digest import DIGEST_VERSION, digest
from primitives.errors import EvosearchError
from primitives.fingerprint import FINGERPRINT_VERSION, fingerprint
from primitives.graph import Graph
from workers.checks import MEASURED
from workers.training import curve_steps

TABLE_VERSION = 1
SHIPPED = Path(__file__).with_name("quickstart.npz")
"""The table that comes with the package: all of its sub-space on the quickstart's task."""
DIGEST_BYTES = 16
"""Bytes kept of a digest: enough to tell any number of graphs apart."""


class Header(Record):
    """What a table says of itself.

    ``config``: the search that the table can answer, with the sub-space in ``config.space``.
    ``milestones``: steps with a stored score, the last one is the end of training. ``worst``:
    anchor -> score of a diverged training. ``groups``: anchor -> width -> group count of layers
    that have groups. ``raw``, ``graphs``, ``refused``: of `evosearch.subspace.Enumeration`.
    ``functions``: of the whole sub-space; the table may hold fewer. ``made_with``: versions.
    """

    version: int = TABLE_VERSION
    config: SearchConfig
    seeds: tuple[int, ...]
    milestones: tuple[int, ...]
    baselines: tuple[str, ...]
    worst: dict[str, float]
    groups: dict[str, dict[str, int]]
    raw: int
    graphs: int
    refused: dict[str, tuple[int, float]]
    functions: int
    digest_version: int = DIGEST_VERSION
    fingerprint_version: str = FINGERPRINT_VERSION
    made_with: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Stored:
    """One training as the table holds it.

    ``signal``: the measured statistics before the first step. ``scores``: step -> score.
    ``diverged_at``: first step whose loss was not finite, or 0. ``trained``: steps that were done.
    The rest are processor seconds: of making the network, of the signal's pass, of a training step,
    of scoring once.
    """

    signal: dict[str, float]
    scores: dict[int, float]
    curve: tuple[tuple[int, float], ...]
    diverged_at: int
    trained: int
    build_seconds: float
    signal_seconds: float
    step_seconds: float
    score_seconds: float


@dataclass(frozen=True, slots=True)
class Ascent:
    """What the stability check measured on the first anchor."""

    norm: float
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """A function or baseline. ``runs``: seeds x anchors; ``ascents``: of each seed, or none."""

    runs: tuple[tuple[Stored, ...], ...]
    ascents: tuple[Ascent | None, ...]

    @property
    def complete(self) -> bool:
        """Whether it was trained to the end on every anchor and seed."""
        return all(ascent is not None for ascent in self.ascents)


class Table:
    """A loaded table; functions come first, then the baselines."""

    def __init__(self, header: Header, functions: Sequence[Function], rows: Sequence[Row]) -> None:
        self.header, self.functions, self.rows = header, list(functions), list(rows)
        self._digests = {
            name[: 2 * DIGEST_BYTES]: index
            for index, function in enumerate(self.functions)
            for name in function.digests
        }
        self._prints = {one.fingerprint: index for index, one in enumerate(self.functions)}
        self._found: dict[Graph, int | None] = {}

    @property
    def complete(self) -> bool:
        """Whether the table holds every function of its sub-space."""
        return len(self.functions) == self.header.functions

    def find(self, graph: Graph) -> int | None:
        """The row of the graph's function, by digest and then by fingerprint; None outside."""
        if graph not in self._found:
            found = self._digests.get(digest(graph)[: 2 * DIGEST_BYTES])
            if found is None:
                affine = self.header.config.evolution.modulo_affine
                found = self._prints.get(fingerprint(graph, modulo_affine=affine))
            self._found[graph] = found
        return self._found[graph]

    def baseline(self, name: str) -> int:
        """The row of a baseline.

        Raises:
            NotFound: the table has no such baseline.
        """
        if name not in self.header.baselines:
            raise NotFound(
                "the table has no such baseline", got=name,
                expected="one of " + ", ".join(self.header.baselines),
            )  # fmt: skip
        return len(self.functions) + self.header.baselines.index(name)

    def scores(self, row: int) -> NDArray[np.float64]:
        """Scores at the end (seeds, anchors); NaN where the training was not carried to it."""
        anchors = self.header.config.anchor_names
        return np.array(
            [
                [
                    self.header.worst[anchor] if one.diverged_at
                    else one.scores.get(self.header.milestones[-1], np.nan)
                    for anchor, one in zip(anchors, runs, strict=True)
                ]
                for runs in self.rows[row].runs
            ]
        )  # fmt: skip

    def viable(self) -> list[int]:
        """Functions that were trained to the end: some seed passed signal or audit, and quality."""
        return [index for index in range(len(self.functions)) if self.rows[index].complete]


def save_table(path: Path, table: Table) -> None:
    """Write the table; a reader never sees half of it."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **_arrays(table))
    part.replace(path)


def load_table(path: str | Path = SHIPPED) -> Table:
    """The table in the file; by default the one that comes with the package.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no table, or one of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound("no such table", got=str(path), hint="evosearch bench table build")
    try:
        # Opened here, for numpy leaves what it cannot read open.
        with path.open("rb") as binary, np.load(binary, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _table(arrays)
    except (ValueError, LookupError, zipfile.BadZipFile, ValidationError, EvosearchError) as err:
        if isinstance(err, ConfigError):
            raise
        raise ConfigError("not a table of this version", got=f"{path}: {err}"[:200]) from err


def _arrays(table: Table) -> dict[str, Any]:
    """Name -> array."""
    header, rows = table.header, table.rows
    digests = [
        (index, bytes.fromhex(name)[:DIGEST_BYTES])
        for index, function in enumerate(table.functions)
        for name in function.digests
    ]
    runs = [[list(seed) for seed in row.runs] for row in rows]
    shape = (len(rows), len(header.seeds), len(header.config.task.anchors))

    def of(read: Any, width: int, kind: Any) -> NDArray[Any]:
        cells = [read(one) for row in runs for seed in row for one in seed]
        return np.array(cells, kind).reshape(*shape, width)

    points = sorted(curve_steps(header.config.task.steps))
    nothing = Ascent(np.nan, -1, np.nan)
    ascents = [one or nothing for row in rows for one in row.ascents]
    return {
        "header": _text(header.model_dump_json()),
        "graphs": _text(json.dumps([one.graph.to_json() for one in table.functions])),
        "fingerprints": _text(json.dumps([one.fingerprint for one in table.functions])),
        "probability": np.array([one.probability for one in table.functions]),
        "digest_of": np.array([index for index, _ in digests], np.int32),
        "digests": np.frombuffer(b"".join(name for _, name in digests), np.uint8),
        "signal": of(lambda one: [one.signal[name] for name in MEASURED],
                     len(MEASURED), np.float32),
        "seconds": of(
            lambda one: [one.build_seconds, one.signal_seconds, one.step_seconds,
                         one.score_seconds], 4, np.float32),
        "scores": of(
            lambda one: [one.scores.get(step, np.nan) for step in header.milestones],
            len(header.milestones), np.float64),
        "curve": of(
            lambda one: [dict(one.curve).get(step, np.nan) for step in points],
            len(points), np.float32),
        "reached": of(lambda one: [one.diverged_at, one.trained], 2, np.int32),
        "ascents": np.array(
            [[one.norm, one.steps, one.seconds] for one in ascents], np.float32
        ).reshape(*shape[:2], 3),
    }  # fmt: skip


def _text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _table(arrays: Mapping[str, NDArray[Any]]) -> Table:
    raw = json.loads(arrays["header"].tobytes())
    if not isinstance(raw, dict) or raw.get("version") != TABLE_VERSION:
        found = raw.get("version") if isinstance(raw, dict) else None
        raise ConfigError(
            "a table of another version", expected=str(TABLE_VERSION), got=str(found)[:20]
        )
    header = Header.model_validate(raw)
    if (header.digest_version, header.fingerprint_version) != (DIGEST_VERSION, FINGERPRINT_VERSION):
        raise ConfigError(
            "the table's identities are another version's",
            got=f"digest {header.digest_version}, fingerprint {header.fingerprint_version}",
            expected=f"digest {DIGEST_VERSION}, fingerprint {FINGERPRINT_VERSION}",
            hint="build it anew",
        )
    functions = [
        Function(Graph.from_json(graph), name, [], chance)
        for graph, name, chance in zip(
            json.loads(arrays["graphs"].tobytes()),
            json.loads(arrays["fingerprints"].tobytes()),
            arrays["probability"].tolist(),
            strict=True,
        )
    ]
    names = arrays["digests"].tobytes()
    for place, index in enumerate(arrays["digest_of"].tolist()):
        start = place * DIGEST_BYTES
        functions[index].digests.append(names[start : start + DIGEST_BYTES].hex())
    return Table(header, functions, _rows(header, arrays))


def _rows(header: Header, arrays: Mapping[str, NDArray[Any]]) -> list[Row]:
    points = sorted(curve_steps(header.config.task.steps))
    names = ("signal", "seconds", "scores", "curve", "reached", "ascents")
    # The statistics were single precision when they were measured, so nothing is lost.
    cells = {name: arrays[name].tolist() for name in names}
    anchors = range(len(header.config.task.anchors))

    def stored(row: int, seed: int, anchor: int) -> Stored:
        signal, seconds, scores, curve, reached = (
            cells[name][row][seed][anchor] for name in names[:5]
        )
        kept = zip(points, curve, strict=True)
        return Stored(
            dict(zip(MEASURED, signal, strict=True)),
            {s: v for s, v in zip(header.milestones, scores, strict=True) if v == v},
            tuple((step, loss) for step, loss in kept if loss == loss),
            *reached,
            *seconds,
        )

    def ascent(row: int, seed: int) -> Ascent | None:
        norm, steps, seconds = cells["ascents"][row][seed]
        return Ascent(norm, int(steps), seconds) if steps >= 0 else None

    seeds = range(len(header.seeds))
    return [
        Row(
            tuple(tuple(stored(row, seed, anchor) for anchor in anchors) for seed in seeds),
            tuple(ascent(row, seed) for seed in seeds),
        )
        for row in range(len(arrays["signal"]))
    ]
