"""Proposals that the controller makes and decides per second on one core: a benchmark, no test.

Run with ``make bench`` or ``python -m tests.benchmarks.bench_propose [--count N] [--runs R]``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from time import perf_counter

from evosearch.presets import load_preset
from evosearch.screen import Screen
from evosearch.streams import stream
from evosearch.variation import draw_table, mutate, random_graph
from primitives.graph import Graph
from tests.benchmarks.record import spread, write_result


def decide(count: int, seed: int, parents: list[Graph]) -> tuple[float, Counter[str], list[Graph]]:
    """Seconds for ``count`` proposals with their verdicts; children of ``parents`` if there are."""
    config = load_preset("quickstart")
    table, screen = draw_table(config.space), Screen(config)
    digests: dict[str, int] = {}
    fingerprints: dict[str, int] = {}
    codes: Counter[str] = Counter()
    kept: list[Graph] = []
    begin = perf_counter()
    for birth in range(count):
        rng = stream(seed, "propose", birth)
        if parents:
            graph = mutate(rng, table, mutate(rng, table, parents[birth % len(parents)]))
        else:
            graph = random_graph(rng, table, config.space.nodes)
        verdict = screen.judge(graph, digests, fingerprints)
        codes[verdict.code or "queued"] += 1
        if verdict.code is None:
            kept.append(graph)
            fingerprints[verdict.fingerprint] = birth
            digests[verdict.digest] = birth
        elif verdict.code == "duplicate":
            digests[verdict.digest] = birth
    return perf_counter() - begin, codes, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"random": [], "mutation": []}
    for run in range(options.runs):
        seconds, codes, kept = decide(options.count, run, [])
        rates["random"].append(options.count / seconds)
        seconds, mutated, _ = decide(options.count // 4, run, kept[:100])
        rates["mutation"].append(options.count / 4 / seconds)
    for kind, shares in (("random", codes), ("mutation", mutated)):
        total = shares.total()
        line = ", ".join(f"{code} {100 * n / total:.1f} %" for code, n in shares.most_common())
        print(f"{kind}: {spread(rates[kind])} proposals/s on one core; {line}")
    write_result(
        "propose",
        {"proposals_per_second": rates, "shares": {"random": codes, "mutation": mutated}},
    )


if __name__ == "__main__":
    main()
