"""What looking for garbage costs a command: a small search with it looked for often and rarely.

Run with ``make bench`` or ``python -m tests.benchmarks.bench_start [--runs R]``. Each run starts
the command once with every setting, in turn, and reads its processor time and its largest memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from tests.acceptance.command import ROOT, start_tiny
from tests.benchmarks.record import write_result

SETTINGS = {
    "python's own": (700, 10, 10),
    "2,000": (2_000, 20, 50),
    "10,000": (10_000, 20, 50),
    "50,000": (50_000, 20, 50),
    "never": (0, 0, 0),
}
CODE = """
from evosearch import garbage
garbage.NEW_OBJECTS, *garbage.LOOKS = {numbers}
from api.cli import main
main()
"""


def cost(numbers: tuple[int, int, int]) -> tuple[float, float]:
    """Processor seconds and megabytes of a search of eight candidates."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE.format(numbers=numbers), *start_tiny(8)], cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the search ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    cost(SETTINGS["never"])  # files are in memory from here on
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    for _ in range(options.runs):
        for name, numbers in SETTINGS.items():
            seen[name].append(cost(numbers))
    own = statistics.median(seconds for seconds, _ in seen["python's own"])
    found: dict[str, dict[str, Any]] = {}
    for name, runs in seen.items():
        seconds = sorted(one for one, _ in runs)
        middle = statistics.median(seconds)
        found[name] = {
            "new_objects": SETTINGS[name], "seconds": middle,
            "range": [seconds[0], seconds[-1]], "of_pythons_own": middle / own,
            "megabytes": statistics.median(memory for _, memory in runs),
        }  # fmt: skip
        print(
            f"looked for after {name:>13} new objects: {middle:.2f} s ({seconds[0]:.2f} to "
            f"{seconds[-1]:.2f}), {middle / own:.3f} of Python's own, "
            f"{found[name]['megabytes']:.0f} MB"
        )
    write_result("start", {"runs": options.runs, "search": found})


if __name__ == "__main__":
    main()
