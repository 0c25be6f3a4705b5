"""A brush as ranges of quantities: which evaluated candidates are in all of them.

One definition for every chart and for the table: what a chart's axis shows of a candidate decides,
so no chart counts another number than its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from api.charts.ledger import Ledger
from api.charts.scatter import axis_of
from api.charts.standing import Standing, standing_of


class Range(NamedTuple):
    """Values of a quantity, both ends included; the quantity as a chart's axis is named."""

    name: str
    low: float
    high: float


def inside(
    ledger: Ledger, ranges: Sequence[Range], standing: Standing | None = None
) -> NDArray[np.bool_]:
    """For each evaluated candidate, in the ledger's order, whether it is in all ranges.

    Raises:
        ConfigError: there is no such quantity in this search.
    """
    kept = np.ones(len(ledger.members()), dtype=bool)
    standing = standing or (standing_of(ledger) if ranges else None)
    for one in ranges:
        values = axis_of(ledger, standing, one.name).values
        with np.errstate(over="ignore"):  # an end beyond the column's type is infinite
            kept &= (values >= one.low) & (values <= one.high)  # NaN is in no range
    return kept


def births_inside(ledger: Ledger, ranges: Sequence[Range]) -> list[int]:
    """Their births."""
    found: list[int] = ledger.column("birth")[ledger.members()[inside(ledger, ranges)]].tolist()
    return found
