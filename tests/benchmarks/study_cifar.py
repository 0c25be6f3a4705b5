"""Known layers on CIFAR-10 with a preset: scores over seeds, and what the checks say of each.

``python -m tests.benchmarks.study_cifar --data-dir DIR --rows FOLDER [--seeds 3]`` trains BN-ReLU,
BN-SiLU, GN-ReLU, EvoNorm-B0, EvoNorm-S0 and plain ReLU, and a layer that diverges, on the preset's
anchors, one thread. Each layer and seed is a file in FOLDER, so the study may be stopped at any
time and started again, and several processes may share it. ``--report`` trains nothing: it writes
``results/cifar10_cpu.json``: the rows, whether the preset is good enough, whether its checks reject
what they should and nothing else, and the calibration (``--longer``: the rows of more steps).
`docs.make_measured` shows it. It prints the preset's reference points, which ``--write-references``
sets.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.commands_preset import Scores, figures, lines
from evosearch import presets
from evosearch.config import SearchConfig
from evosearch.presets import load_preset
from evosearch.records import EvaluationDone, Job, JobDone, Run, Subject
from evosearch.streams import evaluation_seed
from primitives.formula import parse
from tests.benchmarks.record import write_result

CLOCK = "processor"
"""Seconds are those that the one thread computed."""
BELOW_BASELINE = 0.10
"""A reference point lies so far below the mean of BN-ReLU."""
WANTED = 0.50
"""Accuracy of BN-ReLU on select that a proxy of CIFAR-10 should reach on every anchor."""
LONGEST_SECONDS = 300.0
"""Where it is out of reach, the largest proxy that ends a candidate within this is taken."""
BASELINES = ("bn-relu", "bn-silu", "gn-relu", "evonorm-b0", "evonorm-s0")
FORMULAS = {"relu": "max(x, zero)", "cube": "x * x * x"}
"""Layers that a check should reject: no normalisation, and one that diverges."""


def work(config: SearchConfig, name: str, index: int) -> dict[str, Any]:
    """One layer and seed: through the checks, then on every anchor; plain data comes back."""
    from workers.evaluate import Context, run_job

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
    row: dict[str, Any] = {
        "layer": name, "seed": index, "steps": config.task.steps, "scores": {}, "checks": [],
        "seconds": 0.0, "clock": CLOCK,
    }  # fmt: skip
    row["rejected_by"] = None
    for message in run_job(job, Context(device="cpu", clock=time.process_time)):
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


def settings_key(config: SearchConfig) -> str:
    """What all rows of one folder have in common: the recipe and the checks, but no references."""
    task = config.task.model_dump(mode="json")
    for anchor in task["anchors"]:
        del anchor["reference"], anchor["references"]
    text = json.dumps([config.seed, task, config.checks.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether no other process works at that file; a process that dies lets go of it."""
    with path.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def collect(config: SearchConfig, folder: Path, names: list[str], seeds: int) -> None:
    """Do what no row says yet and no other process is at, seed by seed."""
    import torch

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(seeds):
        for name in names:
            path = folder / f"{name}.{index}.json"
            with alone(path.with_suffix(".lock")) as mine:
                if not mine or path.exists():
                    continue
                row = {"settings": settings_key(config), **work(config, name, index)}
                half = path.with_suffix(".half")
                half.write_text(json.dumps(row) + "\n")
                half.replace(path)


def load_rows(config: SearchConfig | None, folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder, which must be of these settings (None: of any, but all alike)."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = {row["settings"] for row in rows}
    wanted = found if config is None else {settings_key(config)}
    if not rows or found != wanted or len(found) > 1:
        raise SystemExit(f"{folder}: {len(rows)} rows of settings {found}, expected {wanted}")
    return rows


def scores_of(rows: list[dict[str, Any]]) -> Scores:
    """Layer -> anchor -> score of each seed, of the layers that no check ever rejected."""
    bad = {row["layer"] for row in rows if row["rejected_by"] is not None}
    found: Scores = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        for anchor, score in row["scores"].items():
            if row["layer"] in BASELINES and row["layer"] not in bad:
                found.setdefault(row["layer"], {}).setdefault(anchor, []).append(score)
    return found


def baseline(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Anchor -> mean score of BN-ReLU.

    Raises:
        SystemExit: there is none, or a check rejected it: nothing can be compared with it.
    """
    found = scores_of(rows).get("bn-relu")
    if found is None:
        raise SystemExit("bn-relu is not among the rows, or a check rejected it")
    return {anchor: statistics.mean(scores) for anchor, scores in found.items()}


def references(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Anchor -> reference point, from BN-ReLU's mean."""
    return {anchor: round(mean - BELOW_BASELINE, 2) for anchor, mean in baseline(rows).items()}


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the checks reject every bad layer with every seed, and no good one with any."""
    lost = [
        f"{row['layer']}, seed {row['seed']} ({row['rejected_by']})"
        for row in rows
        if row["layer"] in BASELINES and row["rejected_by"]
    ]
    passed = [
        f"{row['layer']}, seed {row['seed']}"
        for row in rows
        if row["layer"] in FORMULAS and not row["rejected_by"]
    ]
    said = (
        "The checks reject no good layer with any seed"
        if not lost
        else (f"The checks reject good layers: {'; '.join(lost)}")
    )
    said += (
        ", and every bad one with every seed."
        if not passed
        else (f". They let pass: {'; '.join(passed)}.")
    )
    return {"good_rejected": lost, "bad_passed": passed, "said": said}


def timed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose seconds are a processor's, whatever else the machine did meanwhile."""
    return [row for row in rows if row.get("clock") == CLOCK]


def decide(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the preset reaches what is wanted, or else ends a candidate soon enough."""
    means = baseline(rows)
    seconds = statistics.median(row["seconds"] for row in timed(rows) if not row["rejected_by"])
    reached, soon = min(means.values()) >= WANTED, seconds <= LONGEST_SECONDS
    scores = ", ".join(f"{anchor} {100 * mean:.1f} %" for anchor, mean in means.items())
    if reached:
        said = f"BN-ReLU reaches {100 * WANTED:.0f} % on every anchor ({scores}): it stays so."
    elif soon:
        said = (
            f"BN-ReLU misses {100 * WANTED:.0f} % ({scores}), and a full evaluation takes "
            f"{seconds:.0f} of at most {LONGEST_SECONDS:.0f} seconds: more steps or width fit."
        )
    else:
        said = (
            f"BN-ReLU misses {100 * WANTED:.0f} % ({scores}), and a full evaluation takes "
            f"{seconds:.0f} seconds, more than {LONGEST_SECONDS:.0f}: fewer steps or less width."
        )
    return {"means": means, "reached": reached, "soon": soon, "seconds": seconds, "said": said}


def with_references(text: str, found: dict[str, float]) -> str:
    """A preset's text with these reference points; its comments and order stay."""
    for anchor, value in found.items():
        pattern = rf'(\[\[task\.anchors\]\]\nname = "{re.escape(anchor)}"[^\[]*?\nreference = )\S+'
        text, count = re.subn(pattern, rf"\g<1>{value:.2f}", text)
        if count != 1:
            raise SystemExit(f"the preset has no reference of anchor {anchor}")
    return text


def report(config: SearchConfig, overrides: list[str], folder: Path, longer: Path | None) -> None:
    """Write the result and print what the preset takes from it."""
    rows = load_rows(config, folder)
    full = [row["seconds"] for row in timed(rows) if row["rejected_by"] is None]
    rejected = [row["seconds"] for row in timed(rows) if row["rejected_by"] is not None]
    short = scores_of(rows)
    seeds = min((len(scores) for by in short.values() for scores in by.values()), default=0)
    calibration: dict[str, Any] = {}
    longer_rows = load_rows(None, longer) if longer is not None else []
    if len(short) > 1 and seeds > 1:
        long = scores_of(longer_rows) if longer_rows else None
        names = [name for name in short if long is None or name in long]
        calibration = figures(config.anchor_names, names, short, long)
        print("\n".join(lines(config.anchor_names, names, short, long)), "\n")
    result: dict[str, Any] = {
        "data": "rebuilt CIFAR-10 (98 of 60,000 images not exact)",
        "config": config.model_dump(mode="json"),
        "overrides": overrides,
        "median_seconds_full": statistics.median(full) if full else None,
        "median_seconds_rejected": statistics.median(rejected) if rejected else None,
        "references": references(rows),
        "decision": decide(rows),
        "checks": judged(rows),
        "calibration": calibration,
        "longer": [
            {key: row[key] for key in ("layer", "seed", "steps", "scores")} for row in longer_rows
        ],
        "rows": rows,
    }
    print(write_result(config.preset.replace("-", "_"), result))
    print(result["decision"]["said"], result["checks"]["said"], sep="\n")
    for anchor, value in references(rows).items():
        print(f"reference of {anchor}: {value:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--preset", default="cifar10-cpu")
    parser.add_argument("--rows", type=Path, required=True, help="folder of the finished numbers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", default=",".join((*BASELINES, *FORMULAS)))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--longer", type=Path, help="folder of the same layers with more steps")
    parser.add_argument("--write-references", action="store_true")
    options = parser.parse_args()
    config = load_preset(options.preset, options.set)
    if options.report:
        report(config, options.set, options.rows, options.longer)
    elif not options.write_references:
        if options.data_dir:
            os.environ["EVOSEARCH_DATA_DIR"] = options.data_dir
        if options.rows.exists() and any(options.rows.glob("*.json")):
            load_rows(config, options.rows)  # refuses to mix settings
        collect(config, options.rows, options.layers.split(","), options.seeds)
    if options.write_references:
        path = Path(presets.__file__).parent / f"{options.preset}.toml"
        found = references(load_rows(config, options.rows))
        path.write_text(with_references(path.read_text(), found))
        print(f"{path}: {found}")


if __name__ == "__main__":
    main()
