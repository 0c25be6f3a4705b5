"""The experience that searches may begin with: how it is made, and what it is worth elsewhere.

``python -m tests.benchmarks.study_experience search --rows FILE [--seeds ...] [--set ...]``:
searches of the quickstart, as overrides have it; every candidate's graph and verdict is kept, a
search is a line of FILE.
``... write FILES``: adds their searches to ``results/experience_rows.jsonl.gz``, and writes the
experience of all of these into ``evosearch/experience.npz`` and how well it tells candidates of
searches that it does not know into ``results/experience.json``.

Searches need not be alike, but should try layers of every kind. The shipped file is of two rounds:
plain searches first, then such as choose by the experience of these and draw most graphs from
nothing (``ROUNDS``).
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.experience import SHIPPED, Experience
from evosearch.odds import POWER, extra_trees
from evosearch.presets import load_preset
from evosearch.refits import ranks
from primitives.graph import Graph
from primitives.traits import traits
from tests.benchmarks.record import RESULTS, add_row, read_rows, write_result
from workers.inline import InlinePool

FIXED = (
    "budget.evaluations=1000000", "budget.hours=1000", "confirmation.enabled=false", "baselines=[]",
    "checks.signal.audit_share=0", "evolution.challenge_top=0", "evolution.remeasure_every=0",
)  # fmt: skip
"""A verdict is wanted of as many layers as possible: none is measured twice."""
CHOSEN = ("evolution.experience=true", "evolution.choose_of=128", "evolution.warm_up=1")
ROUNDS: dict[str, tuple[str, ...]] = {
    "plain": ("evolution.choose_of=1", "evolution.experience=false"),
    "drawn": (*CHOSEN, "evolution.random_share=1"),
    "bred": (*CHOSEN, "evolution.random_share=0.5"),
}
"""Name -> overrides; ``drawn`` and ``bred`` are to choose by what ``plain`` searches taught."""
ROWS = RESULTS / "experience_rows.jsonl.gz"
"""All searches of the shipped experience, with their graphs."""
FOLDS = 5
POWERS = (1, 2, POWER, 4, 6)
OF = 32
"""Candidates of which the best is taken when an experience is judged."""


class Recorder(MemoryStore):
    """A store that keeps of a search every candidate's graph and verdict alone."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: dict[int, Graph] = {}
        self.trials: list[tuple[dict[str, Any], str, float | None]] = []

    def note(self, event: ev.Event) -> None:
        """What the event says of a candidate."""
        if isinstance(event, ev.CandidateQueued):
            self.graphs[event.birth] = event.graph
        elif isinstance(event, ev.CandidateRejected):
            graph = self.graphs.pop(event.birth)
            self.trials.append((graph.to_json(), event.rejection.code, None))
        elif isinstance(event, ev.CandidateEvaluated):
            graph = self.graphs.pop(event.birth)
            mean = float(np.mean(list(event.standing.scores.values())))
            self.trials.append((graph.to_json(), "", mean))

    def append(self, lease: Any, events: Sequence[ev.Event], done: Sequence[int] = ()) -> int:
        for event in events:
            self.note(event)
        return super().append(lease, events, done)


def search(name: str, seed: int, steps: int, more: Sequence[str]) -> dict[str, Any]:
    """One search until so many training steps are spent, with all its verdicts."""
    config = load_preset("quickstart", (*FIXED, *ROUNDS[name], *more), seed=seed)
    store = Recorder()
    store.create("study001", name, ev.Created(config=config))
    controller = Controller(store, InlinePool(), store.acquire("study001", "study", 1e9))
    begin, state = time.process_time(), controller.state
    while not controller.over and state.train_steps.total() < steps:
        controller.step(0.0)
    return {
        "round": name, "seed": seed, "set": list(more), "steps": state.train_steps.total(),
        "seconds": round(time.process_time() - begin, 1), "evaluated": state.evaluated,
        "spent_on": dict(state.train_steps), "rejected": dict(state.rejected),
        "trials": store.trials,
    }  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """The searches that the file of rows does not hold yet."""
    done = {(row["round"], row["seed"]) for row in read_rows([options.rows])}
    for seed in options.seeds:
        for name in options.rounds:
            if (name, seed) in done:
                continue
            row = search(name, seed, options.steps, options.set)
            add_row(options.rows, row)
            print({key: value for key, value in row.items() if key != "trials"}, flush=True)


def keep(rows: Iterable[dict[str, Any]], path: Path = ROWS) -> None:
    """Write the packed file, the same bytes for the same rows."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def gathered(rows: Iterable[dict[str, Any]]) -> tuple[Experience, np.ndarray[Any, Any]]:
    """The experience of all searches, and the number of the search that each verdict is of.

    Ranks are among all of them, for they have one task.
    """
    told = [(number, *trial) for number, row in enumerate(rows) for trial in row["trials"]]
    measured = [traits(Graph.from_json(graph)) for _, graph, _, _ in told]
    worth = ranks([mean for *_, mean in told])
    return (
        Experience(np.array(measured, np.float32), np.array(worth, np.float32)),
        np.array([number for number, *_ in told]),
    )


def judged(found: Experience, groups: np.ndarray[Any, Any]) -> dict[str, Any]:
    """How well the experience tells candidates of searches that are not part of it.

    ``auc``: that who was trained to the end is ranked before who was not; ``auc_best``: the same of
    the best third. ``plain``, ``chosen``: share of who was trained to the end and mean worth, of
    all candidates and of the best of `OF` by lot. ``powers``: power of the rank that is expected ->
    number of candidates -> share of the best of so many that is of the best tenth.
    """
    by_power = {power: _elsewhere(found, groups, power) for power in POWERS}
    told = by_power[POWER]
    chosen = _best_of(told, OF)
    through, best, tenth = found.worth > 0, found.worth > 2 / 3, found.worth > 0.9

    def of(rows: Any) -> dict[str, float]:
        return {"trained": float(through[rows].mean()), "best": float(best[rows].mean()),
                "worth": float(found.worth[rows].mean())}  # fmt: skip

    return {
        "auc": float(roc_auc_score(through, told)), "auc_best": float(roc_auc_score(best, told)),
        "of": OF, "plain": of(slice(None)), "chosen": of(chosen),
        "powers": {
            str(power): {str(of): float(tenth[_best_of(by, of)].mean()) for of in (OF, 300, 1000)}
            for power, by in by_power.items()
        },
    }  # fmt: skip


def _elsewhere(found: Experience, groups: np.ndarray[Any, Any], power: float) -> Any:
    """What is expected of each candidate (n,) by the searches that it is not of."""
    told = np.zeros(len(groups))
    for known, asked in GroupKFold(min(FOLDS, len(set(groups)))).split(told, groups=groups):
        trees = extra_trees(found.traits[known], found.worth[known], power=power)
        told[asked] = trees.predict(found.traits[asked])
    return told


def _best_of(told: Any, of: int) -> list[int]:
    """The best by what is expected, of each of many lots of ``of`` candidates."""
    rng, size = np.random.default_rng(0), min(of, len(told))
    lots = (rng.choice(len(told), size, replace=False) for _ in range(4000))
    return [int(some[np.argmax(told[some])]) for some in lots]


def write(options: argparse.Namespace) -> None:
    """The experience of all rows, and what it is worth."""
    every = read_rows([ROWS, *options.files])
    rows = list({(row["round"], row["seed"], *row["set"]): row for row in every}.values())
    keep(rows)
    found, groups = gathered(rows)
    found.save(SHIPPED)
    codes = Counter(code or "evaluated" for row in rows for _, code, _ in row["trials"])
    result = {
        "searches": [{k: v for k, v in row.items() if k != "trials"} for row in rows],
        "candidates": len(groups), "verdicts": dict(codes), "elsewhere": judged(found, groups),
    }  # fmt: skip
    print(json.dumps({k: v for k, v in result.items() if k != "searches"}, indent=1))
    print(write_result("experience", result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("search")
    one.add_argument("--rows", type=Path, required=True)
    one.add_argument("--rounds", nargs="+", default=["plain"], choices=list(ROUNDS))
    one.add_argument("--seeds", type=int, nargs="+", default=list(range(600, 610)))
    one.add_argument("--steps", type=int, default=12_000)
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    one.set_defaults(do=run)
    two = commands.add_parser("write")
    two.add_argument("files", type=Path, nargs="*")
    two.set_defaults(do=write)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
