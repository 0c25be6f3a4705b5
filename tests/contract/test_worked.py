"""The hours that a search was worked on: the same by the database and by the charts' ledger."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import bindparam, select, update

from api.charts.ledgers import Ledgers
from api.charts.pace import pace
from db.queries_log import LogQueries
from db.schema import evaluations, events
from db.sql_store import SqlStore
from db.worked import worked_seconds
from evosearch.events import EvaluationRecorded, Event, StatusChanged
from tests.support.events import CREATED, RandomSearch

ID = "k3f9a1c2"
AFTER = (0.0, 0.5, 8.0, 25.0, 70.0, 900.0, 4000.0)


def taken(event: Event, seconds: float) -> Event:
    """A training that took so long; other events as they are."""
    if not isinstance(event, EvaluationRecorded):
        return event
    done = event.evaluation.model_copy(update={"seconds": seconds})
    return event.model_copy(update={"evaluation": done})


@pytest.mark.parametrize("longest", [2.0, 40.0, 3000.0])
def test_the_ledger_counts_the_hours_that_end_a_search(sql_store: SqlStore, longest: float) -> None:
    """Some trainings are shorter than the pieces of work that they are of."""
    rng = random.Random(longest)
    sql_store.create(ID, "a title", CREATED)
    lease = sql_store.acquire(ID, "me", 60)
    for number, batch in enumerate(itertools.islice(RandomSearch(4).batches(), 80)):
        sql_store.append(lease, [taken(one, rng.uniform(0.0, longest)) for one in batch])
        if number % 20 == 19:
            for status in ("paused", "running"):
                sql_store.append(lease, [StatusChanged(status=status)])
    last, at = sql_store.search(ID).last_seq, datetime(2026, 1, 1, tzinfo=UTC)
    rows = []
    for seq in range(1, last + 1):
        rows.append({"number": seq, "moment": at})
        at += timedelta(seconds=rng.choice(AFTER))
    change = update(events).where(events.c.seq == bindparam("number"))
    with sql_store.engine.begin() as connection:
        connection.execute(change.values(at=bindparam("moment")), rows)
        trained = connection.scalars(select(evaluations.c.seconds)).all()
    assert max(trained) > 0.9 * longest
    with Ledgers(LogQueries(sql_store)).of(sql_store.search(ID)) as ledger:
        rate, hours = pace(ledger)
    assert rate is not None
    assert 3600 * hours == pytest.approx(worked_seconds(sql_store, ID), rel=1e-4)
