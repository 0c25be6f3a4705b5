"""On PostgreSQL no controller waits for another one's transaction, nor for who sends commands.

In each test the second connection does its part in the moment before the first one commits. A
lock that it had to wait for would be refused by the server after a second, as a `StoreError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from db.sql_store import SqlStore
from evosearch.errors import LeaseHeld, LeaseLost
from evosearch.ports import Pause, Resume
from tests.support.events import CREATED, queued
from tests.support.postgres import Server

ID = "k3f9a1c2"
Pair = tuple[SqlStore, SqlStore]


@pytest.fixture
def pair(postgres: Server) -> Iterator[Pair]:
    """Two stores on one database, with connections of their own."""
    url = postgres.new_database() + "%20-clock_timeout%3D1000"
    one, two = SqlStore(url), SqlStore(url)
    one.create(ID, "", CREATED)
    yield one, two
    one.close()
    two.close()


def during(task: Callable[[], Any], store: SqlStore, meanwhile: Callable[[], Any]) -> Any:
    """What ``meanwhile`` returns; it runs while the store's transaction of the task is open."""
    found: list[Any] = []

    def halt(_connection: object) -> None:
        found.append(meanwhile())

    event.listen(store.engine, "commit", halt)
    task()
    event.remove(store.engine, "commit", halt)
    (only,) = found
    return only


def refusal(store: SqlStore) -> str:
    """The words in which the lease is refused."""
    with pytest.raises(LeaseHeld) as refused:
        store.acquire(ID, "you", 60)
    return str(refused.value)


def test_of_two_that_take_a_lease_the_second_is_refused_at_once(pair: Pair) -> None:
    one, two = pair
    leases = []
    said = during(lambda: leases.append(one.acquire(ID, "me", 60)), one, lambda: refusal(two))
    assert "got one that takes it this moment" in said
    assert one.append(leases[0], [queued(0)]) == 2
    assert "got me" in refusal(two)


def test_each_takes_its_own_search(pair: Pair) -> None:
    one, two = pair
    one.create("other", "", CREATED)
    theirs = during(lambda: one.acquire(ID, "me", 60), one, lambda: two.acquire("other", "you", 60))
    assert two.append(theirs, [queued(0)]) == 2


def test_a_late_writer_is_not_waited_for(pair: Pair) -> None:
    one, two = pair
    late = one.acquire(ID, "me", 0.0)
    said = during(lambda: one.append(late, [queued(0)]), one, lambda: refusal(two))
    assert "got me" in said
    two.acquire(ID, "you", 60)
    with pytest.raises(LeaseLost):
        one.append(late, [queued(1)])
    assert one.search(ID).last_seq == 2


def test_commands_come_while_outcomes_are_written(pair: Pair) -> None:
    one, two = pair
    lease = one.acquire(ID, "me", 60)

    def meanwhile() -> tuple[int, list[int]]:
        return two.send(ID, Pause()), [waiting.id for waiting in two.commands(lease)]

    sent, seen = during(lambda: one.append(lease, [queued(0)]), one, meanwhile)
    assert seen == [sent]
    two.append(lease, [], [sent])
    assert one.commands(lease) == []


def test_outcomes_are_written_and_a_lease_taken_while_a_command_is_sent(pair: Pair) -> None:
    one, two = pair
    lease = two.acquire(ID, "me", 60)
    last = during(lambda: one.send(ID, Pause()), one, lambda: two.append(lease, [queued(0)]))
    assert last == 2
    taken = during(lambda: one.send(ID, Resume()), one, lambda: two.acquire(ID, "me", 60))
    assert taken.epoch == lease.epoch + 1
    assert [waiting.command for waiting in two.commands(taken)] == [Pause(), Resume()]
