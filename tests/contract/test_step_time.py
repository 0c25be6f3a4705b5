"""Step times beside a baseline, as filter, order and figure."""

from __future__ import annotations

import pytest

from db.candidate_pages import CandidatePages, Wanted
from db.sql_store import SqlStore
from db.step_time import step_time_of
from evosearch.errors import ConfigError
from evosearch.events import EvaluationRecorded, Event
from evosearch.records import Evaluation, Purpose, Subject
from evosearch.where import parse_where
from tests.support.events import ANCHORS, CREATED, evaluated, job_queued, queued, standing

ID = "k3f9a1c2"
STEPS = 100


def trained(subject: Subject, job: str, purpose: Purpose, seconds: dict[str, float]) -> list[Event]:
    """A training on each of these anchors, of so many seconds."""
    return [
        EvaluationRecorded(
            job_id=job, purpose=purpose, subject=subject,
            evaluation=Evaluation(
                anchor=anchor, seed=1, learning_rate=0.2, split="select", score=0.5,
                steps=STEPS, seconds=taken,
            ),
        )
        for anchor, taken in seconds.items()
    ]  # fmt: skip


def candidate(birth: int, *factors: float) -> list[Event]:
    """A candidate whose steps take so many times the baseline's, by anchor."""
    seconds = {a: f * t for a, f, t in zip(ANCHORS, factors, BASELINE.values(), strict=True)}
    return [
        queued(birth), *trained(Subject(birth=birth), f"c{birth}", "search", seconds),
        evaluated(birth, standing([0.5, 0.5, 0.5])),
    ]  # fmt: skip


BASELINE = dict(zip(ANCHORS, (1.0, 20.0, 3.0), strict=True))


@pytest.fixture
def pages(sql_store: SqlStore) -> CandidatePages:
    sql_store.create(ID, "a title", CREATED)
    lease = sql_store.acquire(ID, "me", 60)
    slow = {anchor: 10 * taken for anchor, taken in BASELINE.items()}
    other = Subject(baseline="evonorm-s0")
    for batch in (
        candidate(3, 1.5, 1.5, 1.5), candidate(4, 0.5, 1.0, 3.0), candidate(8, 1.0, 1.0, 1.0),
        [job_queued("b", None, "baseline"),
         *trained(Subject(baseline="bn-relu"), "b", "baseline", BASELINE)],
        [job_queued("b2", None, "baseline").model_copy(update={"subject": other}),
         *trained(other, "b2", "baseline", slow)], [queued(9)],
    ):  # fmt: skip
        sql_store.append(lease, batch)
    return CandidatePages(sql_store)


def births(pages: CandidatePages, **wanted: object) -> list[int]:
    rows, _ = pages.page(ID, Wanted(**wanted), 50)  # type: ignore[arg-type]
    return [row["birth"] for row in rows]


def test_a_filter_on_step_time(pages: CandidatePages, sql_store: SqlStore) -> None:
    engine = sql_store.engine
    assert step_time_of(engine, ID, 3) == pytest.approx(1.5)
    assert step_time_of(engine, ID, 4) == pytest.approx(1.5)
    assert step_time_of(engine, ID, 8) == pytest.approx(1.0)
    assert step_time_of(engine, ID, 9) is None
    assert births(pages, where=parse_where("step_time <= 1.3")) == [8]
    assert births(pages, where=parse_where("step_time > 1.3 and live_nodes >= 0")) == [4, 3]
    assert births(pages, where=parse_where("not step_time <= 1.3")) == [9, 4, 3]


def test_an_order_by_step_time_pages_over_ties(pages: CandidatePages) -> None:
    found, cursor = [], None
    while True:
        rows, cursor = pages.page(ID, Wanted(sort="step_time", descending=False), 1, cursor)
        found += [row["birth"] for row in rows]
        if cursor is None:
            break
    assert found[0] == 8
    assert sorted(found[1:]) == [3, 4]


def test_without_a_baseline_nothing_has_a_step_time(sql_store: SqlStore) -> None:
    sql_store.create(ID, "a title", CREATED)
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(lease, candidate(3, 1.5, 1.5, 1.5))
    pages = CandidatePages(sql_store)
    assert births(pages, where=parse_where("step_time > 0")) == []
    assert births(pages, sort="step_time") == []
    with pytest.raises(ConfigError, match="unknown order"):
        births(pages, sort="steps")
