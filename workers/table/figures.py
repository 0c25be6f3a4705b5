"""What a table says of its space: stages, known layers, seed noise, and how soon it is exhausted.

Pure functions of a table; nothing is trained here.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evosearch.calibrate import calibrate, spearman
from evosearch.records import Job, JobDone, Run, Subject
from evosearch.subspace import uncrowded
from primitives.catalog import CATALOG
from primitives.printer import format_formula
from workers.table.form import Table
from workers.table.pool import TablePool

Floats = NDArray[np.float64]
PASSES = "passes"
TOP = 10


def first_job(table: Table, function: int, place: int) -> Job:
    """The job of a fresh candidate, its training on the stored seed at that place."""
    config = table.header.config
    seed, rate = table.header.seeds[place], config.task.learning_rate
    return Job(
        id=f"c{function}", purpose="search", subject=Subject(birth=function),
        graph=table.functions[function].graph,
        runs=tuple(Run(anchor=a, seed=seed, learning_rate=rate) for a in config.anchor_names),
        task=config.task, checks=config.checks,
    )  # fmt: skip


def verdicts(table: Table) -> list[list[tuple[str, int, float]]]:
    """What the checks say of each function with each seed, without hurdles.

    Returns:
        Functions x seeds of (code or ``passes``, training steps, seconds of a worker).
    """
    pool = TablePool(table)
    found = []
    for function in range(len(table.functions)):
        row = []
        for place in range(len(table.header.seeds)):
            seconds, messages = pool.answer(first_job(table, function, place))
            done = messages[-1]
            assert isinstance(done, JobDone)
            steps = sum(check.steps for message in messages for check in message.checks)
            row.append((done.rejection.code if done.rejection else PASSES, steps, seconds))
        found.append(row)
    return found


def expected_share(chances: Floats, proposals: float) -> float:
    """Expected share of the functions that so many random proposals meet.

    Shapes: (functions,).
    """
    return float(-np.expm1(proposals * np.log1p(-chances)).mean())


def proposals_to_meet(chances: Floats, share: float) -> int:
    """Random proposals after which that share is met in expectation; of all (1), in the median.

    Shapes: (functions,), each above zero.
    """

    def enough(count: float) -> bool:
        if share < 1.0:
            return expected_share(chances, count) >= share
        met = -np.expm1(count * np.log1p(-chances))
        return bool(np.log(np.maximum(met, 1e-300)).sum() >= np.log(0.5))

    high = 1
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def published(table: Table) -> dict[str, int]:
    """Known layers whose function is in the table -> its row."""
    found = {name: table.find(entry.graph) for name, entry in CATALOG.items()}
    return {name: row for name, row in found.items() if row is not None}


def figures(table: Table) -> dict[str, Any]:
    """All of them, ready for JSON."""
    header, viable = table.header, table.viable()
    space = header.config.space
    codes = verdicts(table)
    chances = np.array([one.probability for one in table.functions])
    through = uncrowded(table.functions, header.config)
    return {
        "space": {
            "primitives": list(space.allow), "live_nodes": space.nodes, "draw": space.draw,
            "where": space.where,
            "raw_sequences": header.raw, "live_graphs": header.graphs,
            "refused": {code: count for code, (count, _) in header.refused.items()},
            "refused_probability": {code: round(p, 6) for code, (_, p) in header.refused.items()},
            "functions": header.functions, "in_the_table": len(table.functions),
        },
        "seeds": len(header.seeds),
        "verdicts": _stages(table, codes),
        "viable": len(viable),
        "uncrowded": {"functions": len(through), "viable": len({*through} & {*viable})},
        "published": _named(table),
        "beats": _beats(table, viable),
        "top": _top(table, viable),
        "rank_correlation": _correlations(table, viable),
        "noise": _noise(table, viable),
        "random_proposals": {
            "functions": _coverage(chances),
            "viable": _coverage(chances[viable]),
        },
        "random_search_to_the_end": _cost(codes),
    }  # fmt: skip


def _stages(table: Table, codes: list[list[tuple[str, int, float]]]) -> dict[str, float]:
    """Code -> functions, in the mean over seeds."""
    counted = Counter(code for row in codes for code, _, _ in row)
    return {code: count / len(table.header.seeds) for code, count in counted.most_common()}


def _mean(table: Table, row: int) -> Floats:
    """Mean over seeds of the scores, shape (anchors,)."""
    return np.asarray(table.scores(row).mean(axis=0))


def _named(table: Table) -> dict[str, Any]:
    return {
        name: {
            "formula": format_formula(table.functions[row].graph),
            "scores": [round(value, 4) for value in _mean(table, row).tolist()]
            if table.rows[row].complete else None,
            "probability": table.functions[row].probability,
        }
        for name, row in published(table).items()
    }  # fmt: skip


def _beats(table: Table, viable: list[int]) -> dict[str, dict[str, int]]:
    """Baseline -> viable functions with a higher mean over anchors, and with one on every anchor.

    Of means over the stored seeds; with few seeds some of them are luck.
    """
    found = {}
    means = [_mean(table, row) for row in viable]
    for name in table.header.baselines:
        rival = _mean(table, table.baseline(name))
        found[name] = {
            "mean": sum(bool(one.mean() > rival.mean()) for one in means),
            "every_anchor": sum(bool((one > rival).all()) for one in means),
        }
    return found


def _top(table: Table, viable: list[int]) -> list[dict[str, Any]]:
    ranked = sorted(viable, key=lambda row: -float(_mean(table, row).mean()))[:TOP]
    return [
        {
            "formula": format_formula(table.functions[row].graph),
            "scores": [round(value, 4) for value in _mean(table, row).tolist()],
            "probability": table.functions[row].probability,
        }
        for row in ranked
    ]


def _correlations(table: Table, viable: list[int]) -> dict[str, float | None]:
    """Pair of anchors -> Spearman's rank correlation of mean scores over viable functions."""
    names = table.header.config.anchor_names
    if len(viable) < 2:
        return {}
    means = np.array([_mean(table, row) for row in viable])
    pairs = combinations(range(len(names)), 2)
    return {
        f"{names[a]} and {names[b]}": _finite(spearman(means[:, a], means[:, b])) for a, b in pairs
    }


def _noise(table: Table, viable: list[int]) -> dict[str, dict[str, float]]:
    """Anchor -> deviation of functions' true means, of seeds, and seeds that resolve a point."""
    if len(viable) < 2 or len(table.header.seeds) < 2:
        return {}
    scores = np.array([table.scores(row) for row in viable])
    found = {}
    for place, anchor in enumerate(table.header.config.anchor_names):
        one = calibrate(scores[:, :, place])
        found[anchor] = {
            "between": round(one.between, 4), "noise": round(one.noise, 4), "seeds": one.seeds
        }  # fmt: skip
    return found


def _coverage(chances: Floats) -> dict[str, int]:
    if not len(chances):
        return {}
    wanted = {"half": 0.5, "nine_tenths": 0.9, "all": 1.0}
    return {name: proposals_to_meet(chances, share) for name, share in wanted.items()}


def _cost(codes: list[list[tuple[str, int, float]]]) -> dict[str, float]:
    """Training steps and worker hours of every function once, in the mean over seeds."""
    seeds = max(1, len(codes[0]) if codes else 1)
    steps = sum(steps for row in codes for _, steps, _ in row) / seeds
    seconds = sum(seconds for row in codes for _, _, seconds in row) / seeds
    return {"train_steps": round(steps), "worker_hours": round(seconds / 3600, 3)}


def _finite(value: float) -> float | None:
    return round(value, 3) if value == value else None
