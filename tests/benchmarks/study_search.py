"""Real searches against random search and the paper's algorithm, on a data set of their own.

``python -m tests.benchmarks.study_search run --rows FILE [--variants ...] [--seeds ...]``: searches
of the quickstart with another data set, under the inline pool, until a number of training steps is
spent (every step counts: rejected and audited candidates too). Then whatever was ever on a search's
front is trained with held-out seeds, and the front that the search would have returned at each
moment is judged by these alone. Each search is a line of FILE; what it holds is not done again, so
a study may be stopped, started again, and shared out with one file a process.
``... report FILES``: the training steps and processor seconds that the default needs to reach what
each rival has at the end, and the paper's claim about several anchors: layers that were searched on
one anchor against those of three, in a network that neither saw. Writes ``results/search.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import evosearch as es
from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import Anchor, SearchConfig, Task
from evosearch.controller import Controller
from evosearch.pareto import hypervolume
from evosearch.presets import load_preset
from evosearch.records import EvaluationDone, Job, Run, Subject
from evosearch.state import State
from evosearch.stats import paired_interval
from evosearch.streams import evaluation_seed
from primitives.graph import Graph
from primitives.printer import format_formula
from tests.benchmarks.chart import write_bands
from tests.benchmarks.record import RESULTS, write_result
from tests.benchmarks.study_table import PAPER, bands, summary
from workers.evaluate import Context, run_job
from workers.inline import InlinePool, one_thread

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "paper": PAPER,
    "random": (*PAPER, "evolution.random_share=1.0"),
}
"""Name -> overrides of the quickstart. ``paper`` and ``random`` have the same checks."""
ALONE = tuple(f"{name} alone" for name in ANCHORS)
"""The default on one anchor, with the training steps that the others spend on three."""
TOP, FRESH = 5, 3
"""Candidates that get fresh seeds at the end, and how many; the best of them is the leader."""
HELD_OUT = 2
"""Seeds that fronts are judged with."""
BELOW = 0.1
"""The reference point lies so far below BN-ReLU's mean, as the presets' do."""
REFERENCE_SEEDS = 3
UNSEEN = "plain"


def plain_network(layer: Any, num_classes: int, in_channels: int) -> nn.Module:
    """A plain stack of convolutions without a shortcut, which no search of the study trains."""
    widths, parts, before = (8, 16, 16, 32), [], in_channels
    for number, width in enumerate(widths):
        stride = 2 if number % 2 else 1
        parts += [nn.Conv2d(before, width, 3, stride, 1, bias=False), layer(width)]
        before = width
    return nn.Sequential(
        *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes)
    )


es.anchor(UNSEEN, build=plain_network, slot="norm_act", baselines=["bn-relu"])


def configured(variant: str, seed: int, dataset: str) -> SearchConfig:
    """The quickstart on another data set, as the variant has it."""
    more = VARIANTS.get(variant, ())
    config = load_preset(
        "quickstart",
        ("budget.evaluations=1000000", "budget.hours=1000", "confirmation.enabled=false",
         "baselines=[]", f"task.dataset={dataset}", *more),
        seed=seed,
    )  # fmt: skip
    alone = variant.removesuffix(" alone") if variant in ALONE else None
    known = references(dataset)
    anchors = tuple(
        one.model_copy(update={"reference": known[one.name]})
        for one in config.task.anchors if alone in (None, one.name)
    )  # fmt: skip
    task = config.task.model_copy(update={"anchors": anchors})
    return config.model_copy(update={"task": task})


@cache
def references(dataset: str) -> dict[str, float]:
    """Anchor -> its coordinate of the reference point on that data set; no search saw the seeds."""
    task = load_preset("quickstart", (f"task.dataset={dataset}",)).task
    seeds = [evaluation_seed(30_000, "confirm", index) for index in range(REFERENCE_SEEDS)]
    means = np.mean(scores(None, task, ANCHORS, seeds, Context()), axis=0)
    return {name: round(float(mean) - BELOW, 3) for name, mean in zip(ANCHORS, means, strict=True)}


def scores(
    graph: Graph | None, task: Task, anchors: Sequence[str], seeds: Iterable[int], context: Context
) -> list[list[float]]:
    """Scores (seeds, anchors) of the layer on ``select``; of BN-ReLU where there is no graph."""
    subject = Subject(birth=0) if graph is not None else Subject(baseline="bn-relu")
    rows = []
    for seed in seeds:
        runs = [Run(anchor=a, seed=seed, learning_rate=task.learning_rate) for a in anchors]
        job = Job(
            id="s", purpose="confirm", subject=subject, graph=graph, runs=tuple(runs), task=task
        )
        with one_thread():
            messages = list(run_job(job, context))
        rows.append([m.evaluation.score for m in messages if isinstance(m, EvaluationDone)])
        assert len(rows[-1]) == len(anchors), messages[-1]
    return rows


def search(variant: str, seed: int, dataset: str, steps: int) -> dict[str, Any]:
    """One search with its path on held-out seeds, and its leader in the network it never saw.

    A point of the path: training steps, processor seconds, hypervolume; one per change.
    """
    config = configured(variant, seed, dataset)
    store, context = MemoryStore(), Context()
    store.create("study001", variant, ev.Created(config=config))
    controller = Controller(store, InlinePool(context), store.acquire("study001", "study", 1e9))
    begin, state = time.process_time(), controller.state
    fronts: list[tuple[int, float, frozenset[int]]] = []
    while not controller.over and state.train_steps.total() < steps:
        controller.step(0.0)
        if not fronts or state.front.members != fronts[-1][2]:
            moment = (state.train_steps.total(), time.process_time() - begin)
            fronts.append((*moment, state.front.members))
    row: dict[str, Any] = {
        "variant": variant, "seed": seed, "steps": state.train_steps.total(),
        "seconds": round(time.process_time() - begin, 1), "evaluated": state.evaluated,
        "proposals": state.next_birth, "asked": sum(1 for _ in state.fingerprints), "outside": 0,
        "exhausted": False, "rejected": dict(state.rejected),
    }  # fmt: skip
    row["path"] = _judged(state, config, fronts, context) if variant not in ALONE else []
    row["hypervolume"] = row["path"][-1][2] if row["path"] else 0.0
    return row | _leader(state, config, context)


def _judged(
    state: State, config: SearchConfig, fronts: Sequence[tuple[int, float, frozenset[int]]],
    context: Context,
) -> list[tuple[int, float, float]]:  # fmt: skip
    seeds = [evaluation_seed(config.seed + 20_000, "confirm", index) for index in range(HELD_OUT)]
    bound = np.array([-one.reference for one in config.task.anchors])
    points = {
        birth: -np.mean(
            scores(state.members[birth].graph, config.task, config.anchor_names, seeds, context),
            axis=0,
        )
        for birth in sorted(set().union(*(members for *_, members in fronts)))
    }
    path: list[tuple[int, float, float]] = []
    for step, seconds, members in fronts:
        value = hypervolume(np.array([points[b] for b in members]), bound) if members else 0.0
        if not path or value != path[-1][2]:
            path.append((step, round(seconds, 2), value))
    return path


def _leader(state: State, config: SearchConfig, context: Context) -> dict[str, Any]:
    """The best of the top candidates on fresh seeds, and what it is worth where it never was."""
    ranked = sorted(state.front.points, key=state.mean_score, reverse=True)[:TOP]
    if not ranked:
        return {"leader": None, "fresh": None, "unseen": None}
    seeds = [evaluation_seed(config.seed + 10_000, "confirm", index) for index in range(FRESH)]
    names = config.anchor_names
    fresh = {
        birth: np.mean(scores(state.members[birth].graph, config.task, names, seeds, context))
        for birth in ranked
    }
    best = max(fresh, key=lambda birth: float(fresh[birth]))
    graph = state.members[best].graph
    task = config.task.model_copy(update={"anchors": (Anchor(name=UNSEEN),)})
    ours, theirs = (np.array(scores(one, task, [UNSEEN], seeds, context)) for one in (graph, None))
    return {
        "leader": format_formula(graph), "fresh": round(float(fresh[best]), 4),
        "unseen": round(float(ours.mean() - theirs.mean()), 4),
    }  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """The searches that the file of rows does not hold yet."""
    done = {(row["variant"], row["seed"]) for row in read([options.rows])}
    for seed in options.seeds:
        for variant in options.variants:
            if (variant, seed) in done:
                continue
            row = search(variant, seed, options.dataset, options.steps)
            row |= {"dataset": options.dataset, "budget": options.steps}
            row["references"] = references(options.dataset)
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print({key: value for key, value in row.items() if key != "path"}, flush=True)


def read(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of the files that exist."""
    return [
        json.loads(line) for path in files if path.exists()
        for line in path.read_text().splitlines()
    ]  # fmt: skip


def transfer(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Variant -> its leaders' mean score over BN-ReLU's in the unseen network, with 95 % intervals.

    ``three_minus_one``: of the default's leader and the mean of those of its seed's single anchors.
    """
    by = {(row["variant"], row["seed"]): row["unseen"] for row in rows}
    found: dict[str, Any] = {}
    for variant in dict.fromkeys(row["variant"] for row in rows):
        some = np.array([row["unseen"] or 0.0 for row in rows if row["variant"] == variant])
        found[variant] = paired_interval(some)._asdict()
    whole = [
        seed for seed in sorted({row["seed"] for row in rows})
        if all(by.get((one, seed)) is not None for one in ("default", *ALONE))
    ]  # fmt: skip
    if whole:
        differences = [
            by["default", seed] - float(np.mean([by[one, seed] for one in ALONE])) for seed in whole
        ]
        found["three_minus_one"] = {
            "seeds": len(whole),
            **paired_interval(np.array(differences))._asdict(),
        }
    return found


def report(options: argparse.Namespace) -> None:
    """The result of all rows."""
    rows = read(options.files)
    judged = [row for row in rows if row["variant"] in VARIANTS]
    result = {
        "dataset": rows[0]["dataset"], "budget": rows[0]["budget"],
        "references": rows[0]["references"], "held_out_seeds": HELD_OUT,
        "variants": {name: list(more) for name, more in VARIANTS.items()},
        "summary": summary(judged), "unseen_network": transfer(rows), "runs": rows,
    }  # fmt: skip
    print(json.dumps({key: result[key] for key in ("summary", "unseen_network")}, indent=1))
    print(write_result("search", result, options.out))
    for axis, name in enumerate(("training steps", "processor seconds")):
        target = options.out / f"search_{name.split()[1]}.svg"
        write_bands(target, "Front on held-out seeds", name, "hypervolume", bands(judged, axis))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run")
    verb.add_argument("--rows", type=Path, required=True, help="finished searches, a line each")
    verb.add_argument(
        "--variants", nargs="+", default=[*VARIANTS, *ALONE], choices=[*VARIANTS, *ALONE]
    )
    verb.add_argument("--seeds", type=int, nargs="+", default=list(range(200, 210)))
    verb.add_argument("--dataset", default="fashion-mnist")
    verb.add_argument("--steps", type=int, default=30_000)
    verb.set_defaults(do=run)
    verb = verbs.add_parser("report")
    verb.add_argument("files", type=Path, nargs="+")
    verb.add_argument("--out", type=Path, default=RESULTS)
    verb.set_defaults(do=report)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
