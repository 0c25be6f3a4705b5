"""The contract of `Store`, run on every implementation."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from evosearch.config import Plugin
from evosearch.errors import LeaseHeld, LeaseLost, NotFound, StateConflict, StoreError
from evosearch.events import (
    BudgetChanged,
    CodeChanged,
    EnqueuedRefused,
    Event,
    JobLost,
    PhaseEntered,
    Reported,
    Skipped,
    StatusChanged,
    dump_event,
)
from evosearch.ports import Enqueue, Lease, Pause, Snapshot, Stop, Store
from evosearch.records import Failure, Rejection
from tests.support.events import (
    ANCHORS,
    CONFIG,
    CREATED,
    RandomSearch,
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
    waits,
)


def begin(store: Store, search_id: str = "k3f9a1c2") -> Lease:
    """A new search and the lease on it."""
    store.create(search_id, "a title", CREATED)
    return store.acquire(search_id, "me", 60)


def measured(birth: int, score: float = 0.5, **place: object) -> list[Event]:
    """All events of a candidate that is evaluated."""
    place.setdefault("front_in", (birth,))
    runs = [evaluation(birth, anchor, score) for anchor in ANCHORS]
    return [queued(birth), *runs, evaluated(birth, standing([score] * 3, **place))]  # type: ignore[arg-type]


class TestSearches:
    def test_a_new_search_is_running_and_has_one_event(self, store: Store) -> None:
        before = datetime.now(UTC)
        info = store.create("k3f9a1c2", "a title", CREATED)
        assert (info.id, info.title, info.status, info.config) == (
            "k3f9a1c2", "a title", "running", CONFIG,
        )  # fmt: skip
        assert (info.last_seq, info.evaluated, info.hypervolume) == (1, 0, 0.0)
        assert before <= info.created_at == info.updated_at <= datetime.now(UTC)
        assert store.search("k3f9a1c2") == info
        (first,) = store.events("k3f9a1c2")
        assert (first.seq, first.event, first.at) == (1, CREATED, info.created_at)
        assert first.at.utcoffset() is not None

    def test_an_id_stands_for_one_search(self, store: Store) -> None:
        store.create("aa", "one", CREATED)
        with pytest.raises(StateConflict, match="exists"):
            store.create("aa", "two", CREATED)
        assert store.search("aa").title == "one"

    def test_a_search_begins_with_created(self, store: Store) -> None:
        with pytest.raises(StateConflict, match="expected created"):
            store.create("aa", "", queued(1))
        with pytest.raises(StoreError, match="id"):
            store.create("", "", CREATED)
        assert store.searches() == []

    def test_the_list_has_the_newest_first(self, store: Store) -> None:
        for name in ("b", "a", "c"):
            store.create(name, name, CREATED)
            time.sleep(0.002)
        assert [info.id for info in store.searches()] == ["c", "a", "b"]

    @pytest.mark.parametrize("ref", ["k3", "k3f9a1c2", "K"])
    def test_prefixes_are_exact_about_case(self, store: Store, ref: str) -> None:
        store.create("k3f9a1c2", "", CREATED)
        store.create("x", "", CREATED)
        if ref == "K":
            with pytest.raises(NotFound):
                store.search(ref)
        else:
            assert store.search(ref).id == "k3f9a1c2"

    def test_a_whole_id_wins_over_a_prefix(self, store: Store) -> None:
        for name in ("ab", "abc", "abd"):
            store.create(name, "", CREATED)
        assert store.search("ab").id == "ab"
        with pytest.raises(NotFound, match="abc"):
            store.search("a")

    @pytest.mark.parametrize("ref", ["", "%", "_", "zz", "'; --"])
    def test_nothing_of_that_name(self, store: Store, ref: str) -> None:
        store.create("abc", "", CREATED)
        with pytest.raises(NotFound):
            store.search(ref)
        with pytest.raises(NotFound):
            store.events(ref)
        with pytest.raises(NotFound):
            store.acquire(ref, "me", 1)
        with pytest.raises(NotFound):
            store.send(ref, Pause())

    def test_status_and_counts_follow_the_events(self, store: Store) -> None:
        lease = begin(store)
        store.append(lease, [*measured(3, hypervolume=0.25), PhaseEntered(phase="confirm")])
        store.append(lease, [StatusChanged(status="paused"), BudgetChanged(evaluations=9)])
        info = store.search("k3")
        assert (info.status, info.evaluated, info.hypervolume) == ("paused", 1, 0.25)
        assert info.last_seq == 9
        assert info.updated_at >= info.created_at

    def test_a_change_of_code_is_the_searchs_config_from_then_on(self, store: Store) -> None:
        plugins = (Plugin(name="own.py", sha256="f" * 64),)
        task = CONFIG.task.model_copy(update={"plugins": plugins})
        config = CONFIG.model_copy(update={"task": task})
        lease = begin(store)
        store.append(lease, [CodeChanged(config=config, reason="so"), *measured(3)])
        assert store.search("k3").config == config
        assert store.searches()[0].config == config
        changed = next(iter(store.events("k3f9a1c2", after=1))).event
        assert changed == CodeChanged(config=config, reason="so")


class TestLog:
    def test_events_come_back_as_they_were(self, store: Store) -> None:
        lease = begin(store)
        batch: list[Event] = [
            *measured(3), queued(5, (3,), note="a\x00b", audit=True), rejected(5),
            duplicate(7, 3), queued(8), waits(8), failed(8), queued(9), waits(9, None),
            Reported(report={"leader": 3, "of": [1, None]}),
        ]  # fmt: skip
        assert store.append(lease, batch) == len(batch) + 1
        found = list(store.events(lease.search_id))
        assert [one.seq for one in found] == list(range(1, len(batch) + 2))
        assert [dump_event(one.event) for one in found[1:]] == [dump_event(one) for one in batch]

    def test_curves_are_stored_apart(self, store: Store) -> None:
        lease = begin(store)
        curve = ((1, 2.3), (100, 0.4))
        store.append(lease, [queued(3), evaluation(3, "resnet", 0.5, curve=curve)])
        assert list(store.events(lease.search_id))[-1].event == evaluation(3, "resnet", 0.5)

    def test_reading_goes_on_after_a_number(self, store: Store) -> None:
        lease = begin(store)
        store.append(lease, [queued(3), queued(4), queued(5)])
        assert [one.seq for one in store.events(lease.search_id, after=2)] == [3, 4]
        assert list(store.events(lease.search_id, after=4)) == []

    def test_a_long_log_is_read_in_order(self, store: Store) -> None:
        lease = begin(store)
        store.append(lease, [PhaseEntered(phase="search") for _ in range(2100)])
        assert [one.seq for one in store.events(lease.search_id)] == list(range(1, 2102))

    def test_an_iterator_tells_what_was_there_when_it_was_made(self, store: Store) -> None:
        lease = begin(store)
        before = store.events(lease.search_id)
        store.append(lease, [queued(3)])
        assert [one.seq for one in before] == [1]

    def test_nothing_to_append_is_no_error(self, store: Store) -> None:
        assert store.append(begin(store), []) == 1

    def test_searches_are_apart(self, store: Store) -> None:
        one, other = begin(store, "aa"), begin(store, "bb")
        store.append(one, measured(3))
        store.append(other, measured(3, 0.7))
        assert store.search("aa").last_seq == store.search("bb").last_seq == 6
        assert list(store.events("bb"))[-1].event != list(store.events("aa"))[-1].event


def _conflicts() -> Iterator[tuple[str, list[Event], list[Event]]]:
    """Name, events before, events that do not fit after them."""
    ready = measured(3)
    final = standing([0.6] * 3)
    lost = JobLost(id="j", failure=Failure(cause="died"), attempt=1)
    refusal = EnqueuedRefused(birth=3, graph=graph(3), rejection=Rejection(code="repeat"))
    yield "created twice", [], [CREATED]
    yield "the same birth", [queued(3)], [queued(3, digest="x", fingerprint="y")]
    yield "the same birth in a batch", [], [queued(3), queued(3, digest="x", fingerprint="y")]
    yield "the same birth refused", [queued(3)], [refusal]
    yield "the same digest", [queued(3)], [queued(4, digest="d3")]
    yield "the same fingerprint", [queued(3)], [queued(4, fingerprint="f3")]
    yield "unknown parent", [], [queued(4, (2,))]
    yield "a parent that is younger", ready, [queued(2, (3,))]
    yield "its own parent", [], [queued(4, (4,))]
    yield "duplicate of nothing", [], [duplicate(4, 3)]
    yield "duplicate of a younger one", [queued(5)], [duplicate(4, 5)]
    yield "repeats of nothing", [], [queued(4, skipped=Skipped(repeats={2: 1}))]
    yield "outcome of nothing", [], [evaluated(3, standing([0.5] * 3))]
    yield "waits for nothing", [], [waits(3)]
    yield "waits after its outcome", ready, [waits(3)]
    yield "outcome twice", ready, [evaluated(3, standing([0.5] * 3))]
    yield "evaluated, then rejected", ready, [rejected(3)]
    yield "rejected, then failed", [queued(3), rejected(3)], [failed(3)]
    yield "a duplicate is never scored", [*ready, duplicate(4, 3)], [evaluation(4, "resnet", 0.5)]
    yield "evaluation of nothing", [], [evaluation(3, "resnet", 0.5)]
    yield (
        "evaluation twice",
        [queued(3), evaluation(3, "resnet", 0.5)],
        [evaluation(3, "resnet", 0.6)],
    )
    gone = JobLost(id="c3", failure=Failure(cause="died"), attempt=1)
    yield "lost before it was there", [], [gone]
    yield "lost after its outcome", ready, [gone]
    yield "evaluation after the outcome", ready, [evaluation(3, "resnet", 0.5, seed=2)]
    yield "no number", [queued(3)], [evaluation(3, "resnet", float("nan"))]
    yield "no standing", [queued(3)], [evaluated(3, standing([0.5, 0.5, float("inf")]))]
    yield (
        "on the front already",
        ready,
        [
            *measured(4, front_in=(3, 4)),
        ],
    )
    yield "not on the front", ready, measured(4, front_in=(), front_out=(4,))
    yield "unknown on the front", ready, measured(4, front_in=(9,))
    yield "a rejected one on the front", [queued(5), rejected(5)], measured(4, front_in=(5,))
    yield "job of nothing", [], [job_queued("j", 3, "remeasure")]
    yield "job of one that waits", [queued(3)], [job_queued("j", 3, "remeasure")]
    yield "job twice", [job_queued("j", None, "baseline")], [job_queued("j", None, "baseline")]
    yield "unknown job", ready, [job_finished("j", 3, "remeasure", final)]
    yield "evaluation of no job", ready, [evaluation(3, "resnet", 0.5, purpose="confirm")]
    done = [*ready, job_queued("j", 3, "remeasure"), job_finished("j", 3, "remeasure", final)]
    yield "job finished twice", done, [job_finished("j", 3, "remeasure", final)]
    yield "job lost after its end", done, [lost]
    waiting = [*ready, job_queued("j", 3, "remeasure")]
    yield "job of another purpose", waiting, [job_finished("j", 3, "confirm", final)]
    yield "job of another subject", waiting, [job_finished("j", None, "remeasure")]
    yield (
        "a baseline has no standing",
        [job_queued("j", None, "baseline")],
        [job_finished("j", None, "baseline", final)],
    )


class TestStates:
    @pytest.mark.parametrize(
        ("before", "wrong"), [pytest.param(b, w, id=name) for name, b, w in _conflicts()]
    )
    def test_a_conflict_changes_nothing(
        self, store: Store, before: list[Event], wrong: list[Event]
    ) -> None:
        lease = begin(store)
        store.append(lease, before)
        command = store.send(lease.search_id, Pause())
        info, log = store.search("k3"), list(store.events(lease.search_id))
        with pytest.raises(StateConflict):
            store.append(lease, [PhaseEntered(phase="confirm"), *wrong], [command])
        assert store.search("k3") == info
        assert list(store.events(lease.search_id)) == log
        assert [one.id for one in store.commands(lease)] == [command]
        store.append(lease, [queued(100)])  # the store goes on

    def test_a_job_runs_to_its_end(self, store: Store) -> None:
        lease = begin(store)
        store.append(lease, [*measured(3), job_queued("j", 3, "remeasure")])
        store.append(lease, [JobLost(id="j", failure=Failure(cause="hung"), attempt=1)])
        runs = [
            evaluation(3, anchor, 0.4, seed=2, job="j", purpose="remeasure") for anchor in ANCHORS
        ]
        place = standing([0.45] * 3, hypervolume=0.1, seeds=2)
        store.append(lease, [*runs, job_finished("j", 3, "remeasure", place)])
        info = store.search("k3")
        assert (info.evaluated, info.hypervolume) == (1, 0.1)

    @pytest.mark.parametrize("size", [1, 2, 9])
    def test_a_candidate_whose_worker_was_lost_goes_on(self, store: Store, size: int) -> None:
        lease = begin(store)
        lost = JobLost(id="c3", failure=Failure(cause="died"), attempt=1)
        events = [queued(3), evaluation(3, "resnet", 0.5), lost, evaluation(3, "mobilenet", 0.5),
                  evaluated(3, standing([0.5] * 3))]  # fmt: skip
        for first in range(0, len(events), size):
            store.append(lease, events[first : first + size])
        assert store.search("k3").evaluated == 1

    def test_one_duplicate_may_share_its_digest_with_no_original_only(self, store: Store) -> None:
        lease = begin(store)
        store.append(lease, [queued(3), duplicate(4, 3), duplicate(5, 3)])
        with pytest.raises(StateConflict):
            store.append(lease, [queued(6, fingerprint="f3")])

    @pytest.mark.parametrize("seed", range(3))
    def test_a_random_search_is_recorded(self, store: Store, seed: int) -> None:
        lease, search = begin(store), RandomSearch(seed)
        for batch in itertools.islice(search.batches(), 120):
            store.append(lease, batch)
        info = store.search("k3")
        assert info.evaluated == len(search.scores) > 5
        assert info.hypervolume == sum(max(search.scores[one]) for one in search.front)


class TestLeases:
    def test_a_lease_keeps_others_out_until_it_expires(self, store: Store) -> None:
        store.create("aa", "", CREATED)
        mine = store.acquire("aa", "me", 0.15)
        with pytest.raises(LeaseHeld, match="me"):
            store.acquire("aa", "you", 60)
        time.sleep(0.2)
        yours = store.acquire("aa", "you", 60)
        assert yours.epoch > mine.epoch
        for late in (lambda: store.append(mine, [queued(3)]), lambda: store.renew(mine, 60)):
            with pytest.raises(LeaseLost, match="you"):
                late()
        assert store.append(yours, [queued(3)]) == 2

    def test_renewing_prolongs(self, store: Store) -> None:
        store.create("aa", "", CREATED)
        lease = store.acquire("aa", "me", 0.1)
        store.renew(lease, 60)
        time.sleep(0.15)
        with pytest.raises(LeaseHeld):
            store.acquire("aa", "you", 60)

    def test_an_expired_lease_that_nobody_took_is_good(self, store: Store) -> None:
        store.create("aa", "", CREATED)
        lease = store.acquire("aa", "me", 0.01)
        time.sleep(0.05)
        assert store.append(lease, [queued(3)]) == 2
        store.renew(lease, 60)

    def test_released_is_free_at_once(self, store: Store) -> None:
        lease = begin(store)
        store.release(lease)
        with pytest.raises(LeaseLost):
            store.append(lease, [])
        yours = store.acquire("k3f9a1c2", "you", 60)
        store.release(lease)  # late, and without effect
        store.renew(yours, 60)

    def test_a_restarted_owner_fences_its_former_self(self, store: Store) -> None:
        before = begin(store)
        now = store.acquire("k3f9a1c2", "me", 60)
        assert now.epoch == before.epoch + 1
        with pytest.raises(LeaseLost):
            store.append(before, [queued(3)])

    def test_one_of_many_gets_it(self, store: Store) -> None:
        store.create("aa", "", CREATED)
        got: list[Lease] = []
        refused: list[LeaseHeld] = []
        gate = threading.Barrier(6)

        def take(owner: str) -> None:
            gate.wait()
            try:
                got.append(store.acquire("aa", owner, 60))
            except LeaseHeld as err:
                refused.append(err)

        threads = [threading.Thread(target=take, args=(f"owner {n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 5)


class TestCommands:
    def test_commands_wait_until_they_are_done(self, store: Store) -> None:
        lease = begin(store)
        layer = Enqueue(graph=graph(3), note="mine")
        first, second = store.send("k3f9a1c2", layer), store.send("k3f9a1c2", Stop())
        assert first < second
        waiting = store.commands(lease)
        assert [(one.id, one.command) for one in waiting] == [(first, layer), (second, Stop())]
        store.append(lease, [queued(3, origin="enqueued")], [first])
        assert [one.id for one in store.commands(lease)] == [second]

    def test_a_command_is_done_once(self, store: Store) -> None:
        lease = begin(store)
        command = store.send("k3f9a1c2", Pause())
        store.append(lease, [], [command])
        with pytest.raises(StateConflict, match="command"):
            store.append(lease, [queued(3)], [command])
        assert store.search("k3").last_seq == 1

    def test_commands_of_another_search_stay(self, store: Store) -> None:
        one, other = begin(store, "aa"), begin(store, "bb")
        command = store.send("bb", Pause())
        with pytest.raises(StateConflict, match="command"):
            store.append(one, [], [command])
        assert [waiting.id for waiting in store.commands(other)] == [command]


def test_closing_twice_is_no_error(store: Store) -> None:
    begin(store)
    store.close()
    once = store.searches()  # of memory nothing is left, and a database is opened again
    store.close()
    assert store.searches() == once


def test_the_newest_snapshot_is_kept_with_its_event(store: Store) -> None:
    lease = begin(store)
    assert store.snapshot(lease.search_id) is None
    last = store.append(lease, [queued(1), queued(2)])
    store.save(lease, Snapshot(last - 1, "first"))
    store.save(lease, Snapshot(last, "näxt" * 1000))
    assert store.snapshot(lease.search_id) == Snapshot(last, "näxt" * 1000)
    for seq in (0, last + 1):
        with pytest.raises(StateConflict, match="no such event"):
            store.save(lease, Snapshot(seq, ""))
    store.release(lease)
    store.acquire(lease.search_id, "you", 60)
    with pytest.raises(LeaseLost):
        store.save(lease, Snapshot(last, "late"))
    assert store.snapshot(lease.search_id) == Snapshot(last, "näxt" * 1000)
