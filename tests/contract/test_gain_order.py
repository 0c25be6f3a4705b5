"""The gain over the better baseline as order, filter and figure: the same as the charts say."""

from __future__ import annotations

import pytest

from api.charts.ledgers import Ledgers
from api.charts.standing import standing_of
from db.candidate_pages import CandidatePages, Wanted
from db.queries_log import LogQueries
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.where import parse_where
from tests.support.standings import Story

ID = "k3f9a1c2"


@pytest.fixture
def story(sql_store: SqlStore) -> Story:
    """A leader with fresh seeds that stand lower than the one that chose it."""
    story = Story(sql_store, ID)
    story.baselines()
    story.many(12)
    parent = story.candidate([0.62, 0.60, 0.53])
    leader = story.candidate([0.70, 0.64, 0.60], (parent,))
    story.candidate([0.66, 0.68, 0.58], (leader,))
    story.others(3)
    story.confirm(leader, [[0.62, 0.63, 0.61], [0.60, 0.59, 0.58], [0.55, 0.56, 0.54]])
    story.flush()
    return story


def by_charts(store: SqlStore) -> dict[int, tuple[float, float | None]]:
    """Birth -> gain and its lower bound, as the ledger has them."""
    with Ledgers(LogQueries(store)).of(store.search(ID)) as ledger:
        standing = standing_of(ledger)
        assert standing is not None
        found = [standing.gain(place) for place in range(len(standing.rows))]
        births = [ledger.birth[int(row)] for row in standing.rows]
    return {b: (one.value, one.low) for b, one in zip(births, found, strict=True)}


def listed(pages: CandidatePages, limit: int = 50, **wanted: object) -> list[dict[str, object]]:
    """All rows, page by page."""
    found, cursor = [], None
    while True:
        rows, cursor = pages.page(ID, Wanted(**wanted), limit, cursor)  # type: ignore[arg-type]
        found += rows
        if cursor is None:
            return found


@pytest.mark.parametrize(("sort", "place"), [("gain", 0), ("gain_low", 1)])
def test_the_order_is_that_of_the_charts(
    story: Story, sql_store: SqlStore, sort: str, place: int
) -> None:
    truth = by_charts(sql_store)
    rows = listed(CandidatePages(sql_store), limit=4, sort=sort)
    assert {row["birth"] for row in rows} == set(truth)
    for row in rows:
        gain = row["gain"]
        assert isinstance(gain, dict)
        value, low = truth[row["birth"]]  # type: ignore[index]
        assert (gain["value"], gain["low"]) == pytest.approx((value, low))
    mine = [truth[row["birth"]][place] for row in rows]  # type: ignore[index]
    assert mine == sorted(mine, reverse=True)  # type: ignore[type-var]


def test_fresh_seeds_stand_alone_and_move_a_candidate(story: Story, sql_store: SqlStore) -> None:
    leader = next(iter(story.truth.confirmed))
    rows = listed(CandidatePages(sql_store), sort="mean_score")
    assert rows[0]["birth"] == leader  # by the seed that chose it
    first = listed(CandidatePages(sql_store), sort="gain")[0]
    assert first["birth"] == leader + 1
    seeds = {row["birth"]: row["gain_seeds"] for row in rows}
    assert (seeds[leader], seeds[leader + 1]) == (3, 1)


def test_a_search_under_a_deleted_ones_id_has_figures_of_its_own(
    story: Story, sql_store: SqlStore
) -> None:
    pages, ledgers = CandidatePages(sql_store), Ledgers(LogQueries(sql_store))

    def figures() -> tuple[list[object], list[float]]:
        with ledgers.of(sql_store.search(ID)) as ledger:
            scores = [float(one) for one in ledger.scores[0] if one == one]
        return [row["gain"] for row in listed(pages, sort="birth")], scores

    before = figures()
    assert before == figures()
    ServiceWrites(sql_store).delete(ID)
    other = Story(sql_store, ID)
    other.many(6)  # without a baseline
    other.flush()
    gains, scores = figures()
    assert gains == [None] * 6
    assert scores == [one[0] for one in other.truth.scores.values()]
    while other.truth.last <= story.truth.last:  # as many events: their number tells nothing
        other.many(1)
    other.baselines()
    other.flush()
    gains, scores = figures()
    assert None not in gains
    assert scores == [one[0] for one in other.truth.scores.values()]


def test_a_filter_by_gain(story: Story, sql_store: SqlStore) -> None:
    truth = by_charts(sql_store)
    pages = CandidatePages(sql_store)
    for where, wanted in (
        ("gain > 0", {b for b, (value, _) in truth.items() if value > 0}),
        (
            "gain_low > -0.05",
            {b for b, (_, low) in truth.items() if low is not None and low > -0.05},
        ),
    ):
        found = {row["birth"] for row in listed(pages, where=parse_where(where))}
        assert found == wanted
        assert found


def test_trainings_that_come_later_count(story: Story, sql_store: SqlStore) -> None:
    pages = CandidatePages(sql_store)
    before = listed(pages, sort="gain_low")[0]["gain"]
    newest = story.birth - 4  # the third of the good ones
    story.confirm(newest, [[0.80, 0.81, 0.82]] * 3)
    story.flush()
    first = listed(pages, sort="gain_low")[0]
    assert first["birth"] == newest
    assert first["gain"] != before
    assert first["gain"]["value"] == pytest.approx(by_charts(sql_store)[newest][0])  # type: ignore[index]


def test_before_a_baseline_the_mean_score_orders(sql_store: SqlStore) -> None:
    story = Story(sql_store, ID)
    story.many(5)
    story.flush()
    rows = listed(CandidatePages(sql_store), sort="gain_low")
    scores = [row["mean_score"] for row in rows]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert all(row["gain"] is None for row in rows)
    assert listed(CandidatePages(sql_store), where=parse_where("gain > -100")) == []
