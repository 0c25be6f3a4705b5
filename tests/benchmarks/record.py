"""Where benchmark and study results go: JSON with hardware and versions beside the figures."""

from __future__ import annotations

import json
import os
import platform
import statistics
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
