"""Where benchmark and study results go: JSON with hardware and versions beside the figures."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from evosearch.errors import ConfigError
from workers.cache import ROOT, code_version

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


def code_digest(patterns: Iterable[str]) -> str:
    """Of the code that trains and of the files that match; it changes with any of them."""
    code = hashlib.sha256(code_version().encode())
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            code.update(path.name.encode() + b"\0" + path.read_bytes())
    return code.hexdigest()[:16]


def text_digest(text: str) -> str:
    """Of a text, for instance a config as JSON."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def resumed(
    files: Iterable[Path], settings: Mapping[str, Any], seeds: Sequence[int]
) -> tuple[list[dict[str, Any]], list[tuple[str, int]]]:
    """The searches that the files hold, and variant and seed of those still to be done.

    ``settings``: variant -> what its rows were made with. Of a seed all variants come before those
    of the next seed.

    Raises:
        ConfigError: the files hold searches with other settings (see `refuse_mixed`).
    """
    known = read_rows(files)
    wanted = [{"variant": one, "seed": 0, "settings": settings[one]} for one in settings]
    refuse_mixed([*wanted, *known])
    done = {(row["variant"], row["seed"]) for row in known}
    return known, [
        (variant, seed) for seed in seeds for variant in settings if (variant, seed) not in done
    ]


def refuse_mixed(rows: Iterable[Mapping[str, Any]]) -> None:
    """Refuse rows of searches that are not of one study.

    Each has a ``variant``, a ``seed`` and ``settings``: what all share but ``config``, which each
    variant has for itself.

    Raises:
        ConfigError: two differ in their settings, or two of one variant in their config.
    """
    known: dict[str, Any] = {}
    for row in rows:
        settings = row.get("settings", {"code": "unknown"})
        name = f"config of {row['variant']}"
        shared = {key: value for key, value in settings.items() if key != "config"}
        for key, value in (("settings", shared), (name, settings.get("config"))):
            first = known.setdefault(key, value)
            if first != value:
                raise ConfigError(
                    "searches of several studies are not compared", where=key,
                    expected=str(first), got=f"{value}, seed {row['seed']} of {row['variant']}",
                    hint="one file of rows for each data set, budget and version of the code",
                )  # fmt: skip
