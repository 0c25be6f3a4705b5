"""What the controller costs on a simulated clock, by what was measured of its parts.

Proposals are charged what ``results/propose.json`` has for random graphs and for mutations, all
checks in the controller but one included; the comparison with what was tried, the surrogate and
the odds what ``results/controller.json`` has. Where candidates are chosen by odds, each function
that is looked at is charged what a whole hunt costs by the function, all comparisons and the
proposals on the way included. The real clock is not read here, so that a search repeats.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evosearch.odds import KEPT as KEPT_TRIALS
from evosearch.odds import fitted_to
from evosearch.propose import BRED
from evosearch.refits import fitted_at
from evosearch.state import State
from evosearch.surrogate import KEPT
from tests.benchmarks.record import RESULTS


class Costs(NamedTuple):
    """Seconds of one core.

    ``random``, ``child``: of a proposal. ``compared``: of a new function against what was tried.
    ``promise``: of what the surrogate says of a candidate. ``fits``: lessons -> of fitting to them.
    ``looked``: of a function that is looked at, with all that comes to it. ``odds_fits``: trials ->
    of fitting to them. ``experience``: of fitting the forest that a search begins with.
    """

    random: float
    child: float
    compared: float
    promise: float
    fits: dict[int, float]
    looked: float
    odds_fits: dict[int, float]
    experience: float


def measured_costs(folder: Path = RESULTS) -> Costs:
    """What the benchmarks of proposals and of the controller have found, medians over runs."""
    rates = json.loads((folder / "propose.json").read_text())["proposals_per_second"]
    others = json.loads((folder / "controller.json").read_text())["seconds"]
    random, child = (1.0 / statistics.median(rates[name]) for name in ("random", "mutation"))
    compared, promise, looked, experience = (
        statistics.median(others[name]) for name in ("compared", "promise", "looked", "experience")
    )
    fits, odds_fits = (
        {int(count): statistics.median(some) for count, some in others[name].items()}
        for name in ("fits", "odds_fits")
    )
    return Costs(random, child, compared, promise, fits, looked, odds_fits, experience)


class ControllerClock:
    """Adds up what the controller of one search has cost so far."""

    def __init__(self, costs: Costs) -> None:
        self._costs, self._fits = costs, 0.0
        self._fitted: dict[str, int] = {}

    def seconds(self, state: State) -> float:
        """Of one core, until now; only grows if it is asked of one search in its order."""
        costs, evolution = self._costs, state.config.evolution
        proposals = sum(one.proposals for one in state.operators.values())
        at_random = state.operators["random"].proposals if "random" in state.operators else 0
        bred = state.operators[BRED].proposals if BRED in state.operators else 0
        total = at_random * costs.random + (proposals - at_random - bred) * costs.child
        queued = sum(one.queued for one in state.operators.values())
        if evolution.choose_of > 1:
            total += (queued + _stopped(state, "passed_over")) * costs.looked
        elif evolution.same_start and evolution.alike < 1.0:
            total += (queued + _stopped(state, "crowded")) * costs.compared
        if state.config.surrogate.enabled:
            last = fitted_at(state.taught, state.config.surrogate.after)
            self._fit("surrogate", last, KEPT, costs.fits)
            total += state.waits * costs.promise
        if evolution.choose_of > 1:
            self._fit("odds", fitted_to(state) or None, KEPT_TRIALS, costs.odds_fits)
            total += costs.experience if evolution.experience and queued else 0.0
        return total + self._fits

    def _fit(self, name: str, last: int | None, most: int, seconds: dict[int, float]) -> None:
        """Charge the forest in use, if it is another one than before."""
        if last is not None and last != self._fitted.get(name):
            self._fitted[name] = last
            known = sorted(seconds)
            self._fits += float(np.interp(min(last, most), known, [seconds[n] for n in known]))


def _stopped(state: State, code: str) -> int:
    """Proposals that ended with the code."""
    return state.funnel[code].count if code in state.funnel else 0
