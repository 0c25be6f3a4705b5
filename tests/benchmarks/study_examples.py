"""What comes of the shipped examples: each searched at its default size, over seeds.

``python -m tests.benchmarks.study_examples [--examples ...] [--seeds N] [--evaluations N]
[--steps N]``: the inline pool, a store in memory, and the confirmation that every search ends
with. Writes ``results/examples.json`` after each search; a verdict that is *not better* is a result
as well.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

import evosearch as es
from tests.benchmarks.record import RESULTS, write_result

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
WHAT: dict[str, tuple[str, dict[str, Any]]] = {
    "segmentation": ("Discs", {}),
    "char_transformer": (
        "TinyGPT",
        {"where": "causal_safe and live_nodes <= 8", "start_from": ["dyt", "x / rms_token(x)"]},
    ),
    "tabular_mlp": ("Table", {}),
}
"""File -> its task, and what its own call of `es.search` asks for besides."""


def sizes(name: str) -> tuple[int, int]:
    """Evaluations and steps that the example takes when it is given none."""
    text = (EXAMPLES / f"{name}.py").read_text()
    found = re.search(r'\[\*sys\.argv\[1:\], "(\d+)", "(\d+)"\]', text)
    if found is None:
        raise LookupError(f"{name}.py says no default size")
    return int(found[1]), int(found[2])


def outcome(name: str, seed: int, evaluations: int, steps: int) -> dict[str, Any]:
    """One search of an example, and what its report says."""
    task, more = WHAT[name]
    start = time.perf_counter()
    run = es.search(
        f"{EXAMPLES / name}.py:{task}", budget=evaluations, pool="inline", db="memory:", seed=seed,
        settings={"task.steps": steps}, show=False, **more,
    )  # fmt: skip
    led = run.leader
    told = {
        "seed": seed, "evaluations": run.state.evaluated, "steps": steps, "verdict": run.verdict,
        "better": run.verdict.startswith("better"), "leader": led.formula, "scores": led.scores,
        "origin": led.origin, "seconds": round(time.perf_counter() - start, 1),
        "table": run.table().splitlines(),
    }  # fmt: skip
    run.close()
    return told


def main() -> None:
    """Search each example over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", nargs="+", default=[*WHAT], choices=[*WHAT])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, help="default: the example's own")
    parser.add_argument("--steps", type=int, help="default: the example's own")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="of the result")
    given = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for name in given.examples:
        evaluations, steps = sizes(name)
        for seed in range(given.seeds):
            one = outcome(name, seed, given.evaluations or evaluations, given.steps or steps)
            found.setdefault(name, []).append(one)
            print(f"{name}, seed {seed}: {one['verdict']} ({one['seconds']} s)", flush=True)
            write_result("examples", {"searches": found}, given.folder)
    for name, runs in found.items():
        wins = sum(one["better"] for one in runs)
        print(f"{name}: better than its baselines in {wins} of {len(runs)} searches")


if __name__ == "__main__":
    main()
