"""Processor seconds of the controller's dearer parts: a benchmark, no test.

How long a new function takes to be compared with what was tried (`evosearch.alike`, one more tried
each time), and the forests of the surrogate and of the odds, with the experience that one begins
with, to be fitted and asked. Run with ``make bench`` or
``python -m tests.benchmarks.bench_controller [--runs R]``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np

from evosearch import events as ev
from evosearch.alike import Alike
from evosearch.experience import shipped
from evosearch.odds import BATCH, Odds, Trial, extra_trees
from evosearch.odds import KEPT as KEPT_TRIALS
from evosearch.presets import load_preset
from evosearch.propose import Proposer
from evosearch.screen import Screen
from evosearch.state import State
from evosearch.streams import stream
from evosearch.surrogate import KEPT, NAMES, Lesson, promise
from evosearch.variation import draw_table, random_graph
from primitives.fingerprint import initial_response
from primitives.graph import Graph
from tests.benchmarks.record import write_result
from workers.checks import SIGNAL_STATISTICS

FITTED = (30, 100, 300, KEPT)
"""Lessons that the surrogate's forest is fitted to."""
TRIED = (30, 100, 300, KEPT_TRIALS)
"""Trials that the forest of the odds is fitted to."""
HELD = 60
"""Functions that a hunt's are compared with."""
CONFIG = load_preset(
    "quickstart",
    ("surrogate.enabled=true", "evolution.choose_of=1000", "evolution.experience=true"),
)


def functions(seed: int, count: int) -> list[Graph]:
    """Random graphs that the checks in the controller let through."""
    table, screen, found = draw_table(CONFIG.space), Screen(CONFIG), list[Graph]()
    birth = 0
    while len(found) < count:
        birth += 1
        graph = random_graph(stream(seed, "propose", birth), table, CONFIG.space.nodes)
        if screen.judge(graph, {}, {}).code is None:
            found.append(graph)
    return found


def seconds(work: Callable[[], object]) -> float:
    """Of one core, by the process's clock."""
    begin = process_time()
    work()
    return process_time() - begin


def compared(seed: int, asked: int = 100) -> float:
    """Of one comparison with as many as a search of the quickstart keeps in mind."""
    kept = 4 * CONFIG.evolution.population_size
    graphs = functions(seed, kept + 2 * asked)
    tried = list(enumerate(graphs[: kept + asked]))
    alike = Alike(CONFIG.evolution.alike)
    alike.count(initial_response(graphs[-1]), tried[:kept])

    def work() -> None:
        for place, graph in enumerate(graphs[kept + asked :], 1):
            alike.count(initial_response(graph), tried[place : place + kept])

    return seconds(work) / asked


def forest(seed: int, count: int) -> tuple[float, float]:
    """Of fitting a forest to so many lessons, and of asking it once."""
    rng = np.random.default_rng(seed)
    width = len(CONFIG.task.anchors) * len(SIGNAL_STATISTICS) + len(NAMES) + 5
    rows = rng.normal(size=(count, width))
    lessons = [
        Lesson(tuple(row.tolist()), float(row[0]) if row[1] > 0 else None, False, None)
        for row in rows
    ]
    settings = CONFIG.surrogate.model_copy(update={"after": count})

    def ask() -> object:
        return promise(lessons, count, settings, lessons[0].features)

    return seconds(ask), seconds(ask)


def looked(seed: int) -> float:
    """Of one function of those that are looked at for a candidate, with all that comes to it.

    The search has no parents yet, but has tried some functions that new ones are compared with.
    """
    state = State(ev.Created(config=CONFIG.model_copy(update={"seed": seed})))
    proposer, done = Proposer(state), list[ev.Event]()
    *before, other = functions(seed, HELD + 1)
    state.tried.extend(enumerate(before))
    state.full_starts.add("of some layer")
    proposer.odds.wanted(state, 0)  # the first forest is fitted
    proposer.screen.judge(other, {}, {}, tried=state.tried)  # and what was tried is known
    took = seconds(lambda: done.extend(proposer.propose(state)))
    last = done[-1]
    assert isinstance(last, ev.CandidateQueued)
    return took / (1 + last.skipped.counts["passed_over"])


def odds(graphs: list[Graph], seed: int, count: int) -> float:
    """Of fitting the odds to so many trials, whose traits are known."""
    rng, state = np.random.default_rng(seed), State(ev.Created(config=CONFIG))
    some = [graphs[place] for place in rng.integers(len(graphs), size=count)]
    state.choice.trials.extend(
        Trial(graph, rng.random() if rng.random() < 0.1 else None) for graph in some
    )
    state.choice.decided = count
    Odds().of(state, graphs)  # their traits

    asked, fitted = graphs[:BATCH], Odds()
    return seconds(lambda: fitted.of(state, asked))


def experience() -> float:
    """Of reading the shipped experience and fitting its forest, as the first choice does."""
    shipped.cache_clear()
    return seconds(lambda: extra_trees(*shipped()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    forest(99, 10)  # the first one imports scikit-learn
    told = {count: [forest(run, count) for run in range(options.runs)] for count in FITTED}
    graphs = functions(7, 200)
    experience()
    chosen = {count: [odds(graphs, run, count) for run in range(options.runs)] for count in TRIED}
    found: dict[str, Any] = {
        "experience": [experience() for _ in range(options.runs)],
        "looked": [looked(run) for run in range(options.runs)],
        "odds_fits": chosen,
        "compared": [compared(run) for run in range(options.runs)],
        "promise": [again for pairs in told.values() for _, again in pairs],
        "fits": {count: [first for first, _ in pairs] for count, pairs in told.items()},
    }
    for name in ("compared", "promise", "looked", "experience"):
        print(f"{name}: {1000 * statistics.median(found[name]):.2f} ms")
    for name, what in (("fits", "lessons"), ("odds_fits", "trials")):
        for count, some in found[name].items():
            print(f"a fit to {count} {what}: {statistics.median(some):.2f} s")
    write_result("controller", {"seconds": found})


if __name__ == "__main__":
    main()
