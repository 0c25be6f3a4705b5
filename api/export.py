"""Takes a layer home: which artefact, in which file; files appear whole or not at all.

The artefacts themselves, and the checks that they must pass first, are `primitives.artefacts`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from evosearch.errors import EvosearchError
from evosearch.state import State
from primitives.artefacts import BINARY, Format, artefact
from primitives.graph import Graph

__all__ = ["BINARY", "Format", "artefact", "checked_source", "write_bytes", "write_file",
           "write_leader"]  # fmt: skip


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
    write_file(path, checked_source(graph, notes=[f"Search: {search_id}, {leader['birth']}"]))
    return path
