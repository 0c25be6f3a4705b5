"""Breakdowns of a search: the simplest layers, primitives over time, ages, what is new."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from api.charts.genes import NAMES
from api.charts.ledger import EVALUATED, FAILED, REJECTED, Floats, Ledger
from api.charts.progress import thinned
from api.charts.standing import Standing, baseline_label, standing_of
from api.charts.verdict import gain_view
from api.rest.chart_schemas import (
    AgePoint,
    AgesView,
    PrimitiveShares,
    ShareRow,
    SimpleRow,
    SimplestView,
)
from evosearch.gain import better_baseline

Within = NDArray[np.bool_] | None
"""Which evaluated candidates a brush holds; None without one."""


def simplest_places(ledger: Ledger, within: Within = None) -> list[tuple[int, int, int]]:
    """(live nodes, candidates, place of the best) by size; the confirmed go before the others."""
    standing = standing_of(ledger)
    if standing is None or not len(standing.rows):
        return []
    nodes = ledger.column("nodes")[standing.rows]
    order = np.lexsort((-standing.mean, ~standing.confirmed(), nodes))
    if within is not None:
        order = order[within[order]]
    sizes, firsts, counts = np.unique(nodes[order], return_index=True, return_counts=True)
    return [
        (int(size), int(count), int(order[first]))
        for size, first, count in zip(sizes, firsts, counts, strict=True)
    ]


def simplest(
    ledger: Ledger, places: list[tuple[int, int, int]], formulas: Mapping[int, str | None]
) -> SimplestView:
    """The best of each size; ``buys`` is measured from the best gain of all smaller ones."""
    standing = standing_of(ledger)
    rows: list[SimpleRow] = []
    best: float | None = None
    for size, count, place in places:
        assert standing is not None
        birth = ledger.birth[int(standing.rows[place])]
        gain = standing.gain(place)
        rows.append(
            SimpleRow(
                live_nodes=size, candidates=count, birth=birth, formula=formulas.get(birth),
                seeds=int(standing.seeds[place]), confirmed=bool(standing.seeds[place] > 1),
                gain=gain_view(gain), buys=None if best is None else gain.value - best,
            )
        )  # fmt: skip
        best = gain.value if best is None else max(best, gain.value)
    return SimplestView(baseline=_label(standing), rows=rows)


def births_at(ledger: Ledger, places: Iterable[tuple[int, int, int]]) -> list[int]:
    """Births of the candidates at those places among the evaluated ones."""
    rows = ledger.members()
    return [ledger.birth[int(rows[place])] for _, _, place in places]


def primitive_shares(ledger: Ledger, bins: int, within: Within = None) -> PrimitiveShares:
    """Share of proposals, survivors and the front that use each primitive, bin by bin.

    With ``within`` survivors and the front are those of the brush; proposals stay all of them, for
    only evaluated candidates have a place in a brush.
    """
    births, masks = ledger.column("birth"), ledger.column("genes")
    evaluated = ledger.column("state") == EVALUATED
    if within is not None:
        evaluated = np.zeros(len(births), dtype=bool)
        evaluated[ledger.members()[within]] = True
    if not len(births):
        return PrimitiveShares(births=[], evaluated=[], rows=[])
    bins = min(bins, len(births))
    edges = np.linspace(0, len(births), bins + 1).round().astype(int)
    bits = np.unpackbits(
        masks.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little", count=len(NAMES)
    )
    proposals = _shares(bits, edges, np.ones(len(births), dtype=bool))
    survivors = _shares(bits * evaluated[:, None], edges, evaluated)
    fronts = _front_shares(ledger, bits, edges, None if within is None else evaluated)
    used = [k for k in range(len(NAMES)) if bits[:, k].any()]
    done = np.concatenate(([0], np.cumsum(evaluated)))
    return PrimitiveShares(
        births=births[edges[:-1]].tolist(), evaluated=done[edges[1:]].tolist(),
        rows=[
            ShareRow(
                primitive=NAMES[k], proposals=_listed(proposals[:, k]),
                survivors=_listed(survivors[:, k]), front=_listed(fronts[:, k]),
            )
            for k in used
        ],
    )  # fmt: skip


def _shares(bits: NDArray[np.uint8], edges: NDArray[np.int64], among: NDArray[np.bool_]) -> Floats:
    sums = np.add.reduceat(bits, edges[:-1], axis=0, dtype=np.int64)
    counts = np.add.reduceat(among, edges[:-1], dtype=np.int64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counts[:, None] > 0, sums / counts[:, None], np.nan))


def _front_shares(
    ledger: Ledger, bits: NDArray[np.uint8], edges: NDArray[np.int64], among: Within
) -> Floats:
    """The front as it stood when the youngest candidate of each bin had its place in the log."""
    outcomes = ledger.column("outcome")
    ends = np.maximum.accumulate(np.maximum.reduceat(outcomes, edges[:-1]))
    made = np.full((len(ends), bits.shape[1]), np.nan)
    front: set[int] = set()
    steps, next_step = ledger.front_steps, 0
    for place, end in enumerate(ends):
        while next_step < len(steps) and steps[next_step].place.seq <= end:
            front = (front - set(steps[next_step].front_out)) | set(steps[next_step].front_in)
            next_step += 1
        shown = [row for row in map(ledger.rows.__getitem__, front) if among is None or among[row]]
        if shown:
            made[place] = bits[shown].mean(axis=0)
    return made


def _listed(values: Floats) -> list[float | None]:
    return [None if np.isnan(one) else float(f"{one:.4g}") for one in values]


def ages(ledger: Ledger, most: int, within: Within = None) -> AgesView:
    """The population, age against score; evenly thinned, whoever is on the front kept.

    With ``within`` only members in the brush are told; ages stay those among all.
    """
    rows = ledger.members()
    outcomes = ledger.column("outcome")
    young = rows[np.argsort(outcomes[rows], kind="stable")]
    young = young[-ledger.config.evolution.population_size :]
    scores = ledger.score_matrix().mean(axis=1)
    baseline = better_baseline(ledger.samples, ledger.config.confirmation.rivals)
    better = None if baseline is None else float(baseline.means.mean())
    held = set(young.tolist() if within is None else rows[within].tolist())
    ranks = [one for one in enumerate(reversed(young.tolist())) if one[1] in held]
    fronts = [one for one in ranks if ledger.birth[one[1]] in ledger.entered][:most]
    others = [one for one in ranks if ledger.birth[one[1]] not in ledger.entered]
    shown = sorted(fronts + thinned(others, max(0, most - len(fronts))))
    return AgesView.model_construct(
        size=len(young), inside=None if within is None else len(ranks),
        members=[
            AgePoint.model_construct(
                birth=ledger.birth[row], age=age, score=float(scores[row]),
                gain=None if better is None else float(scores[row]) - better,
                live_nodes=ledger.nodes[row], on_front=ledger.birth[row] in ledger.entered,
            )
            for age, row in shown
        ],
    )  # fmt: skip


def counts_since(ledger: Ledger, seq: int) -> dict[str, int]:
    """Outcomes after an event, by kind, and workers lost."""
    start = bisect_right(ledger.work.seq, seq)
    kinds = np.array(ledger.work.kind[start:])
    lost = [one for one, _ in ledger.lost]
    return {
        "evaluated": int((kinds == EVALUATED).sum()),
        "rejected": int((kinds == REJECTED).sum()),
        "failed": int((kinds == FAILED).sum()),
        "workers_lost": len(lost) - bisect_right(lost, seq),
    }


def _label(standing: Standing | None) -> str | None:
    return None if standing is None else baseline_label(standing.baseline)
