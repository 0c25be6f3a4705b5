"""Two controllers race for one search for a minute: ``python -m tests.benchmarks.study_race``.

On SQLite and PostgreSQL; it fails unless every event has one writer, the numbers are dense, no
evaluation is recorded twice, and the log replays. The figures go to results/race.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.record import RESULTS, write_result
from tests.benchmarks.study_kills import databases
from tests.support.race import race

SECONDS = float(os.environ.get("EVOSEARCH_RACE_SECONDS", "60"))


def main() -> None:
    """Runs each race, prints and records it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are written")
    told = parser.parse_args()
    results: dict[str, Any] = {}
    for kind in told.databases.split(","):
        with tempfile.TemporaryDirectory() as name, databases(kind, Path(name)) as new_url:
            results[kind] = race(new_url(), told.seconds)
        print(kind, results[kind], flush=True)
    print(write_result("race", {"races": results}, told.out))


if __name__ == "__main__":
    main()
