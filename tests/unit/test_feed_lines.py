"""Events as the lines that the feed sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.feed import as_data
from db.queries_rest import LogRow
from evosearch.events import CandidateQueued, Skipped, dump_event
from tests.support.events import graph, queued

MANY = {
    "examples": ((1, "constant", graph(1)),),
    "runners_up": ((graph(2), (3,)),),
    "counts": {"constant": 1},
}


def line(event: CandidateQueued) -> dict[str, Any]:
    row = LogRow("search01", 7, "2026-01-01T00:00:00+00:00", event.kind, dump_event(event))
    told: dict[str, Any] = json.loads(as_data(row))
    assert (told["search"], told["seq"], told["kind"]) == ("search01", 7, event.kind)
    return told["event"]


@pytest.mark.parametrize("names", [("examples",), ("runners_up",), ("examples", "runners_up"), ()])
def test_graphs_that_were_not_queued_are_not_sent(names: tuple[str, ...]) -> None:
    skipped = Skipped.model_validate({name: MANY[name] for name in (*names, "counts")})
    event = queued(9, skipped=skipped)
    told = line(event)
    assert told["skipped"]["counts"] == {"constant": 1}
    assert not told["skipped"].get("examples")
    assert not told["skipped"].get("runners_up")
    assert told["graph"] == json.loads(dump_event(event))["graph"]
