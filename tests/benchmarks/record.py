"""Where benchmark and study results go: JSON with hardware and versions beside the figures."""

from __future__ import annotations

import gzip
import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "ray", "numpy", "sqlalchemy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Hardware and versions, as far as they bear on a figure."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def spread(values: list[float]) -> str:
    """Median with the range of several runs."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):,.0f} (range {low:,.0f} to {high:,.0f}, n={len(values)})"


def write_result(name: str, data: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``NAME.json`` in the folder of results and return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), **data}, indent=1) + "\n")
    return path


def read_rows(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows, a line each, of the files that exist, packed or not."""
    texts = (
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in files if path.exists()
    )  # fmt: skip
    return [json.loads(line) for text in texts for line in text.splitlines()]


def add_row(path: Path, row: Mapping[str, Any]) -> None:
    """One more line of an unpacked file of rows."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
