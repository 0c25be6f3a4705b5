"""Known layers on CIFAR-10 with a preset: scores over seeds, and what the checks say of each.

``python -m tests.benchmarks.study_cifar --data-dir DIR [--preset cifar10-cpu] [--seeds 3]
[--processes 2]`` trains BN-ReLU, BN-SiLU, GN-ReLU, EvoNorm-B0, EvoNorm-S0 and plain ReLU, and a
layer that diverges, on the preset's anchors; writes ``results/cifar10_cpu.json`` and prints the
table for the docs. What a layer's checks cost stands beside what a full evaluation costs.
"""

from __future__ import annotations

import argparse
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from evosearch.config import SearchConfig
from evosearch.presets import load_preset
from evosearch.records import EvaluationDone, Job, JobDone, Run, Subject
from evosearch.streams import evaluation_seed
from primitives.formula import parse
from tests.benchmarks.record import write_result

BASELINES = ("bn-relu", "bn-silu", "gn-relu", "evonorm-b0", "evonorm-s0")
FORMULAS = {"relu": "max(x, zero)", "cube": "x * x * x"}
"""Layers that a check should reject: no normalisation, and one that diverges."""


def work(task: tuple[str, int, str, tuple[str, ...]]) -> dict[str, Any]:
    """One layer and seed: through the checks, then on every anchor; plain data comes back."""
    name, index, preset, overrides = task
    import torch

    from workers.evaluate import Context, run_job

    torch.set_num_threads(1)
    config: SearchConfig = load_preset(preset, overrides)
    seed = evaluation_seed(config.seed, "search", index)
    runs = tuple(
        Run(anchor=anchor, seed=seed, learning_rate=config.task.learning_rate)
        for anchor in config.anchor_names
    )
    graph = parse(FORMULAS[name]) if name in FORMULAS else None
    subject = Subject(birth=0) if graph is not None else Subject(baseline=name)
    job = Job(
        id=name, purpose="search", subject=subject, graph=graph, runs=runs, task=config.task,
        checks=config.checks,
    )  # fmt: skip
    row: dict[str, Any] = {"layer": name, "seed": index, "scores": {}, "checks": [], "seconds": 0.0}
    row["rejected_by"] = None
    for message in run_job(job, Context(device="cpu")):
        row["checks"] += [
            {"check": one.check, "anchor": one.anchor, "seconds": one.seconds,
             "findings": one.findings}
            for one in message.checks
        ]  # fmt: skip
        if isinstance(message, EvaluationDone):
            row["scores"][message.evaluation.anchor] = message.evaluation.score
        if isinstance(message, JobDone):
            row["seconds"] = message.seconds
            if message.failure is not None:
                raise RuntimeError(f"{name}: {message.failure.detail}")
            if message.rejection is not None:
                row["rejected_by"] = f"{message.rejection.code}: {message.rejection.detail}"
    print(name, index, row["scores"], row["rejected_by"] or "", f"{row['seconds']:.0f} s",
          flush=True)  # fmt: skip
    return row


def table(rows: list[dict[str, Any]], anchors: tuple[str, ...]) -> list[str]:
    """Markdown: mean and standard deviation over seeds per anchor, verdict, cost."""
    lines = [f"| layer | {' | '.join(anchors)} | rejected by | median seconds |"]
    lines.append("|---|" + "---|" * (len(anchors) + 2))
    for name in (*BASELINES, *FORMULAS):
        mine = [row for row in rows if row["layer"] == name]
        cells = []
        for anchor in anchors:
            scores = [row["scores"][anchor] for row in mine if anchor in row["scores"]]
            if not scores:
                cells.append("-")
            elif len(scores) == 1:
                cells.append(f"{scores[0]:.3f} (n=1)")
            else:
                cells.append(
                    f"{statistics.mean(scores):.3f} +-{statistics.stdev(scores):.3f} "
                    f"(n={len(scores)})"
                )
        codes = sorted({row["rejected_by"].split(":")[0] for row in mine if row["rejected_by"]})
        count = sum(row["rejected_by"] is not None for row in mine)
        verdict = f"{', '.join(codes)} ({count} of {len(mine)})" if count else "none"
        seconds = statistics.median(row["seconds"] for row in mine)
        lines.append(f"| {name} | {' | '.join(cells)} | {verdict} | {seconds:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--preset", default="cifar10-cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--layers", default=",".join((*BASELINES, *FORMULAS)))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    os.environ["EVOSEARCH_DATA_DIR"] = options.data_dir
    config = load_preset(options.preset, options.set)
    tasks = [
        (name, index, options.preset, tuple(options.set))
        for index in range(options.seeds)
        for name in options.layers.split(",")
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        rows = list(pool.map(work, tasks))
    full = [row["seconds"] for row in rows if row["rejected_by"] is None]
    rejected = [row["seconds"] for row in rows if row["rejected_by"] is not None]
    result = {
        "data": "rebuilt CIFAR-10 (98 of 60,000 images not exact)",
        "config": config.model_dump(mode="json"),
        "overrides": options.set,
        "median_seconds_full": statistics.median(full) if full else None,
        "median_seconds_rejected": statistics.median(rejected) if rejected else None,
        "rows": rows,
    }
    print(write_result(options.preset.replace("-", "_"), result))
    names = {row["layer"] for row in rows}
    if names == {*BASELINES, *FORMULAS}:
        print("\n".join(table(rows, config.anchor_names)))


if __name__ == "__main__":
    main()
