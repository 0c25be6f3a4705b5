"""Ranges of quantities in a query: what was brushed on a chart, for charts, table and downloads."""

from __future__ import annotations

import math
import re
from typing import Annotated

from fastapi import Depends, Query

from api.charts.inside import Range, births_inside
from api.problems import Refused
from api.service import Service
from evosearch.ports import SearchInfo

MOST = 8
_WORD = "[A-Za-z0-9_-]{1,40}"
NAME = (
    "(?:gain|step_time|live_nodes|memory|mean_score|age|"
    rf"(?:score|gain)\.{_WORD}(?:#{_WORD})?)"
)
"""A quantity of the charts; ``score.ANCHOR#NAME`` is a further objective of an anchor."""
_NUMBER = r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?"
PATTERN = rf"^({NAME}):({_NUMBER})\.\.({_NUMBER})$"
Quantity = Annotated[str, Query(pattern=rf"^{NAME}$")]


def ranges(
    range: Annotated[
        list[Annotated[str, Query(pattern=PATTERN)]] | None,
        Query(
            max_length=MOST,
            description="NAME:LOW..HIGH of a quantity of the charts, such as gain:0..0.02;"
            " evaluated candidates in all of them",
        ),
    ] = None,
) -> tuple[Range, ...]:
    """The ranges that the query asks for."""
    found = []
    for text in range or ():
        match = re.match(PATTERN, text)
        assert match is not None  # FastAPI has matched it
        low, high = float(match[2]), float(match[3])
        if not (math.isfinite(low) and math.isfinite(high)):
            raise Refused(422, "a range's ends are finite numbers")
        found.append(Range(match[1], low, high))
    return tuple(found)


Ranges = Annotated[tuple[Range, ...], Depends(ranges)]


def births_of(service: Service, info: SearchInfo, wanted: tuple[Range, ...]) -> list[int] | None:
    """Births in the ranges; None where there are none to be in."""
    if not wanted:
        return None
    with service.ledgers.of(info) as ledger:
        return births_inside(ledger, wanted)
