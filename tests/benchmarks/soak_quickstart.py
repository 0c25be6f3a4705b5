"""The quickstart over several search seeds, through the command line, as a user would run it.

``python -m tests.benchmarks.soak_quickstart [--seeds 0 1 2 3 4]``: the leader's final difference
to BN-ReLU and to the better rival with intervals, how long it took, what was evaluated, and how
many functional duplicates were trained (judged by a second, independent probe). Writes
``results/quickstart.json`` with the config; seeds that it holds already of that very config stay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from db import open_store
from evosearch.events import CandidateQueued
from evosearch.presets import load_preset
from evosearch.report import final_rights, final_tests
from evosearch.state import recover
from tests.benchmarks.record import RESULTS, write_result
from tests.independent_probe import equal_pairs

EVOSEARCH = (sys.executable, "-c", "from api.cli import main; raise SystemExit(main())")


def run(seed: int, overrides: list[str], folder: Path) -> dict[str, Any]:
    """One search from an empty database; its report and figures."""
    database = f"sqlite:///{folder / f'seed-{seed}.db'}"
    command = [
        *EVOSEARCH, "search", "start", "quickstart", "--seed", str(seed), "--db", database,
        "--out", str(folder / f"leader-{seed}.py"),
    ]  # fmt: skip
    for override in overrides:
        command += ["--set", override]
    begin = perf_counter()
    subprocess.run(command, check=True)
    seconds = perf_counter() - begin
    store = open_store(database)
    (info,) = store.searches()
    events = list(store.events(info.id))
    state = recover(iter(events))
    graphs = {e.event.birth: e.event.graph for e in events if isinstance(e.event, CandidateQueued)}
    report = state.report or {}
    final = report.get("final", {})
    rights = final_rights(state) if state.chosen else None
    tests = final_tests(state, rights) if rights else None
    store.close()
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "evaluated": state.evaluated,
        "queued": len(graphs),
        "proposals": state.next_birth,
        "trained_duplicates": equal_pairs(graphs),
        "remeasured": state.remeasured,
        "duplicates_not_trained": state.duplicates,
        "false_rejection_rate": report.get("false_rejection_rate"),
        "audited": report.get("audited"),
        "hypervolume": state.hypervolume,
        "leader": report.get("leader", {}).get("formula"),
        "known_as": report.get("leader", {}).get("known_as"),
        "verdict": report.get("verdict"),
        "seeds_on_final": final.get("seeds"),
        "difference_to": final.get("mean_difference_to"),
        "difference_to_better": final.get("mean_difference"),
        "anchors": final.get("anchors"),
        "p_of_anchors": tests and list(tests.anchors),
        "p_of_mean": tests and tests.mean,
    }


def write_report(name: str, seed: int, folder: Path) -> None:
    """The report of a search, beside the result."""
    database = f"sqlite:///{folder / f'seed-{seed}.db'}"
    store = open_store(database)
    (info,) = store.searches()
    store.close()
    written = ("--out", str(RESULTS / f"{name}.md"))
    subprocess.run([*EVOSEARCH, "report", info.id, "--db", database, *written], check=True)


def probe_again(name: str, folder: Path) -> None:
    """The probe of today over the databases of an earlier run; its other figures stay."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    for row in found["runs"]:
        path = folder / f"seed-{row['seed']}.db"
        store = open_store(f"sqlite:///{path}")
        events = (entry.event for entry in store.events(store.searches()[0].id))
        graphs = {one.birth: one.graph for one in events if isinstance(one, CandidateQueued)}
        row["trained_duplicates"] = equal_pairs(graphs)
        print(row["seed"], row["trained_duplicates"], flush=True)
        store.close()
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def known_rows(name: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that are there of the same config."""
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return list(found["runs"]) if found.get("config") == config else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--name", default="quickstart")
    parser.add_argument("--keep", type=Path, help="folder for the databases")
    parser.add_argument(
        "--report", action="store_true", help="write the last seed's report beside the result"
    )
    parser.add_argument(
        "--probe-again", action="store_true",
        help="only look for duplicates once more, in the databases of --keep",
    )  # fmt: skip
    options = parser.parse_args()
    if options.probe_again:
        probe_again(options.name, options.keep)
        return
    config = load_preset("quickstart", options.overrides).model_dump(mode="json", exclude={"seed"})
    rows = [row for row in known_rows(options.name, config) if row["seed"] not in options.seeds]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in options.seeds:
            rows.append(run(seed, options.overrides, folder))
            print(rows[-1], flush=True)
            rows.sort(key=lambda row: int(row["seed"]))
            ahead = sum(r["difference_to"]["bn-relu"]["value"] > 0 for r in rows if r["anchors"])
            summary = {"positive_against_bn_relu": ahead, "searches": len(rows)}
            write_result(options.name, {**summary, "config": config, "runs": rows})
        if options.report:
            write_report(options.name, options.seeds[-1], folder)


if __name__ == "__main__":
    main()
