"""Real searches against random search and the paper's algorithm, on a data set of their own.

``python -m tests.benchmarks.study_search run --rows FILE ... [--variants ...] [--seeds ...]``:
searches of the quickstart with another data set, under the inline pool, until a number of training
steps is spent (every step counts: those of rejected and audited candidates, and the two that a
signal check takes back). Then whatever was ever on a search's front is trained with held-out seeds,
and the front that the search would have returned at each moment is judged by these alone. Each
search is a line of the first FILE; what the files hold is not done again, so a study may be
stopped, started again, and shared out with one file a process. Rows of other settings, data or code
are refused.
``... report FILES``: the training steps and processor seconds that the default needs to have, for
good, what each rival has at the end, and the paper's claim about several anchors: layers that were
searched on one anchor against those of three, in a network that neither saw. Writes
``results/search.json``.

By default the data are Fashion-MNIST. The quickstart's own signal bounds were fitted on it beside
polarity digits, so every search of the study has other ones, fitted in the same way on polarity
digits alone (``results/signal_polarity.json``, where what they lose on Fashion-MNIST stands, too).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import SearchConfig
from evosearch.controller import Controller
from evosearch.errors import ConfigError
from evosearch.pareto import hypervolume
from evosearch.presets import load_preset
from evosearch.state import State
from evosearch.stats import paired_interval
from evosearch.streams import evaluation_seed
from primitives.printer import format_formula
from tests.benchmarks.chart import write_bands
from tests.benchmarks.record import (
    RESULTS,
    add_row,
    code_digest,
    read_rows,
    refuse_mixed,
    resumed,
    text_digest,
    write_result,
)
from tests.benchmarks.rivals import INGREDIENTS, NO_EXPERIENCE, RIVALS, spent_on
from tests.benchmarks.search_paths import bands, summary, targets
from tests.benchmarks.unseen_network import RATES, REPORT_SEEDS, TUNE_SEEDS, over_bn_relu, scores
from workers.datasets._digest import content_digest
from workers.evaluate import Context
from workers.inline import InlinePool

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (), **RIVALS, NO_EXPERIENCE: INGREDIENTS[NO_EXPERIENCE],
}  # fmt: skip
"""Name -> overrides of the quickstart."""
ALONE = tuple(f"{name} alone" for name in ANCHORS)
"""The default on one anchor, with the training steps that the others spend on three."""
BOUNDS = RESULTS / "signal_polarity.json"
SEARCH_CODE = (
    "evosearch/*.py", "evosearch/*.npz", "tests/benchmarks/rivals.py",
    "tests/benchmarks/study_search.py", "tests/benchmarks/unseen_network.py",
)  # fmt: skip
"""Files whose change may change a search or how it is judged, beside those that train."""
TOP, FRESH = 5, 3
"""Candidates that get fresh seeds at the end, and how many; the best of them is the leader."""
HELD_OUT = 2
"""Seeds that fronts are judged with."""
BELOW = 0.2
"""The reference point lies so far below BN-ReLU's mean: twice as far as the presets' do, so that a
front is worth something before it comes near BN-ReLU."""
REFERENCE_SEEDS = 3
FIRST = 10
"""Seeds that were fixed beforehand; what these alone say stands beside what all of them say."""
SECONDS_ARE = "processor seconds"


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
    data = config.model_dump(mode="json")
    data["task"]["anchors"] = [one.model_dump(mode="json") for one in anchors]
    data["checks"]["signal"]["bounds"] = json.loads(BOUNDS.read_text())["bounds"]
    return SearchConfig.model_validate(data)


@cache
def references(dataset: str) -> dict[str, float]:
    """Anchor -> its coordinate of the reference point on that data set; no search saw the seeds."""
    task = load_preset("quickstart", (f"task.dataset={dataset}",)).task
    seeds = [evaluation_seed(30_000, "confirm", index) for index in range(REFERENCE_SEEDS)]
    means = np.mean(scores(None, task, ANCHORS, seeds, Context()), axis=0)
    return {name: round(float(mean) - BELOW, 3) for name, mean in zip(ANCHORS, means, strict=True)}


def settings_of(variant: str, dataset: str, steps: int) -> dict[str, Any]:
    """What rows must share to be compared: all of it but ``config``, which each variant has."""
    return {
        "dataset": dataset, "data": content_digest(dataset), "steps": steps,
        "code": code_digest(SEARCH_CODE),
        "config": text_digest(configured(variant, 0, dataset).model_dump_json()),
    }  # fmt: skip


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
    while not controller.over and sum(spent_on(state).values()) < steps:
        controller.step(0.0)
        if not fronts or state.front.members != fronts[-1][2]:
            moment = (sum(spent_on(state).values()), time.process_time() - begin)
            fronts.append((*moment, state.front.members))
    spent = sum(spent_on(state).values())
    row: dict[str, Any] = {
        "variant": variant, "seed": seed, "budget": steps, "steps": spent,
        "seconds": round(time.process_time() - begin, 1), "evaluated": state.evaluated,
        "proposals": state.next_birth, "asked": sum(1 for _ in state.fingerprints), "outside": 0,
        "exhausted": spent < steps, "rejected": dict(state.rejected),
        "audit": {"audited": state.audit.audited, "wrong": state.audit.wrongly_rejected},
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
    return {
        "leader": format_formula(graph), "fresh": round(float(fresh[best]), 4),
        **over_bn_relu(graph, config.task, config.seed + 10_000, context),
    }  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """The searches that the files of rows do not hold yet.

    Raises:
        ConfigError: they hold searches with other settings, data or code.
    """
    settings = {one: settings_of(one, options.dataset, options.steps) for one in options.variants}
    for variant, seed in resumed(options.rows, settings, options.seeds)[1]:
        row = search(variant, seed, options.dataset, options.steps)
        row |= {"settings": settings[variant], "references": references(options.dataset)}
        add_row(options.rows[0], row)
        print({key: value for key, value in row.items() if key != "path"}, flush=True)


def transfer(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Variant -> its leaders' mean score over BN-ReLU's in the unseen network, with 95 % intervals.

    ``searches``: those with a leader; ``without_a_leader``: the others, which tell nothing and are
    left out; ``evaluated``: the median of candidates that they all trained to the end.
    ``three_minus_one``: of the default's leader and the mean of those of its seed's
    single anchors; ``left_out``: seeds of which one of the four has no leader, or was not searched.
    """
    by = {(row["variant"], row["seed"]): row["unseen"] for row in rows}
    found: dict[str, Any] = {}
    for variant in dict.fromkeys(row["variant"] for row in rows):
        some = [row for row in rows if row["variant"] == variant]
        known = [row["unseen"] for row in some if row["unseen"] is not None]
        found[variant] = {
            "searches": len(known), "without_a_leader": len(some) - len(known),
            "evaluated": float(np.median([row["evaluated"] for row in some])),
        }  # fmt: skip
        if known:
            found[variant] |= paired_interval(np.array(known))._asdict()
    seeds = sorted({row["seed"] for row in rows if row["variant"] in ("default", *ALONE)})
    whole = [
        seed for seed in seeds
        if all(by.get((one, seed)) is not None for one in ("default", *ALONE))
    ]  # fmt: skip
    if whole:
        differences = [
            by["default", seed] - float(np.mean([by[one, seed] for one in ALONE])) for seed in whole
        ]
        found["three_minus_one"] = {
            "seeds": len(whole), "left_out": len(seeds) - len(whole),
            **paired_interval(np.array(differences))._asdict(),
        }  # fmt: skip
    return found


def audits(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Variant -> rejections of the signal check that were audited, and how many were wrong."""
    return {
        variant: {
            name: sum(row["audit"][name] for row in rows if row["variant"] == variant)
            for name in ("audited", "wrong")
        }
        for variant in dict.fromkeys(row["variant"] for row in rows)
    }


def report(options: argparse.Namespace) -> None:
    """The result of all rows.

    Raises:
        ConfigError: they are of several studies, there is none, or one stands there twice.
    """
    rows = read_rows(options.files)
    refuse_mixed(rows)
    searches = {(row["variant"], row["seed"]) for row in rows if "settings" in row}
    if not rows or len(searches) < len(rows):
        raise ConfigError(
            "each search once, with its settings", expected=f"{len(rows) or 'some'} searches",
            got=str(len(searches)), where=", ".join(map(str, options.files)),
        )  # fmt: skip
    judged = [row for row in rows if row["variant"] in VARIANTS]
    found = summary(judged)
    first = sorted({row["seed"] for row in judged})[:FIRST]
    at_first = targets(summary([row for row in judged if row["seed"] in first]))
    known = json.loads(BOUNDS.read_text())
    result = {
        "dataset": rows[0]["settings"]["dataset"], "budget": rows[0]["budget"],
        "seconds_are": SECONDS_ARE, "references": rows[0]["references"],
        "held_out_seeds": HELD_OUT, "unseen_rates": list(RATES),
        "unseen_seeds": {"to choose the rate": TUNE_SEEDS, "reported": REPORT_SEEDS},
        "signal": {"fitted_on": known["fitted_on"], "judged_on": known["judged_on"],
                   "judged": known["result"]["all"], "in_the_searches": audits(rows)},
        "variants": {name: list(more) for name, more in VARIANTS.items()},
        "targets": targets(found), "first": {"seeds": len(first), "targets": at_first},
        "summary": found, "unseen_network": transfer(rows),
    }  # fmt: skip
    shown = ("targets", "summary", "unseen_network")
    print(json.dumps({key: result[key] for key in shown}, indent=1))
    print(write_result("search", result, options.out))
    for axis, name in enumerate(("training steps", SECONDS_ARE) if judged else ()):
        target = options.out / f"search_{name.split()[1]}.svg"
        write_bands(target, "Front on held-out seeds", name, "hypervolume", bands(judged, axis))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run")
    verb.add_argument(
        "--rows", type=Path, required=True, nargs="+",
        help="finished searches, a line each; new ones go to the first file",
    )  # fmt: skip
    verb.add_argument(
        "--variants", nargs="+", default=[*VARIANTS, *ALONE], choices=[*VARIANTS, *ALONE]
    )
    verb.add_argument("--seeds", type=int, nargs="+", default=list(range(200, 210)))
    verb.add_argument("--dataset", default="fashion-mnist")
    verb.add_argument("--steps", type=int, default=5000)
    verb.set_defaults(do=run)
    verb = verbs.add_parser("report")
    verb.add_argument("files", type=Path, nargs="+")
    verb.add_argument("--out", type=Path, default=RESULTS)
    verb.set_defaults(do=report)
    options = parser.parse_args()
    try:
        options.do(options)
    except ConfigError as err:
        raise SystemExit(str(err)) from err


if __name__ == "__main__":
    main()
