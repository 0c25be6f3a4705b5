"""The folders that fill while searches run, and the room that is left where they lie."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from api.settings import ServiceSettings
from api.wiring import sqlite_path
from workers.data_dir import DATA_DIR_VARIABLE


def watched_folders(settings: ServiceSettings) -> dict[str, Path]:
    """What is written there -> folder: database (if SQLite), data, cache, temporary files, Ray's.

    A server's database lies on its own host and is not among them.
    """
    path = sqlite_path(settings.db)
    data = settings.data_dir or os.environ.get(DATA_DIR_VARIABLE)
    found = {
        "database": None if path is None else path.absolute().parent,
        "data": data and Path(data),
        "cache": settings.cache,
        "temporary files": Path(tempfile.gettempdir()),
        # Objects, logs and spilled data of workers that are started here.
        "Ray": Path(os.environ.get("RAY_TMPDIR", "/tmp")) if settings.pool == "ray" else None,
    }
    return {name: folder for name, folder in found.items() if folder}


def least_free(settings: ServiceSettings) -> tuple[int, str] | None:
    """Free bytes on the fullest of the disks, and what lies there; None where none can be asked."""
    found: list[tuple[int, str]] = []
    for name, folder in watched_folders(settings).items():
        there = next((one for one in (folder, *folder.absolute().parents) if one.exists()), None)
        if there is not None:
            found.append((shutil.disk_usage(there).free, f"{name}, {folder}"))
    return min(found, default=None)
