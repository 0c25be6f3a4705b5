"""Who stands where against the baselines: gains of all candidates, and the verdict in a line.

Figures on ``select`` only; what was read on ``final`` comes from the report, under its own label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import Floats, Ledger
from api.charts.measure import meaning, told
from evosearch.gain import Baseline, Gain, Noise, better_baseline, gains, with_margin


@dataclass(frozen=True, slots=True)
class Standing:
    """The evaluated candidates against the better baseline. ``rows``: theirs in the ledger.

    Shapes: ``each`` and ``margin`` (n, k); ``mean``, ``overall``, ``seeds``, ``rows`` (n,).
    """

    baseline: Baseline
    noise: Noise | None
    rows: NDArray[np.int64]
    scores: Floats
    seeds: NDArray[np.int64]
    each: Floats
    margin: Floats
    mean: Floats
    overall: Floats

    def confirmed(self) -> NDArray[np.bool_]:
        """Whether each rests on more than the seed that chose it."""
        return self.seeds > 1

    def gain(self, place: int) -> Gain:
        """Mean gain of the candidate at that place."""
        return with_margin(self.mean[place], self.overall[place])

    def gain_on(self, place: int, anchor: int) -> Gain:
        """Its gain on one anchor."""
        return with_margin(self.each[place, anchor], self.margin[place, anchor])

    def place_of(self, row: int) -> int:
        """Where a row of the ledger stands here."""
        return int(np.searchsorted(self.rows, row))


def standing_of(ledger: Ledger) -> Standing | None:
    """All evaluated candidates against the better baseline; None before a baseline is trained."""
    baseline = better_baseline(ledger.samples, ledger.config.confirmation.rivals)
    if baseline is None:
        return None
    rows, noise = ledger.members(), ledger.samples.noise()
    scores, seeds = ledger.score_matrix()[rows], ledger.seed_counts()[rows]
    each, margin, mean, overall = gains(scores, seeds, baseline, noise)
    return Standing(baseline, noise, rows, scores, seeds, each, margin, mean, overall)


def baseline_label(baseline: Baseline) -> str:
    """The better baseline's name, or the names where anchors differ."""
    return "/".join(dict.fromkeys(title_of(name) for name in baseline.names))


def title_of(name: str) -> str:
    """A baseline as people write it: ``bn-relu`` is BN-ReLU."""
    return "-".join(_WORDS.get(word, word.upper()) for word in name.split("-"))


_WORDS = {"relu": "ReLU", "silu": "SiLU", "gelu": "GELU", "evonorm": "EvoNorm", "swish": "Swish"}


def step_times(ledger: Ledger) -> Floats:
    """Seconds of a training step relative to the first baseline, mean over all trainings.

    NaN where nothing was trained. The same as `db.step_time`, so that chart and table agree.
    Measured while searching, so on a shared machine they scatter.
    """
    sums = np.stack([np.array(one, dtype=float) for one in ledger.step_time], axis=1)
    counts = np.stack([np.array(one, dtype=float) for one in ledger.trainings], axis=1).sum(axis=1)
    first = next(iter(ledger.samples.step_times), "")
    base = baseline_step_times(ledger, first)
    if base is None:
        return np.full(len(sums), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counts > 0, (sums / base).sum(axis=1) / counts, np.nan))


def baseline_step_times(ledger: Ledger, name: str) -> Floats | None:
    """Seconds of a training step of a baseline by anchor; None before all are known."""
    found = ledger.samples.step_times.get(name)
    if found is None or not all(found):
        return None
    return np.array([np.mean(one) for one in found])


def verdict_line(
    standing: Standing | None, place: int | None, names: dict[str, Any]
) -> tuple[str, str]:
    """(outcome, text) for the leader at that place. ``names``: ``label``, ``goal``, ``ahead``."""
    if place is None or standing is None:
        if standing is None and names["evaluated"]:
            return "no_baseline", "candidates are evaluated, but no baseline is trained yet"
        return "nothing_yet", "no candidate is evaluated yet"
    gain, seeds = standing.gain(place), int(standing.seeds[place])
    sure = f"confirmed on select, {seeds} seeds" if seeds > 1 else "provisional, one seed"
    ahead, goal = names["ahead"], names["goal"]
    against = names["label"] + meaning(goal)
    more = f"; {ahead} provisional ahead" if ahead else ""
    if gain.value <= 0:
        return "behind", f"nothing beats {against}; nearest {told(gain, goal)}, {sure}{more}"
    text = f"leader {told(gain, goal)} over the better baseline ({against}), {sure}{more}"
    surely = seeds > 1 and gain.low is not None and gain.low > 0
    return ("ahead_surely" if surely else "ahead"), text
