"""Each limit of a running search is raised, lowered and cleared, and recovery knows of it."""

from __future__ import annotations

import pytest

from api.extending import copy_before_confirmation, extended, set_budget
from api.stop_rules import StopRules
from api.wiring import load_state
from db.queries import Queries
from db.queries_rest import RestQueries
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.errors import ConfigError, StateConflict
from evosearch.ports import Extend, Lease, Store
from evosearch.presets import load_preset
from evosearch.replay import replay
from evosearch.snapshot import dump_state
from evosearch.snapshot import load_state as read_snapshot
from evosearch.state import recover
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

ID = "aaaa2345"
SMALL = ("budget.evaluations=500", "confirmation.resamples=50", "confirmation.final_seeds=3",
         "confirmation.top=2", "confirmation.tune_seeds=1", "evolution.choose_of=1")  # fmt: skip
NOW = {"train_steps": 10**9, "hours": 99.0, "gpu_hours": 99.0, "no_gain": 10**6, "target": 1.0}
"""Limits that no test comes to."""
USED_UP = {"train_steps": 1, "hours": 1e-9, "gpu_hours": 1e-9, "no_gain": 1, "target": 0.001}


def running(store: Store, *overrides: str) -> Controller:
    """A search that has evaluated a few candidates, and goes on."""
    config = load_preset("quickstart", [*SMALL, *overrides], seed=1)
    store.create(ID, "title", ev.Created(config=config))
    made = Controller(store, SimulatedPool(answer, 2), store.acquire(ID, "me", 600))
    while made.state.evaluated < 8:
        made.step()
    return made


def changes(store: Store) -> list[ev.BudgetChanged]:
    return [e.event for e in store.events(ID) if isinstance(e.event, ev.BudgetChanged)]


def test_limits_are_set_raised_lowered_and_cleared(store: Store) -> None:
    search = running(store)
    for name in NOW:
        assert getattr(search.state.budget, name) is None
        assert_changed(store, search, name)
    cleared = dict.fromkeys(NOW)
    if isinstance(store, SqlStore):
        assert RestQueries(store).changed_limits(ID) == cleared
        assert Queries(store).search_row(ID).budget == 500


def assert_changed(store: Store, search: Controller, name: str) -> None:
    """The limit is set, halved and cleared, for everyone who asks."""
    for limit in (NOW[name], NOW[name] / 2 if name == "target" else NOW[name] // 2, None):
        store.send(ID, Extend(limits={name: limit}))
        search.step()
        assert getattr(search.state.budget, name) == limit
        assert search.state.target == 500
        for known in (
            recover(store.events(ID)), load_state(store, ID),
            read_snapshot(dump_state(search.state)),
        ):  # fmt: skip
            assert known.budget == search.state.budget
    assert [one.limits for one in changes(store)][-1] == {name: None}


@pytest.mark.parametrize("name", ["evaluations", *USED_UP])
def test_a_limit_below_what_is_done_ends_the_search_by_its_normal_end(
    store: Store, name: str
) -> None:
    now = [0.0]
    search = running(store, "evolution.challenge_top=3", "evolution.remeasure_share=0.5")
    rules = StopRules(1.0, lambda: now[0], worked=3600.0, worker_seconds=lambda: 3600.0)
    store.send(ID, Extend(limits=NOW))
    while search.state.confirmed is None:
        search.step()
    now[0] += 2.0
    assert rules.end_phase(store, ID, search.state) is None
    before = search.state.evaluated
    told = {"evaluations": 3} if name == "evaluations" else {"limits": {name: USED_UP[name]}}
    store.send(ID, Extend.model_validate(told))
    search.step()
    now[0] += 2.0  # within two seconds, and what the workers spent was asked for just before
    reason = rules.end_phase(store, ID, search.state)
    assert (reason is None) == (name == "evaluations")
    assert search.run().status == "finished"
    kinds = [entry.event.kind for entry in store.events(ID)]
    assert kinds.count("reported") == 1
    assert search.state.evaluated <= before + 2 + 2  # what was at work is not thrown away
    replayed = replay(store.events(ID))
    assert replayed.difference is None
    assert replayed.events == search.state.seq


def test_evaluations_and_limits_stay_where_they_are_not_named(store: Store) -> None:
    search = running(store, "budget.hours=7")
    store.send(ID, Extend(evaluations=77))
    store.send(ID, Extend(limits={"train_steps": 10**8}))
    search.step()
    assert (search.state.target, search.state.budget.hours) == (77, 7.0)
    assert search.state.budget.train_steps == 10**8
    assert [one.evaluations for one in changes(store)] == [77, None]


def test_more_is_had_on_top_of_what_holds_or_waits(store: Store) -> None:
    search = running(store, "budget.hours=7")
    extended(store, ID, 0, {"hours": 1.5})
    extended(store, ID, 10, {"hours": 1.5})
    search.step()
    assert (search.state.target, search.state.budget.hours) == (510, 10.0)
    with pytest.raises(ConfigError, match="no limit of gpu hours"):
        extended(store, ID, 0, {"gpu_hours": 1.0})
    for wrong in ({}, {"hours": -1.0}, {"target": 0.1}):
        with pytest.raises(ConfigError):
            extended(store, ID, 0, wrong)
    assert store.commands(search.lease) == []


def test_a_search_that_ran_out_of_hours_goes_on_with_more(store: Store) -> None:
    search = running(store, "budget.hours=1")
    rules = StopRules(0.0, worked=2 * 3600.0)
    assert rules.end_phase(store, ID, search.state) == "1 hours are used up"
    done = search.run()
    assert done.status == "finished"
    before = [ev.dump_event(entry.event) for entry in store.events(ID)]
    copied = extended(store, ID, 0, {"hours": 2.0})
    assert copied != ID
    assert [ev.dump_event(entry.event) for entry in store.events(ID)] == before
    waiting = [one.command for one in store.commands(Lease(copied, "", 0))]
    assert waiting == [Extend(limits={"hours": 3.0})]
    state = load_state(store, copied)
    assert (state.phase, state.target, state.evaluated) == ("search", 500, done.evaluated)
    kept = load_state(store, copy_before_confirmation(store, ID))
    assert kept.target < 500  # further evaluations come on top of where it ended


def test_wrong_limits_are_refused_in_words(store: Store) -> None:
    search = running(store)
    for wrong, word in (
        ({}, "no limit is named"), ({"evaluations": None}, "always a number"),
        ({"hours": 0.0}, "budget.hours"), ({"minutes": 3.0}, "budget.minutes"),
        ({"train_steps": 1.5}, "budget.train_steps"), ({"hours": float("inf")}, "budget.hours"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=word):
            set_budget(store, ID, wrong)  # type: ignore[arg-type]
    for name in ("minutes", "evaluations"):
        with pytest.raises(ValueError, match="no limit of the budget"):
            Extend(limits={name: 3})
    set_budget(store, ID, {"evaluations": 1})
    search.run()
    with pytest.raises(StateConflict, match="finished"):
        set_budget(store, ID, {"hours": 3.0})
