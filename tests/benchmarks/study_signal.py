"""How well one pass at initialisation foretells quality: chooses the bounds, then judges them.

``python -m tests.benchmarks.study_signal collect --dataset D --seed S --out FILE`` runs signal and
quality on every candidate, whatever signal says: random graphs, then children of survivors.
``... again FILE --out FILE`` measures signal anew for the candidates of such a file, after its
statistics have changed; quality does not depend on them.
``... fit FILES --out BOUNDS`` makes the bounds: the survivors' range on each anchor and statistic,
relative to BN-ReLU, widened by the factor that learnt bounds come to, too. Beside it stands what
other factors do to a data set that they know nothing of.
``... judge FILE --bounds BOUNDS`` measures them on other candidates of another data set. Bounds
and result are committed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from evosearch.config import Bounds, SearchConfig
from evosearch.presets import load_preset
from evosearch.records import Job, Run, Subject
from evosearch.screen import Screen
from evosearch.signal import LEAST_FACTOR, LOSSES
from evosearch.streams import evaluation_seed, stream
from evosearch.variation import draw_table, mutate, random_graph
from primitives.graph import Graph
from tests.benchmarks.record import write_result
from workers import datasets
from workers.checks import (
    SIGNAL_STATISTICS,
    check_quality,
    relative_statistics,
    signal_statistics,
)
from workers.evaluate import Context
from workers.layers import layer_factory
from workers.training import Training

WIDENINGS = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0)


def measure(task: tuple[dict[str, Any], str, bool, int]) -> dict[str, Any]:
    """Signal statistics on every anchor, and quality until an anchor fails; costs in seconds."""
    data, dataset, child, seed = task
    torch.set_num_threads(1)
    config = configured(dataset)
    graph = Graph.from_json(data)
    runs = runs_of(config, seed)
    row: dict[str, Any] = {"child": child, "graph": data, "quality": {}}
    row |= {"passed": True, "quality_seconds": 0.0}
    trainings, told = look(config, graph, runs)
    row |= told
    for run, training in zip(runs, trainings, strict=True):
        result = check_quality(training, config.checks.quality, process_time)
        row["quality_seconds"] += result.seconds
        row["quality"][run.anchor] = result.findings.get("accuracy")
        if result.rejection is not None:
            row["passed"] = False
            break
    return row


def runs_of(config: SearchConfig, seed: int) -> list[Run]:
    """A candidate's first runs, one an anchor."""
    rate, run_seed = config.task.learning_rate, evaluation_seed(seed, "search", 0)
    return [Run(anchor=a, seed=run_seed, learning_rate=rate) for a in config.anchor_names]


def look(
    config: SearchConfig, graph: Graph, runs: list[Run]
) -> tuple[list[Training], dict[str, Any]]:
    """Each run's training, not begun; signal's statistics by anchor, and what they cost."""
    job = Job(
        id="c0", purpose="search", subject=Subject(birth=0), graph=graph, runs=tuple(runs),
        task=config.task, checks=config.checks,
    )  # fmt: skip
    loaded = datasets.load(config.task.dataset, "cpu")
    trainings, found, begin = [], {}, process_time()
    for run in runs:
        training = Training(run, config.task, layer_factory(job, run.anchor), loaded)
        found[run.anchor] = signal_statistics(training)
        trainings.append(training)
    return trainings, {"signal": found, "signal_seconds": process_time() - begin}


def measure_signal(task: tuple[dict[str, Any], str, int]) -> dict[str, Any]:
    """Signal statistics on every anchor, and their cost."""
    row, dataset, seed = task
    torch.set_num_threads(1)
    config = configured(dataset)
    return row | look(config, Graph.from_json(row["graph"]), runs_of(config, seed))[1]


def again(options: argparse.Namespace) -> None:
    """The file's candidates with today's statistics."""
    with gzip.open(options.file, "rt") as file:
        data = json.load(file)
    tasks = [(row, data["dataset"], data["seed"]) for row in data["rows"]]
    with ProcessPoolExecutor(options.processes) as pool:
        data["rows"] = list(pool.map(measure_signal, tasks, chunksize=16))
    with gzip.open(options.out, "wt") as file:
        json.dump(data, file)
    print(f"wrote {options.out}")


def configured(dataset: str) -> SearchConfig:
    """The quickstart with another data set, and no bounds."""
    return load_preset("quickstart", [f"task.dataset={dataset}", "checks.signal.bounds={}"])


def candidates(seed: int, count: int, parents: list[Graph]) -> Iterator[Graph]:
    """New functions that pass the in-controller checks: random graphs, or children of parents."""
    config = configured("polarity-digits")
    table, screen = draw_table(config.space), Screen(config)
    digests: dict[str, int] = {}
    fingerprints: dict[str, int] = {}
    birth = found = 0
    while found < count:
        birth += 1
        rng = stream(seed, "propose", birth)
        if parents:
            graph = parents[int(rng.random() * len(parents))]
            for _ in range(config.evolution.mutations):
                graph = mutate(rng, table, graph)
        else:
            graph = random_graph(rng, table, config.space.nodes)
        verdict = screen.judge(graph, digests, fingerprints)
        if verdict.code is None:
            digests[verdict.digest] = fingerprints[verdict.fingerprint] = birth
            found += 1
            yield graph


def collect(options: argparse.Namespace) -> None:
    """Random graphs first; then children of those that passed, and of passing children."""
    begin = perf_counter()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.processes) as pool:

        def run(graphs: list[Graph], child: bool) -> None:
            tasks = [(g.to_json(), options.dataset, child, options.seed) for g in graphs]
            for row in pool.map(measure, tasks, chunksize=4):
                rows.append(row)
                if len(rows) % 100 == 0:
                    passed = sum(r["passed"] for r in rows)
                    seconds = perf_counter() - begin
                    print(f"{len(rows)} candidates, {passed} passed, {seconds:.0f} s", flush=True)

        run(list(candidates(options.seed, options.random, [])), False)
        waves = 4
        for wave in range(waves):
            parents = [Graph.from_json(row["graph"]) for row in rows if row["passed"]]
            if not parents:
                raise SystemExit("no survivor to take children of; raise --random")
            run(list(candidates(options.seed + 1000 + wave, options.children // waves, parents)),
                True)  # fmt: skip
    with gzip.open(options.out, "wt") as file:
        json.dump({"dataset": options.dataset, "seed": options.seed, "rows": rows}, file)
    print(f"wrote {options.out}")


def fit(rows: list[dict[str, Any]], widen: float) -> dict[str, dict[str, dict[str, float]]]:
    """Survivors' range per anchor and statistic, widened by the factor."""
    survivors = [row["signal"] for row in rows if row["passed"]]
    bounds: dict[str, dict[str, dict[str, float]]] = {}
    for anchor in survivors[0]:
        bounds[anchor] = {}
        for name in SIGNAL_STATISTICS:
            values = [row[anchor][name] for row in survivors]
            low, high = min(values), max(values)
            if name in LOSSES:  # differences; log(widen) in nats is a step of the same kind
                low, high = low - math.log(widen), high + math.log(widen)
            else:
                low, high = low / widen, high * widen
            bounds[anchor][name] = {"low": float(f"{low:.3g}"), "high": float(f"{high:.3g}")}
    return bounds


def elsewhere(sets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What bounds from all data sets but one lose and catch on that one, factor by factor.

    Survivors are few families, so halves of one data set would know each other.
    """
    names = sorted({data["dataset"] for data in sets})
    table = []
    for widen in WIDENINGS:
        for name in names if len(names) > 1 else ():
            known = [row for data in sets if data["dataset"] != name for row in data["rows"]]
            told = judge([r for d in sets if d["dataset"] == name for r in d["rows"]],
                         fit(known, widen))["all"]  # fmt: skip
            table.append(
                {"widen": widen, "judged on": name, "lost": told["good_wrongly_rejected"],
                 "caught": told["failures_rejected"]}
            )  # fmt: skip
    return table


def as_bounds(plain: dict[str, Any]) -> dict[str, dict[str, Bounds]]:
    return {
        anchor: {name: Bounds(**limit) for name, limit in limits.items()}
        for anchor, limits in plain.items()
    }


def rejects(row: dict[str, Any], bounds: dict[str, dict[str, Bounds]]) -> bool:
    """Whether signal, with these bounds, rejects the measured candidate."""
    for anchor, limits in bounds.items():
        for name, limit in limits.items():
            value = row["signal"][anchor].get(name, math.nan)
            if not limit.low <= value <= limit.high:
                return True
    return False


def judge(rows: list[dict[str, Any]], plain: dict[str, Any]) -> dict[str, Any]:
    """Shares of failures caught and of good candidates lost, with costs, all and children alone."""
    bounds = as_bounds(plain)

    def shares(some: list[dict[str, Any]]) -> dict[str, Any]:
        failing = [row for row in some if not row["passed"]]
        passing = [row for row in some if row["passed"]]
        caught = sum(rejects(row, bounds) for row in failing)
        lost = sum(rejects(row, bounds) for row in passing)
        return {
            "candidates": len(some),
            "fail_quality": len(failing),
            "pass_quality": len(passing),
            "failures_rejected": caught / max(1, len(failing)),
            "good_wrongly_rejected": lost / max(1, len(passing)),
            "good_wrongly_rejected_count": lost,
        }

    failing = [row for row in rows if not row["passed"]]
    signal = float(np.mean([row["signal_seconds"] for row in failing]))
    quality = float(np.mean([row["quality_seconds"] for row in failing]))
    full = [row["quality_seconds"] for row in rows if len(row["quality"]) == len(plain)]
    return {
        "all": shares(rows),
        "children": shares([row for row in rows if row["child"]]),
        "random": shares([row for row in rows if not row["child"]]),
        "signal_seconds_all_anchors_mean": signal,
        "quality_seconds_until_failure_mean": quality,
        "quality_seconds_all_anchors_mean": float(np.mean(full)) if full else None,
    }


def read(path: str) -> dict[str, Any]:
    """A collected file, its statistics relative to those of the reference layer."""
    with gzip.open(path, "rt") as file:
        data: dict[str, Any] = json.load(file)
    reference = references(data["dataset"], data["seed"])
    for row in data["rows"]:
        row["signal"] = {
            anchor: relative_statistics(found, reference[anchor])
            for anchor, found in row["signal"].items()
        }
    return data


def references(dataset: str, seed: int) -> dict[str, dict[str, float]]:
    """The reference layer's statistics on every anchor."""
    config, context = configured(dataset), Context()
    name = config.checks.signal.reference
    return {run.anchor: context.reference(run, config.task, name) for run in runs_of(config, seed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("collect")
    verb.add_argument("--dataset", default="polarity-digits")
    verb.add_argument("--seed", type=int, default=100)
    verb.add_argument("--random", type=int, default=1500)
    verb.add_argument("--children", type=int, default=600)
    verb.add_argument("--processes", type=int, default=2)
    verb.add_argument("--out", required=True)
    verb = verbs.add_parser("again")
    verb.add_argument("file")
    verb.add_argument("--processes", type=int, default=2)
    verb.add_argument("--out", required=True)
    verb = verbs.add_parser("fit")
    verb.add_argument("files", nargs="+")
    verb.add_argument("--widen", type=float, default=LEAST_FACTOR)
    verb.add_argument("--out", required=True)
    verb = verbs.add_parser("judge")
    verb.add_argument("files", nargs="+")
    verb.add_argument("--bounds", required=True)
    verb.add_argument("--name", default="signal")
    options = parser.parse_args()
    if options.verb in ("collect", "again"):
        (collect if options.verb == "collect" else again)(options)
        return
    sets = [read(name) for name in options.files]
    rows = [row for data in sets for row in data["rows"]]
    origin = [
        {"dataset": d["dataset"], "seed": d["seed"], "candidates": len(d["rows"])} for d in sets
    ]
    if options.verb == "fit":
        bounds = fit(rows, options.widen)
        result = {
            "fitted_on": origin,
            "widen": options.widen,
            "on a data set left out": elsewhere(sets),
            "bounds": bounds,
        }
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(judge(rows, bounds), indent=1))
        return
    chosen = json.loads(Path(options.bounds).read_text())
    result = judge(rows, chosen["bounds"])
    print(json.dumps(result, indent=1))
    write_result(options.name, {**chosen, "judged_on": origin, "result": result})


if __name__ == "__main__":
    main()
