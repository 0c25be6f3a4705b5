"""PATCH of a running search's budget: every limit, within two seconds, and to its normal end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.cli import run
from api.controlling import Controlling
from db.sql_store import SqlStore
from evosearch.client import Client
from evosearch.errors import ConfigError, StateConflict
from tests.support.controlling import control, create, seconds_until, step_until, store
from tests.support.service import OFFERS, Controllers, running

__all__ = ["control", "store"]
ID = "aaaaaaaa"
FREE = {"rate": 10_000.0, "burst": 10_000}


@pytest.fixture
def client(store: SqlStore, tmp_path: Path) -> Iterator[Client]:
    Controllers(store).register("filler", "here", 1, "inline", OFFERS)
    create(store, ID, "budget.evaluations=2000")
    with running(tmp_path, **FREE) as service, Client(service.url) as made:
        yield made


def limits(client: Client) -> dict[str, Any]:
    data = client.search(ID).data
    return {"evaluations": data["budget"], **data["limits"]}


def test_each_limit_is_changed_over_rest(client: Client, control: Controlling) -> None:
    step_until(control, lambda: client.search(ID).evaluated >= 1)
    wanted = limits(client)
    for change in (
        1500, {"hours": 2.5}, {"evaluations": 1800, "train_steps": 10**9}, {"hours": 50.0},
        {"gpu_hours": 4.0, "no_gain": 10**6, "target": 0.99999}, {"hours": None, "target": None},
    ):  # fmt: skip
        wanted |= {"evaluations": change} if isinstance(change, int) else change
        client.change(ID, budget=change)
        assert seconds_until(control, lambda now=dict(wanted): limits(client) == now) < 2  # type: ignore[misc]
    client.command(ID, "extend", hours=7.0)
    assert seconds_until(control, lambda: limits(client)["hours"] == 7.0) < 2
    assert client.search(ID).status == "running"
    marks = client._ask("GET", f"/searches/{ID}/progress")["marks"]
    told = [mark["text"] for mark in marks if mark["kind"] == "budget"]
    assert told[0] == "1500 evaluations"
    assert told[-2:] == ["no limit of hours, no limit of target", "hours 7"]


@pytest.mark.parametrize("change", [{"train_steps": 1}, {"hours": 1e-6}, {"evaluations": 1}])
def test_below_what_is_done_it_ends_with_its_report(
    client: Client, control: Controlling, change: dict[str, float]
) -> None:
    step_until(control, lambda: client.search(ID).evaluated >= 3)
    client.change(ID, budget=change)
    assert seconds_until(control, lambda: client.search(ID).phase != "search") < 4
    step_until(control, lambda: client.search(ID).ended)
    found = client.search(ID)
    assert (found.status, bool(found.data["report"])) == ("finished", True)
    with pytest.raises(StateConflict, match="finished"):
        client.change(ID, budget={"hours": 3})


@pytest.mark.parametrize(
    "wrong",
    [{}, {"evaluations": None}, {"evaluations": 0}, {"hours": 0}, {"hours": "x"}, {"minutes": 1},
     {"train_steps": 1.5}, {"target": 2.0}, 0, "x", [1]],
)  # fmt: skip
def test_a_wrong_budget_is_refused(client: Client, store: SqlStore, wrong: object) -> None:
    with pytest.raises(ConfigError):
        client.change(ID, budget=wrong)
    lease = store.acquire(ID, "me", 60)
    assert store.commands(lease) == []


def test_from_the_command_line(
    client: Client, store: SqlStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> tuple[int, str]:
        code = run(["search", *words, "--db", f"sqlite:///{tmp_path}/store.db"])
        told = capsys.readouterr()
        return code, told.out + told.err

    assert said("budget", ID, "--hours", "2", "--target", "0.9")[0] == 0
    assert (limits(client)["hours"], limits(client)["target"]) == (2.0, 0.9)
    assert said("extend", ID, "--hours", "0.5")[0] == 0
    assert said("extend", ID, "10", "--hours", "0.5")[0] == 0
    assert said("budget", ID, "--target", "none", "--train-steps", "7e6")[0] == 0
    assert limits(client) == {
        "evaluations": 2010, "hours": 3.0, "target": None, "train_steps": 7_000_000,
        "gpu_hours": None, "no_gain": None,
    }  # fmt: skip
    for words in (
        ("extend", ID), ("extend", ID, "--gpu-hours", "1"), ("budget", ID),
        ("budget", ID, "--hours", "many"), ("budget", ID, "--train-steps", "1.5"),
    ):  # fmt: skip
        code, told = said(*words)
        assert code != 0
        assert "Traceback" not in told
