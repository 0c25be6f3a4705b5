"""Read models show what the events said."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from db.candidate_pages import CandidatePages, Wanted
from db.check import check
from db.engine import begin
from db.queries import Queries
from db.queries_rest import RestQueries
from db.schema import jobs, skip_examples, traces
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.errors import ConfigError
from evosearch.events import (
    EnqueuedRefused,
    EvaluationRecorded,
    Event,
    JobLost,
    PhaseEntered,
    Reported,
    Skipped,
)
from evosearch.records import Evaluation, Failure, Rejection, Subject
from evosearch.where import parse_where
from primitives.graph import Graph
from tests.support.events import (
    ANCHORS,
    CREATED,
    RandomSearch,
    checks,
    duplicate,
    evaluated,
    evaluation,
    failed,
    graph,
    job_finished,
    job_queued,
    queued,
    rejected,
    standing,
)

ID = "k3f9a1c2"


def record(store: SqlStore, *batches: list[Event], name: str = ID) -> Queries:
    """A new search with these batches of events."""
    store.create(name, "a title", CREATED)
    lease = store.acquire(name, "me", 60)
    for batch in batches:
        store.append(lease, batch)
    return Queries(store)


def listed(store: SqlStore, limit: int = 50, **wanted: object) -> list[dict[str, Any]]:
    """All rows of the search's candidates, page by page."""
    return [*CandidatePages(store).stream(ID, Wanted(**wanted), limit)]  # type: ignore[arg-type]


def outcome(birth: int, score: float, **place: object) -> list[Event]:
    """A candidate from queue to population."""
    scores = [score, score, score]
    return [queued(birth), evaluated(birth, standing(scores, **place))]  # type: ignore[arg-type]


def test_a_candidate_shows_all_of_it(sql_store: SqlStore) -> None:
    skipped = Skipped(repeats={3: 2})
    queries = record(
        sql_store,
        outcome(3, 0.5, front_in=(3,)),
        [queued(9, (3,), skipped=skipped, note="mine", audit=True)],
        [evaluation(9, anchor, 0.6, curve=((1, 2.0),)) for anchor in ANCHORS],
        [evaluated(9, standing([0.6, 0.7, 0.8], (9,), (3,), 0.2))],
        [queued(11, (3, 9), skipped=skipped)],
    )
    detail = queries.candidate(ID, 9)
    one = detail.candidate
    assert (one.birth, one.state, one.origin, one.graph) == (9, "evaluated", "mutation", graph(9))
    assert one.scores == dict(zip(ANCHORS, (0.6, 0.7, 0.8), strict=True))
    assert one.mean_score == pytest.approx(0.7)
    assert (one.on_front, one.note, one.audit, one.worker) == (True, "mine", True, "w1")
    assert one.finished_at is not None
    assert one.finished_at >= one.queued_at
    assert one.live_nodes == 7
    assert (detail.parents, detail.children) == ((3,), (11,))
    assert queries.candidate(ID, 11).parents == (3, 9)
    assert queries.candidate(ID, 3).repeats == 4
    assert [run.check_name for run in detail.checks] == [run.check for run in checks(9)]
    assert detail.checks[0].findings == {"loss": 11.3}
    assert [run.anchor for run in detail.evaluations] == list(ANCHORS)
    seq = detail.evaluations[0].seq
    assert RestQueries(sql_store).curves(ID, [seq, 1]) == {seq: [[1, 2.0]]}


def test_rejections_and_failures_say_why(sql_store: SqlStore) -> None:
    refusal = EnqueuedRefused(birth=8, graph=graph(8), rejection=Rejection(code="limits"))
    events: list[Event] = [
        queued(3), rejected(3), queued(4), failed(4), queued(5), failed(5, quarantined=True),
        duplicate(6, 5), refusal,
    ]  # fmt: skip
    queries = record(sql_store, events)
    rows = {row["birth"]: row for row in listed(sql_store)}
    assert (rows[3]["state"], rows[3]["rejection_code"]) == ("rejected", "signal.loss")
    assert (rows[4]["state"], rows[4]["failure_cause"]) == ("failed", "died")
    assert rows[5]["state"] == "quarantined"
    assert (rows[6]["state"], rows[6]["duplicate_of"]) == ("duplicate", 5)
    assert (rows[8]["state"], rows[8]["origin"]) == ("rejected", "enqueued")
    assert queries.candidate(ID, 3).checks[0].findings == {"loss": "Infinity"}
    assert queries.states(ID) == {"rejected": 2, "failed": 1, "quarantined": 1, "duplicate": 1}


@pytest.mark.parametrize("at_once", [False, True])
def test_a_candidate_is_seen_on_its_way(sql_store: SqlStore, at_once: bool) -> None:
    lost = JobLost(id="c3", failure=Failure(cause="died"), attempt=1)
    way: list[tuple[Event, str, int]] = [
        (queued(3), "queued", 1), (evaluation(3, "resnet", 0.5), "running", 1),
        (evaluation(3, "mobilenet", 0.5), "running", 1), (lost, "lost", 2),
        (evaluation(3, "efficientnet", 0.5), "running", 2),
        (evaluated(3, standing([0.5] * 3, (3,))), "evaluated", 2),
    ]  # fmt: skip
    queries = record(sql_store)
    lease = sql_store.acquire(ID, "me", 60)
    for number, (event, state, attempts) in enumerate(way, 1):
        if not at_once:
            sql_store.append(lease, [event])
        elif number == len(way):
            sql_store.append(lease, [one for one, _, _ in way])
        else:
            continue
        (row,) = listed(sql_store)
        assert (row["state"], row["attempts"]) == (state, attempts)
        assert queries.states(ID) == {state: 1}
        assert check(sql_store) == []


def test_a_candidate_that_is_lost_before_anything_was_trained(sql_store: SqlStore) -> None:
    lost = JobLost(id="c3", failure=Failure(cause="hung"), attempt=1)
    queries = record(sql_store, [queued(3), queued(4)], [lost])
    assert [row["birth"] for row in listed(sql_store, states=("lost",))] == [3]
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(lease, [failed(3, quarantined=True)])
    assert queries.states(ID) == {"queued": 1, "quarantined": 1}
    assert queries.candidate(ID, 3).candidate.attempts == 2
    assert check(sql_store) == []


def test_pages_by_birth_meet_every_candidate_once(sql_store: SqlStore) -> None:
    record(sql_store, [queued(birth) for birth in range(1, 24)], [rejected(4)])

    def births(limit: int = 50, **wanted: object) -> list[int]:
        return [row["birth"] for row in listed(sql_store, limit, **wanted)]

    assert births(5) == list(range(23, 0, -1))
    assert births(states=("rejected",)) == [4]
    assert births(3, states=("rejected", "queued")) == list(range(23, 0, -1))
    assert births(states=("rejected",), sort="mean_score") == []


def test_pages_by_score_meet_ties_once(sql_store: SqlStore) -> None:
    scores = {birth: (birth * 7 % 5) / 10 for birth in range(1, 24)}
    batch = [event for birth, score in scores.items() for event in outcome(birth, score)]
    record(sql_store, [*batch, queued(99)])
    assert [row["birth"] for row in listed(sql_store, 4, sort="mean_score")] == sorted(
        scores, key=lambda birth: (scores[birth], birth), reverse=True
    )


@pytest.mark.parametrize("cursor", ["x", "-1", "W10", "WyJiaXJ0aCIsIHRydWUsIDEsICJ4Il0", "9" * 30])
def test_a_made_up_cursor_is_refused(sql_store: SqlStore, cursor: str) -> None:
    record(sql_store)
    pages = CandidatePages(sql_store)
    with pytest.raises(ConfigError, match="cursor"):
        pages.page(ID, Wanted(), 50, cursor)
    with pytest.raises(ConfigError, match="order"):
        pages.page(ID, Wanted(sort="colour"), 50)


def test_what_was_trained_is_read_on_from_where_it_was_left(sql_store: SqlStore) -> None:
    asked = RestQueries(sql_store)
    assert asked.training_costs(ID) == []
    sql_store.create(ID, "a title", CREATED)
    lease, search = sql_store.acquire(ID, "me", 60), RandomSearch(4)
    told = []
    for number, batch in enumerate(itertools.islice(search.batches(), 60)):
        sql_store.append(lease, batch)
        if number % 10 == 0:
            told.append(asked.training_costs(ID))
            assert_like(told[-1], RestQueries(sql_store).training_costs(ID))
    assert len({sum(row["trainings"] for row in rows) for rows in told}) > 3
    assert_like(asked.training_costs(ID), asked.training_costs(ID))
    sql_store.release(lease)
    ServiceWrites(sql_store).delete(ID)
    assert asked.training_costs(ID) == []
    record(sql_store, [queued(1)], [evaluation(1, ANCHORS[0], 0.5)])  # another one of that name
    (row,) = asked.training_costs(ID)
    assert (row["purpose"], row["trainings"]) == ("search", 1)


def assert_like(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The same trainings and steps, and seconds but for the order of their sum."""
    assert [row | {"seconds": 0} for row in ours] == [row | {"seconds": 0} for row in theirs]
    assert [row["seconds"] for row in ours] == pytest.approx([row["seconds"] for row in theirs])


def test_the_funnel_counts_and_costs(sql_store: SqlStore) -> None:
    skipped = Skipped(counts={"constant": 4, "no_x": 60}, seconds={"constant": 0.5})
    queries = record(
        sql_store,
        [queued(3, skipped=skipped), queued(5, skipped=skipped)],
        [rejected(3), evaluated(5, standing([0.5] * 3))],
    )
    rows = {(row.stage, row.code): row for row in queries.funnel(ID)}
    assert rows["controller", "constant"].count == 8
    assert rows["controller", "constant"].seconds == pytest.approx(1.0)
    assert rows["controller", "no_x"].count == 120
    assert rows["worker", "signal.loss"].count == 1
    assert (rows["signal", ""].count, rows["signal", "signal.loss"].count) == (1, 1)
    assert (rows["quality", ""].steps, rows["quality", ""].seconds) == (40, pytest.approx(0.3))


def test_a_hundred_examples_are_kept_of_each_code(sql_store: SqlStore) -> None:
    many = tuple((birth, "constant", graph(birth)) for birth in range(1, 90))
    few = tuple((birth, "no_x", graph(birth)) for birth in range(1, 4))
    record(
        sql_store,
        [queued(100, skipped=Skipped(examples=many))],
        [queued(200, skipped=Skipped(examples=many + few))],
        [queued(300, skipped=Skipped(examples=many))],
    )
    wanted = select(skip_examples.c.code, skip_examples.c.graph).order_by(skip_examples.c.position)
    with begin(sql_store.engine) as connection:
        rows = connection.execute(wanted).all()
    kept = [Graph.from_json_text(row.graph) for row in rows if row.code == "constant"]
    assert len(kept) == 100
    assert kept[:89] == [graph(birth) for birth in range(1, 90)]
    assert len(rows) == 103


def test_the_population_ages(sql_store: SqlStore) -> None:
    scores = [0.9, 0.1, 0.2, 0.6]
    batch = [event for birth, one in enumerate(scores, 1) for event in outcome(birth, one)]
    queries = record(sql_store, batch)
    whole, young = queries.population(ID, 100), queries.population(ID, 3)
    assert (whole.size, whole.lowest, whole.highest) == (4, pytest.approx(0.1), pytest.approx(0.9))
    assert (young.size, young.mean) == (3, pytest.approx(0.3))
    assert queries.population("nothing", 3).mean is None


def test_baselines_are_listed_and_their_jobs_cost_time(sql_store: SqlStore) -> None:
    correct = EvaluationRecorded(
        job_id="b", purpose="baseline", subject=Subject(baseline="bn-relu"),
        evaluation=Evaluation(
            anchor="resnet", seed=1, learning_rate=0.1, split="final", score=0.75, steps=9,
            seconds=1.0, correct="0414",
        ),
    )  # fmt: skip
    queries = record(sql_store, [job_queued("b", None, "baseline")], [correct])
    (row,) = queries.baselines(ID)
    assert (row.baseline, row.birth, row.score, row.split) == ("bn-relu", None, 0.75, "final")
    spent = RestQueries(sql_store).worker_seconds
    assert spent(ID) == 0.0
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(lease, [job_finished("b", None, "baseline")])
    assert spent(ID) > 0.0
    with begin(sql_store.engine) as connection:
        assert connection.execute(select(traces.c.correct)).scalars().all() == ["0414"]
        assert connection.execute(select(jobs.c.state)).scalars().all() == ["finished"]


def test_events_are_read_from_both_ends(sql_store: SqlStore) -> None:
    queries = record(sql_store, [PhaseEntered(phase="confirm"), Reported(report={"leader": 3})])
    assert [row.kind for row in queries.events(ID, limit=2)] == ["created", "phase_entered"]
    newest = queries.events(ID, limit=2, newest=True)
    assert [row.seq for row in newest] == [2, 3]
    assert queries.events(ID, after=3) == []
    report = queries.last_event(ID, "reported")
    assert report is not None
    assert report.payload["report"] == {"leader": 3}
    assert queries.last_event(ID, "status_changed") is None


def test_a_random_search_reads_as_it_was_written(sql_store: SqlStore) -> None:
    search = RandomSearch(5)
    batches = list(itertools.islice(search.batches(), 250))
    queries = record(sql_store, *batches)
    front = queries.front(ID)
    assert {row.birth for row in front} == search.front
    assert [row.mean_score for row in front] == sorted(
        (sum(search.scores[birth]) / 3 for birth in search.front), reverse=True
    )
    for row in listed(sql_store, states=("evaluated",)):
        assert row["scores"] == dict(zip(ANCHORS, search.scores[row["birth"]], strict=True))
    (info,) = queries.searches()
    kinds = Counter(event.kind for batch in batches for event in batch)
    assert sum(info.states.values()) == kinds["candidate_queued"] + kinds["candidate_duplicate"]
    assert info.states["evaluated"] == info.evaluated == len(search.scores)
    assert info.budget == 100
    log = [json.dumps(row.payload) for row in queries.events(ID, limit=10_000)]
    assert len(log) == info.last_seq


@pytest.mark.parametrize("sort", ["finished_at", "birth", "gain_low"])
def test_what_was_evaluated_after_an_event_is_found(sql_store: SqlStore, sort: str) -> None:
    """Whatever the order; in that of the outcomes a page ends at the bound."""
    ended = [event for birth in (5, 3, 4, 1, 2) for event in outcome(birth, birth / 10)]
    record(sql_store, [*ended, queued(9), rejected(9)])  # the first event is the search's own
    pages = CandidatePages(sql_store)

    def found(where: str) -> list[int]:
        rows, following = pages.page(ID, Wanted(where=parse_where(where), sort=sort), 50)
        assert following is None
        return [row["birth"] for row in rows]

    assert sorted(found("outcome > 5")) == [1, 2, 4]
    assert sorted(found("outcome >= 5 and outcome < 9.5")) == [1, 3, 4]
    assert found("outcome > 11") == []
    assert sorted(found("not outcome > 5")) == ([3, 5] if sort != "birth" else [3, 5, 9])
    assert sorted(found("outcome > 5 and birth in (4, 5)")) == [4]
    rows, following = pages.page(
        ID, Wanted(where=parse_where("outcome > 5"), sort="finished_at", states=("evaluated",)), 3
    )
    assert [row["birth"] for row in rows] == [2, 1, 4]
    assert following is None
