"""Which learning rate the quickstart searches at: what one seed tells apart at each.

``python -m tests.benchmarks.study_rates FOLDER [--seeds 5]`` trains the known good layers at each
rate and warm-up, with the inline pool; each is a file in FOLDER, as `evosearch preset calibrate`
writes it, so that the study may be stopped and started again. A rate is good where one seed tells
layers apart and ranks them as the confirmation would, which takes each at its own best rate.
Writes ``results/rates.json``; `docs.make_measured` shows it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.commands_preset import MEAN, failing, good_layers, jobs, train, write_figures
from api.wiring import make_pool
from evosearch.calibrate import spearman
from evosearch.presets import load_preset
from tests.benchmarks.record import write_result

PRESET = "quickstart"
SETTINGS = (
    (0.1, 0), (0.2, 0), (0.25, 0), (0.3, 0), (0.4, 0),
    (0.2, 10), (0.2, 20), (0.3, 30), (0.4, 10), (0.4, 20), (0.4, 40),
)  # fmt: skip
"""Learning rates and steps of warm-up."""


def measure(folder: Path, rate: float, warm_up: int, seeds: int) -> dict[str, Any]:
    """The figures of one setting, trained unless its file is there."""
    path = folder / f"rate{rate:g}-warm{warm_up}.json"
    if not path.exists():
        changed = [f"task.learning_rate={rate}", f"task.warm_up_steps={warm_up}"]
        config = load_preset(PRESET, changed)
        names = good_layers(config)
        pool = make_pool("inline", None)
        try:
            short = train(pool, jobs(config, config.task, names, range(seeds)))
        finally:
            pool.close()
        half = path.with_suffix(".half")
        write_figures(half, config, names, short, short)
        half.replace(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def means(found: Mapping[str, Any]) -> NDArray[np.float64]:
    """Mean score of each layer over seeds and anchors, shape (layers,)."""
    scores = found["scores"]
    return np.array([np.mean([*by.values()]) for by in (scores[name] for name in found["layers"])])


def row(found: Mapping[str, Any], best: NDArray[np.float64]) -> dict[str, Any]:
    """What the study says of one setting."""
    task, mean = found["config"]["task"], found["calibration"][MEAN]
    anchors = [anchor["name"] for anchor in task["anchors"]]
    return {
        "rate": task["learning_rate"], "warm_up_steps": task["warm_up_steps"],
        "ratio": mean["ratio"], "seeds_for_one_point": mean["seeds_for_one_point"],
        "as_at_the_best_rate": spearman(means(found), best),
        "failing": failing(anchors, found["layers"], found["scores"]),
        "means": dict(zip(found["layers"], means(found).round(4).tolist(), strict=True)),
    }  # fmt: skip


def report(measured: Sequence[Mapping[str, Any]], rates: Sequence[float]) -> dict[str, Any]:
    """All settings. ``rates``: those that the confirmation tries each layer at."""
    plain = {one["config"]["task"]["learning_rate"]: one for one in measured
             if not one["config"]["task"]["warm_up_steps"]}  # fmt: skip
    best = np.max([means(plain[rate]) for rate in rates], axis=0)
    return {
        "preset": PRESET, "confirmation_rates": [*rates], "layers": measured[0]["layers"],
        "settings": [row(one, best) for one in measured],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    measured = []
    for rate, warm_up in SETTINGS:
        measured.append(measure(options.folder, rate, warm_up, options.seeds))
        figures = measured[-1]["calibration"][MEAN]
        print(f"rate {rate:g}, warm-up {warm_up}: {figures}", flush=True)
    rates = load_preset(PRESET).confirmation.learning_rates
    print(write_result("rates", report(measured, rates)))


if __name__ == "__main__":
    main()
