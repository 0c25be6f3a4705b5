"""Clones, warm starts, notes and deletion, on both databases and from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from api import commands_search
from api.cli import run
from api.wiring import front_layers, load_state
from db.check import check
from db.queries import Queries
from db.queries_rest import Notes, RestQueries
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.errors import NotFound, StateConflict
from evosearch.ports import Extend, Pool, Resume, Stop
from evosearch.presets import load_preset
from evosearch.replay import replay
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

ID = "aaaa2345"
SMALL = ("budget.evaluations=4", "confirmation.resamples=50", "confirmation.final_seeds=3",
         "confirmation.top=2", "confirmation.tune_seeds=1", "evolution.choose_of=1")  # fmt: skip


def pool() -> Pool:
    return SimulatedPool(answer, 2)


def carry_on(store: SqlStore, search_id: str) -> str:
    """Runs the search until it is over or paused; returns its status."""
    lease = store.acquire(search_id, "me", 60)
    running = Controller(store, pool(), lease)
    running.step()
    status = running.run().status
    store.release(lease)
    return status


def create(store: SqlStore, search_id: str = ID, seed: int = 1) -> None:
    config = load_preset("quickstart", SMALL, seed=seed)
    store.create(search_id, f"title of {search_id}", ev.Created(config=config))


def texts(store: SqlStore, search_id: str, upto: int) -> list[str]:
    return [ev.dump_event(e.event) for e in store.events(search_id) if e.seq <= upto]


def test_a_clone_of_a_finished_search_goes_on_with_a_larger_budget(sql_store: SqlStore) -> None:
    create(sql_store)
    assert carry_on(sql_store, ID) == "finished"
    writes, before = ServiceWrites(sql_store), sql_store.search(ID)
    upto = writes.branch_point(ID)
    assert load_state(sql_store, ID).phase == "done"
    writes.clone(ID, "bbbb2345", "a clone", upto, Notes(tags=("clone",)))
    clone = sql_store.search("bbbb2345")
    assert (clone.status, clone.title, clone.evaluated) == ("paused", "a clone", before.evaluated)
    assert texts(sql_store, "bbbb2345", upto) == texts(sql_store, ID, upto)
    state = load_state(sql_store, "bbbb2345")
    assert (state.phase, state.seq) == ("search", upto + 1)
    sql_store.send("bbbb2345", Resume())
    sql_store.send("bbbb2345", Extend(evaluations=7))
    assert carry_on(sql_store, "bbbb2345") == "finished"
    assert sql_store.search("bbbb2345").evaluated >= 7
    assert sql_store.search(ID) == before
    assert check(sql_store) == []
    assert replay(sql_store.events("bbbb2345")).difference is None
    births = Queries(sql_store).front("bbbb2345")
    assert births


def test_a_stopped_search_is_cloned_as_it_stood_before(sql_store: SqlStore) -> None:
    create(sql_store)
    sql_store.send(ID, Stop())
    assert carry_on(sql_store, ID) == "stopped"
    writes, last = ServiceWrites(sql_store), sql_store.search(ID).last_seq
    assert writes.branch_point(ID) == last - 1
    with pytest.raises(StateConflict, match=r"stopped.*an earlier event"):
        writes.clone(ID, "bbbb2345", "", last, Notes())
    with pytest.raises(StateConflict, match="no such event"):
        writes.clone(ID, "bbbb2345", "", last + 1, Notes())
    for call in (writes.branch_point, writes.delete):
        with pytest.raises(NotFound):
            call("zzzz2345")
    assert [info.id for info in sql_store.searches()] == [ID]


def test_a_warm_start_evaluates_the_front_of_the_other_first(sql_store: SqlStore) -> None:
    create(sql_store)
    carry_on(sql_store, ID)
    front = load_state(sql_store, ID).front.members
    created = ev.Created(config=load_preset("quickstart", SMALL, seed=2))
    layers = front_layers(sql_store, ID[:3])
    ServiceWrites(sql_store).create("bbbb2345", "", created, Notes(), first=layers)
    assert carry_on(sql_store, "bbbb2345") == "finished"
    told = [e.event for e in sql_store.events("bbbb2345")
            if isinstance(e.event, ev.CandidateQueued)]  # fmt: skip
    assert [one.origin for one in told[: len(front)]] == ["enqueued"] * len(front)
    assert {one.note for one in told[: len(front)]} == {f"front of {ID}: {b}" for b in front}
    assert replay(sql_store.events("bbbb2345")).difference is None


def test_a_deleted_search_leaves_nothing_behind(sql_store: SqlStore) -> None:
    create(sql_store)
    create(sql_store, "bbbb2345", seed=2)
    for search_id in (ID, "bbbb2345"):
        carry_on(sql_store, search_id)
    ServiceWrites(sql_store).annotate(ID, starred=True)
    kept = texts(sql_store, "bbbb2345", 10**9)
    ServiceWrites(sql_store).delete(ID)
    with pytest.raises(NotFound):
        sql_store.search(ID)
    assert RestQueries(sql_store).notes([ID]) == {}
    assert texts(sql_store, "bbbb2345", 10**9) == kept
    assert check(sql_store) == []


@pytest.fixture
def command(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs `evosearch search` on one database, with simulated workers; gives code and words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands_search, "make_pool", lambda *_: pool())

    def called(*arguments: str) -> tuple[int, str]:
        code = run(["search", *arguments, "--db", url])
        said = capsys.readouterr()
        return code, said.out + said.err

    return called


def test_from_the_command_line(command: Callable[..., tuple[int, str]], url: str) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    code, _ = command("start", "quickstart", *settings)
    assert code == 0
    store = SqlStore(url)
    (first,) = store.searches()
    code, said = command("clone", first.id, "--title", "my clone")
    assert code == 0, said
    clone = next(info for info in store.searches() if info.id != first.id)
    assert clone.title == "my clone"
    assert f"search {clone.id} is {first.id} as it stood after event" in said
    code, said = command(
        "mark", clone.id[:6], "--tag", "a", "--tag", "b", "--note", "why", "--priority", "70",
        "--star", "--title", "other",
    )  # fmt: skip
    assert (code, said) == (
        0, f"search {clone.id} (other): priority 70\n  starred #a #b\n  why\n",
    )  # fmt: skip
    code, said = command("mark", clone.id, "--tag", "", "--no-star", "--archive")
    about = Notes(text="why", priority=70, archived=True)
    assert RestQueries(store).notes([clone.id]) == {clone.id: about}
    code, said = command("start", "quickstart", *settings, "--seed", "9", "--warm-start", first.id)
    assert code == 0, said
    front = len(load_state(store, first.id).front.members)
    assert f"begins with the {front} layers of the front of {first.id}" in said
    code, said = command("delete", clone.id[:6], "--yes")
    assert (code, "whole id" in said) == (2, True)
    code, said = command("delete", clone.id, "--yes")
    assert (code, said) == (0, f"search {clone.id} is deleted\n")
    assert clone.id not in {info.id for info in store.searches()}
    code, said = command("start", "quickstart", "--warm-start", "zzzz")
    assert (code, "no such search" in said) == (2, True)
    newest = [json.loads(ev.dump_event(e.event))["kind"] for e in store.events(first.id)]
    assert newest[-1] == "status_changed"
    store.close()
