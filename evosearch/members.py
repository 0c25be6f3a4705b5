"""What a search's state counts and keeps of each candidate: plain data, changed by its events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from primitives.graph import Graph


@dataclass(slots=True)
class Member:
    """A candidate that is on its way or evaluated. ``scores``: anchor -> one score a seed."""

    birth: int
    graph: Graph
    origin: str
    operator: str
    parents: tuple[int, ...]
    audit: bool
    odds: float | None = None
    by_lot: bool = False
    evaluated: bool = False
    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    repeats: int = 0
    measured: int = 0

    def means(self) -> dict[str, float]:
        """Anchor -> mean score over the seeds so far."""
        return {anchor: float(np.mean(values)) for anchor, values in self.scores.items()}

    @property
    def label(self) -> str:
        """What its proposal is counted under: operators, or the origin where there are none."""
        return self.operator or self.origin

    @property
    def seeds(self) -> int:
        """Seeds that every anchor has."""
        return min((len(values) for values in self.scores.values()), default=0)


@dataclass(slots=True)
class Tally:
    """How often a check threw something out, and what the check cost in all."""

    count: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Yield:
    """What one operator (or combination of two, or ``random``) has contributed.

    ``new``: proposals with a function that no candidate had; of several only one is tried.
    """

    proposals: int = 0
    new: int = 0
    evaluated: int = 0


@dataclass(slots=True)
class Audit:
    """Counts for the signal check's false-rejection rate."""

    audited: int = 0
    wrongly_rejected: int = 0
    passed_quality: int = 0
