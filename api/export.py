"""Takes a layer home: which artefact, in which file; files appear whole or not at all.

The artefacts themselves, and the checks that they must pass first, are `primitives.artefacts`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evosearch.config import SearchConfig
from evosearch.errors import EvosearchError
from evosearch.report import lineage
from evosearch.state import State
from primitives.artefacts import BINARY, Format, artefact
from primitives.graph import Graph

__all__ = ["BINARY", "Format", "about", "about_member", "artefact", "checked_source", "notes",
           "write_bytes", "write_file", "write_leader"]  # fmt: skip


def about(
    config: SearchConfig,
    search_id: str | None,
    birth: int,
    scores: Mapping[str, float] | None,
    seeds: int,
    ancestors: list[dict[str, Any]],
) -> dict[str, object]:
    """What a bundle says of a candidate, and `notes` in the docstring of a Python file."""
    known: dict[str, object] = {} if search_id is None else {"search": search_id}
    return known | {
        "candidate": birth,
        "lineage": ancestors,
        "scores on select": dict(scores or {}),
        "seeds of the scores": seeds,
        "seed of the search": config.seed,
        "config": config.model_dump(mode="json"),
    }


def about_member(state: State, search_id: str | None, birth: int) -> dict[str, object]:
    """The same of a candidate of a search that is at hand; one that never got far has no scores."""
    member = state.members.get(birth)
    means = member.means() if member is not None else {}
    seeds = member.seeds if member is not None else 0
    return about(state.config, search_id, birth, means, seeds, lineage(state, birth))


def notes(known: Mapping[str, Any], config: SearchConfig) -> list[str]:
    """Lines for the docstring of a Python file: search, candidate, scores and their certainty."""
    lines = [f"{key.capitalize()}: {known[key]}" for key in ("search", "candidate") if key in known]
    scores, seeds = known["scores on select"], known["seeds of the scores"]
    if scores:
        shown = (f"{name} {config.objective(name).text(score)}" for name, score in scores.items())
        certain = "one seed, provisional" if seeds == 1 else f"means of {seeds} seeds"
        lines.append(f"Scores on select: {', '.join(shown)} ({certain})")
    return lines


def checked_source(graph: Graph, notes: Iterable[str] = ()) -> str:
    """Python text of the layer, verified against the interpreter in both modes.

    Raises:
        LayerError: the code computes something else than the graph means.
    """
    return artefact(graph, "python", notes=notes).decode()


def write_file(path: Path, text: str) -> None:
    """Write the text so that the file is whole or untouched.

    Raises:
        EvosearchError: the folder is missing or cannot be written to.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write the bytes so that the file is whole or untouched.

    Raises:
        EvosearchError: the folder is missing or cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise EvosearchError(
            "cannot write the file", where=str(path), got=err.strerror or str(err),
            hint="name another one with --out",
        ) from err  # fmt: skip


def write_leader(state: State, search_id: str, out: Path | None = None) -> Path | None:
    """Write the leader of a finished search as a module, by default to ``leader-ID.py``.

    Returns:
        The file; None if the search found no leader.
    """
    leader = (state.report or {}).get("leader")
    if leader is None:
        return None
    graph = state.members[leader["birth"]].graph
    path = out or Path(f"leader-{search_id}.py")
    known = about_member(state, search_id, leader["birth"])
    write_file(path, checked_source(graph, notes=notes(known, state.config)))
    return path
