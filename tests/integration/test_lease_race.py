"""Two controllers fight for one search: one owner at a time, and nothing is written twice.

Seconds here; a minute on each database in `tests.benchmarks.study_race`.
"""

from __future__ import annotations

import os

import pytest

from tests.support.race import owner_changes, race

SECONDS = float(os.environ.get("EVOSEARCH_RACE_SECONDS", "4"))


def test_two_controllers_race_for_one_search(url: str) -> None:
    found = race(url, SECONDS)
    assert all(count > 2 for count in found["leases taken"].values()), found
    assert found["late writers refused"] > 0, found
    assert found["changes of the owner that wrote"] > 0, found


def test_two_owners_at_a_time_would_be_seen() -> None:
    assert owner_changes({"one": [[1, 2, 4], [3, 6, 6]], "two": [[2, 5, 5]]}, 6) == 2
    for written, last, why in (
        ({"one": [[1, 2, 4]], "two": [[2, 4, 5]]}, 5, "nobody or twice"),
        ({"one": [[1, 2, 4]], "two": [[2, 6, 6]]}, 6, "nobody or twice"),
        ({"one": [[2, 2, 4]], "two": [[1, 5, 5]]}, 5, "after the next one"),
        ({"one": [[1, 2, 4]], "two": [[1, 5, 5]]}, 5, "two owners"),
        ({"one": [[1, 2, 4]], "two": []}, 5, "nobody wrote"),
    ):
        with pytest.raises(AssertionError, match=why):
            owner_changes(written, last)
