"""Steps a second and candidates an hour on a GPU, and how many candidates fill it.

``python -m tests.benchmarks.bench_gpu [--runs N]`` trains the preset ``cifar10-gpu`` on random
images of CIFAR-10's shape, without Ray: our loop beside a plain eager one with a hand-written
EvoNorm-S0 on each of the three anchors, then 1, 2, 4 and 8 trainings in processes beside each
other. It writes ``results/gpu.json`` with the hardware; without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict
from typing import Any

import torch

from evosearch.presets import load_preset
from tests.benchmarks.bench_training import race
from tests.benchmarks.record import write_result
from workers.gpu_share import COUNTS, LAYER, PRESET, best_count, measure_processes
from workers.gpu_share import synthetic_training as training_of

TARGET_RATIO = 5.0
NIGHT_HOURS, TARGET_NIGHT = 10, 3000
MEMORY_SHARE = 0.9


def races(steps: int, runs: int) -> list[dict[str, Any]]:
    """Our loop and the plain one on each anchor, in turns."""
    config = load_preset(PRESET)
    data = training_of("cuda", 1).data
    found = []
    for anchor in config.anchor_names:
        row = race(config, LAYER, anchor, steps, runs, data=data)
        ours, plain = (statistics.median(row["steps_per_second"][key]) for key in ("ours", "plain"))
        print(f"{anchor}: ours {ours:.0f}, plain {plain:.0f} steps/s; ratio {row['ratio']:.2f} "
              f"(target {TARGET_RATIO:g}, n={runs})", flush=True)  # fmt: skip
        found.append(row)
    return found


def candidates_an_hour(rows: list[dict[str, Any]], steps: int, gain: float) -> float:
    """Full evaluations on all anchors; ``gain``: of several trainings beside each other."""
    seconds = sum(steps / statistics.median(row["steps_per_second"]["ours"]) for row in rows)
    return 3600.0 * gain / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: no GPU that torch can use; there are no GPU figures without one")
        return
    torch.set_num_threads(1)
    rows = races(options.steps, options.runs)
    count, trials = best_count(lambda n: measure_processes(n), MEMORY_SHARE)
    for one in trials:
        print(f"{one.processes} beside each other: {one.steps_per_second:.0f} steps/s together, "
              f"{one.memory / 2**30:.1f} GiB", flush=True)  # fmt: skip
    gain = max(t.steps_per_second for t in trials) / trials[0].steps_per_second if trials else 1.0
    steps = load_preset(PRESET).task.steps
    alone, shared = (candidates_an_hour(rows, steps, one) for one in (1.0, gain))
    print(
        f"{count} candidates a GPU; {alone:.0f} candidates/hour one at a time, {shared:.0f} "
        f"several at a time, trainings alone; a night of {NIGHT_HOURS} hours: "
        f"{NIGHT_HOURS * shared:,.0f} (target {TARGET_NIGHT:,})"
    )
    write_result(
        "gpu",
        {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "preset": PRESET,
         "layer": LAYER, "data": "random images of CIFAR-10's shape", "races": rows,
         "counts": COUNTS, "trials": [asdict(one) for one in trials], "chosen": count,
         "candidates_per_hour_one": alone, "candidates_per_hour_several": shared,
         "target_ratio": TARGET_RATIO, "target_night": TARGET_NIGHT},
    )  # fmt: skip


if __name__ == "__main__":
    main()
