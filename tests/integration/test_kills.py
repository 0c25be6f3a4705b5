"""kill -9 of a controller at any moment and at every part of a commit: nothing is lost or doubled.

A small sample; `tests.benchmarks.study_kills` kills hundreds of times.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.support.kills import Case, Rounds, assert_once
from tests.support.postgres import Server, postgres

__all__ = ["postgres"]


@pytest.fixture(params=["sqlite", "postgresql"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """A search with simulated workers in either database."""
    if request.param == "sqlite":
        numbers = itertools.count()
        return Case("simulated", lambda: f"{tmp_path}/{next(numbers)}.db", tmp_path, 2)
    server: Server = request.getfixturevalue("postgres")
    return Case("simulated", server.new_database, tmp_path, 2)


def test_killed_at_moments_and_at_commits_every_result_is_kept_once(case: Case) -> None:
    rounds = Rounds(case)
    rounds.at_moments([0.3, 0.7])
    rounds.at_every_commit(limit=9)
    assert rounds.kills >= 9
    places = {hit.split(" ")[1] for hit in rounds.hits}
    assert {"middle", "before", "after"} <= places


def test_with_the_inline_pool_a_killed_search_ends_with_the_same_log(case: Case) -> None:
    inline = Case("inline", case.new_url, case.folder, 1, ("confirmation.enabled=false",))
    rounds = Rounds(inline)
    rounds.at_every_commit(limit=4)
    assert rounds.kills == 4


@pytest.mark.soak  # `test_serve_kills` kills a controller of Ray workers each time
def test_with_ray_every_result_is_kept_once(tmp_path: Path) -> None:
    numbers, short = itertools.count(), ("confirmation.enabled=false",)
    rounds = Rounds(Case("ray", lambda: f"{tmp_path}/{next(numbers)}.db", tmp_path, 2, short))
    rounds.at_moments([0.6])
    assert rounds.kills == 1


def test_what_was_lost_or_trained_twice_would_be_seen() -> None:
    assert_once([(1, {"a"}), (2, {"a", "b"})], {"a", "b"}, ["a", "b"])
    assert_once([(1, set()), (2, {"a"})], {"a"}, ["a", "a"])
    with pytest.raises(AssertionError, match="trained again"):
        assert_once([(1, {"a"})], {"a", "b"}, ["a", "b", "a"])
    with pytest.raises(AssertionError, match="lost"):
        assert_once([(1, {"a"})], {"b"}, ["a", "b"])
    with pytest.raises(AssertionError, match="nobody"):
        assert_once([], {"a"}, [])
