"""What the page of measurements says of a quickstart of an hour."""

from __future__ import annotations

import json
from typing import Any

import pytest

from docs.make_measured import PARTS, RESULTS


@pytest.fixture
def hour() -> dict[str, Any]:
    """A result of the quickstart with the p-values that one of an hour has, and a second seed
    whose search found nobody."""
    found: dict[str, Any] = json.loads((RESULTS / "quickstart.json").read_text())
    found["runs"][0]["anchors"][0] |= {
        "leader": 0.832, "bn-relu": 0.805, "bn-silu": 0.801,
        "difference": {"value": 0.027, "low": 0.018, "high": 0.037},
    }  # fmt: skip
    run = found["runs"][0] | {"p_of_anchors": [0.00004, 0.02, 0.07], "p_of_mean": 0.0001}
    nobody = run | {"seed": 1, "anchors": None, "verdict": "no candidate was evaluated"}
    return found | {"runs": [run, nobody]}


def told(hour: dict[str, Any]) -> list[str]:
    part = PARTS["quickstart_hour"]
    return list(part.says(part.command, hour))


def test_anchors_count_as_won_by_their_corrected_p_alone(hour: dict[str, Any]) -> None:
    text = " ".join(told(hour))
    assert "beats the better rival on **2 of 3** anchors" in text
    hour["runs"][0]["anchors"][1]["difference"]["value"] = -0.03  # surely below
    assert "beats the better rival on **1 of 3** anchors" in " ".join(told(hour))


def test_a_row_for_each_anchor_and_one_for_the_mean(hour: dict[str, Any]) -> None:
    rows = [line for line in told(hour) if line.startswith("|")]
    assert len(rows) == 2 + 3 + 1
    assert len({row.count("|") for row in rows}) == 1
    first = "| resnet | 0.832 | 0.805 | 0.801 | +0.027 [+0.018, +0.037] | < 0.0001 |"
    assert rows[2] == first
    assert rows[-1].endswith("| 0.0001 |")
    assert "Seed 1: no candidate was evaluated." in told(hour)
