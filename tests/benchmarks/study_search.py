"""What each ingredient of the default search buys: the same training steps with and without it.

``python -m tests.benchmarks.study_search [--variants ...] [--seeds ...] [--steps N]``: searches on
the quickstart's task with the inline pool until N training steps are spent (every step counts:
rejected and audited candidates too), then three fresh seeds for the five best. Writes
``results/search.json`` after each search; several processes may share out the seeds, ``--join``
puts their files together.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.presets import load_preset
from evosearch.records import EvaluationDone, Job, Run, Subject
from evosearch.state import Member, State
from evosearch.streams import evaluation_seed
from primitives.printer import format_formula
from tests.benchmarks.record import write_result
from workers.evaluate import Context, run_job
from workers.inline import InlinePool

NO_HURDLES = "checks.hurdles.steps=[]"
NO_LIMIT = "evolution.same_start=0"
NO_OPERATORS = "evolution.operators={}"
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "paper": (NO_HURDLES, NO_LIMIT, NO_OPERATORS),
    "no hurdles": (NO_HURDLES,),
    "no limit on equal starts": (NO_LIMIT,),
    "the paper's mutation alone": (NO_OPERATORS,),
    "random": ("evolution.random_share=1.0", NO_LIMIT, NO_OPERATORS),
}
"""Name -> overrides of the quickstart. ``paper`` is the paper's algorithm with the same checks."""

TOP, FRESH = 5, 3


def search(variant: str, seed: int, steps: int) -> dict[str, Any]:
    """One search and the re-measured scores of its best five."""
    overrides = ("budget.evaluations=1000000", "confirmation.enabled=false", *VARIANTS[variant])
    config = load_preset("quickstart", overrides, seed=seed)
    store = MemoryStore()
    store.create("study001", variant, ev.Created(config=config))
    controller = Controller(store, InlinePool(Context()), store.acquire("study001", "study", 1e9))
    begin, path = time.process_time(), []
    while not controller.over and controller.state.train_steps.total() < steps:
        controller.step(0.1)
        best = max((_mean(member) for member in _evaluated(controller.state)), default=0.0)
        if best > (path[-1][1] if path else 0.0):
            path.append((controller.state.train_steps.total(), best))
    seconds = time.process_time() - begin
    state = controller.state
    ranked = sorted(_evaluated(state), key=_mean, reverse=True)[:TOP]
    fresh = [_fresh(state, member) for member in ranked]
    leader = int(np.argmax(fresh)) if fresh else None
    return {
        "variant": variant, "seed": seed, "steps": state.train_steps.total(),
        "cpu_seconds": round(seconds), "evaluated": state.evaluated,
        "proposals": state.next_birth, "rejected": dict(state.rejected),
        "provisional": round(_mean(ranked[0]), 4) if ranked else None,
        "confirmed": None if leader is None else round(fresh[leader], 4),
        "leader": None if leader is None else format_formula(ranked[leader].graph),
        "path": [(step, round(score, 4)) for step, score in path],
    }  # fmt: skip


def _evaluated(state: State) -> list[Member]:
    return [member for member in state.members.values() if member.evaluated]


def _mean(member: Member) -> float:
    return float(np.mean(list(member.means().values())))


def _fresh(state: State, member: Member) -> float:
    """Mean score over fresh seeds and anchors, for all searches of one seed the same seeds."""
    task, context, scores = state.config.task, Context(), []
    for index in range(FRESH):
        seed = evaluation_seed(state.config.seed + 10_000, "confirm", index)
        runs = tuple(
            Run(anchor=anchor, seed=seed, learning_rate=task.learning_rate)
            for anchor in state.config.anchor_names
        )
        job = Job(
            id=f"f{index}", purpose="confirm", subject=Subject(birth=member.birth),
            graph=member.graph, runs=runs, task=task,
        )  # fmt: skip
        for message in run_job(job, context):
            if isinstance(message, EvaluationDone):
                scores.append(message.evaluation.score)
    return float(np.mean(scores))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Variant -> searches, median and range of the leader's re-measured mean score."""
    found: dict[str, Any] = {}
    for variant in VARIANTS:
        scores = [row["confirmed"] or 0.0 for row in rows if row["variant"] == variant]
        if scores:
            found[variant] = {
                "searches": len(scores), "median": median(scores),
                "low": min(scores), "high": max(scores),
            }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(200, 210)))
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--out", type=Path, help="rows as JSON lines, in place of the result file")
    parser.add_argument("--join", type=Path, nargs="+", help="files of rows; nothing is run")
    options = parser.parse_args()
    rows = []
    for path in options.join or ():
        rows += [json.loads(line) for line in path.read_text().splitlines()]
    for seed in () if options.join else options.seeds:
        for variant in options.variants:
            rows.append(search(variant, seed, options.steps))
            print({key: value for key, value in rows[-1].items() if key != "path"}, flush=True)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    if not options.out:
        write_result("search", {"summary": summary(rows), "runs": rows})


if __name__ == "__main__":
    main()
