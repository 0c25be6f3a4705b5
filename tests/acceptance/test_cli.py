"""The command line from outside: what it refuses, what it survives, and what one takes home."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from db import open_store
from evosearch.events import dump_event, without_times
from tests.acceptance.command import (
    age_lease,
    assert_refused,
    begin,
    environment,
    evaluations,
    evosearch,
    inside,
    start_tiny,
    wait_until,
)

EVALUATIONS = 6


def log(folder: Path, *, checks: bool = True) -> list[Any]:
    """The events of the folder's only search without times; optionally without the check runs."""
    store = open_store(f"sqlite:///{folder / 'evosearch.db'}")
    try:
        (info,) = store.searches()
        found = [without_times(json.loads(dump_event(e.event))) for e in store.events(info.id)]
    finally:
        store.close()
    if not checks:
        for event in found:
            event.pop("checks", None)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted search, with all that it printed in ``said``."""
    folder = tmp_path_factory.mktemp("finished")
    done = evosearch(folder, *start_tiny(EVALUATIONS))
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    return folder


def test_a_limit_beside_the_evaluations_ends_the_search_and_the_report_says_so(
    finished: Path, tmp_path: Path
) -> None:
    limits = ("--set", "budget.train_steps=20", "--set", "budget.hours=5")
    done = inside(tmp_path, *start_tiny(1000), *limits)
    assert done.returncode == 0, done.stderr
    assert "of 20 training steps are used up" in done.stdout
    assert "verdict:" in done.stdout
    hours = []
    for folder in (tmp_path, finished):
        store = open_store(f"sqlite:///{folder / 'evosearch.db'}")
        hours += [info.config.budget.hours for info in store.searches()]
        store.close()
    assert hours == [5, None], "hours of a preset do not end a search that is to repeat"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "start", "quickstrat"], ["unknown preset", "quickstart"]),
        (["search", "start", "quickstart", "--set", "task.step=3"], ["did you mean task.steps"]),
        (["search", "start", "quickstart", "--set", "task.steps"], ["key=value"]),
        (["search", "start", "quickstart", "--pool", "inline", "--workers", "3"], ["inline"]),
        (["search", "start", "quickstart", "--db", "oracle://x"], ["unknown kind of database"]),
        (["search", "start", "quickstart", "--db", "sqlite:///no/a.db"], ["existing folder"]),
        (["search", "start", "quickstart", "--out", "no/leader.py"], ["folder that exists"]),
        (["search", "start", "quickstart", "--set", 'baselines=["bn"]'], ["unknown baseline"]),
        (["search", "start", "quickstart", "--set", "task.dataset=digit"], ["polarity-digits"]),
        (["search", "list"], ["no database", "search start"]),
        (["search", "resume", "abcd"], ["no database"]),
        (["search", "enqueue", "abcd", "x / y"], ["character 5"]),
        (["export", "abcd-3"], ["no database"]),
        (["export", "--formula", "x * x", "--out", "no/layer.py"], ["cannot write"]),
        (["layer", "x / std_bach(x)"], ["character 5", "std_batch"]),
    ],
)
def test_what_is_wrong_is_one_line_and_writes_nothing(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    assert_refused(inside(tmp_path, *arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_the_exit_code_of_the_process(tmp_path: Path) -> None:
    assert_refused(evosearch(tmp_path, "search", "list"), "no database", "search start")
    assert list(tmp_path.iterdir()) == []


def test_assert_refused_sees_an_answer() -> None:
    fine = subprocess.CompletedProcess([], 0, stdout="x", stderr="")
    with pytest.raises(AssertionError):
        assert_refused(fine)


def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "evosearch.db"
    path.write_text("my diary, not a database, and long enough to be mistaken for one" * 20)
    before = path.read_bytes()
    assert_refused(inside(tmp_path, *start_tiny(1)), "no SQLite database")
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_stays_as_it_is(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "evosearch.db"
    path.write_bytes((finished / "evosearch.db").read_bytes())
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999_future'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert_refused(inside(tmp_path, "search", "list"), "newer")
    assert_refused(inside(tmp_path, *start_tiny(1)), "newer")
    assert path.read_bytes() == before


def test_a_search_ends_with_a_report_and_a_leader(finished: Path) -> None:
    said = (finished / "said").read_text()
    for part in ("funnel", "front", "final: 3 seeds", "difference", "verdict: ", "bn-relu",
                 "leader: candidate", "false rejections by the signal check"):  # fmt: skip
        assert part in said
    (leader,) = finished.glob("leader-*.py")
    assert f"the leader as a PyTorch module: {leader.name}" in said
    events = log(finished)
    assert sum(event["kind"] == "candidate_evaluated" for event in events) == EVALUATIONS
    report = next(event["report"] for event in events if event["kind"] == "reported")
    assert report["leader"]["formula"] in said
    assert report["verdict"] in said


def test_the_leader_needs_torch_only(finished: Path, tmp_path: Path) -> None:
    (leader,) = finished.glob("leader-*.py")
    (tmp_path / "leader.py").write_text(leader.read_text())
    code = (
        "import sys, torch, leader\n"
        "layer = leader.EvolvedLayer(6)\n"
        "out = layer(torch.randn(2, 6, 5, 5))\n"
        "assert out.shape == (2, 6, 5, 5)\n"
        "rooms = {'primitives', 'evosearch', 'workers', 'db', 'api'}\n"
        "assert not rooms & set(sys.modules), rooms & set(sys.modules)\n"
    )
    env = environment() | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_reading_commands(finished: Path) -> None:
    (leader,) = finished.glob("leader-*.py")
    search_id = leader.stem.removeprefix("leader-")
    listed = inside(finished, "search", "list").stdout
    assert search_id in listed
    assert "finished" in listed
    shown = inside(finished, "search", "show", search_id[:3]).stdout
    assert f"{EVALUATIONS} of {EVALUATIONS} evaluated" in shown
    assert "verdict: " in inside(finished, "search", "report", search_id).stdout
    assert "bn-relu" in inside(finished, "search", "front", search_id).stdout
    formula = inside(finished, "export", search_id, "--format", "formula").stdout.strip()
    assert f"Formula: {formula}" in leader.read_text()
    assert_refused(inside(finished, "search", "resume", search_id), "is finished")
    assert_refused(inside(finished, "search", "pause", search_id), "takes no commands")
    assert_refused(inside(finished, "search", "show", "zzzz"), "no such search")
    assert_refused(inside(finished, "export", f"{search_id}-99999"), "no candidate 99999")


def test_a_printed_config_starts_the_very_same_search(finished: Path, tmp_path: Path) -> None:
    shown = inside(finished, "search", "show", next(finished.glob("leader-*.py")).stem[7:],
                      "--config")  # fmt: skip
    (tmp_path / "again.toml").write_text(shown.stdout)
    done = inside(tmp_path, "search", "start", "again.toml", "--pool", "inline")
    assert done.returncode == 0, done.stderr
    assert log(tmp_path) == log(finished)


def test_a_killed_search_goes_on_with_the_same_command(finished: Path, tmp_path: Path) -> None:
    process = begin(tmp_path, *start_tiny(EVALUATIONS))
    wait_until(lambda: evaluations(tmp_path) >= 3, process)
    process.kill()
    process.communicate()
    before = evaluations(tmp_path)
    age_lease(tmp_path, 12.0)
    done = inside(tmp_path, *start_tiny(EVALUATIONS))
    assert done.returncode == 0, done.stderr
    assert "going on with search" in done.stdout
    assert before >= 3
    # A candidate whose training was stored before the kill does not pass its checks again.
    assert log(tmp_path, checks=False) == log(finished, checks=False)


def test_a_signal_pauses_and_the_same_command_goes_on(finished: Path, tmp_path: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = evaluations(tmp_path)
        process = begin(tmp_path, *start_tiny(EVALUATIONS))
        wait_until(lambda before=before: evaluations(tmp_path) > before, process)  # type: ignore[misc]
        process.send_signal(number)
        _, err = process.communicate(timeout=240)
        assert process.returncode == code, err
        assert err.count("\n") == 1
        assert "is paused, nothing is lost" in err
        assert "evosearch search resume" in err
        assert log(tmp_path)[-1]["status"] == "paused"
    done = inside(tmp_path, *start_tiny(EVALUATIONS))
    assert done.returncode == 0, done.stderr
    assert "lease expires" not in done.stdout
    events = [e for e in log(tmp_path, checks=False) if e.get("reason") != "asked to"]
    assert events == log(finished, checks=False)


def test_a_person_steers_a_running_search(tmp_path: Path) -> None:
    process = begin(tmp_path, *start_tiny(40))
    wait_until(lambda: evaluations(tmp_path) >= 1, process)
    search_id = process.stdout.readline().split()[2]  # type: ignore[union-attr]
    sent = inside(tmp_path, "search", "enqueue", search_id, "tanh(x) / rms_instance(x)",
                     "--note", "a hunch")  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert inside(tmp_path, "search", "extend", search_id, "10").returncode == 0
    assert inside(tmp_path, "search", "pause", search_id).returncode == 0
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    kinds = log(tmp_path)
    (mine,) = [e for e in kinds if e.get("origin") == "enqueued"]
    assert mine["note"] == "a hunch"
    assert {"kind": "budget_changed", "evaluations": 50, "limits": {}, "reason": ""} in kinds
    assert kinds[-1]["status"] == "paused"
    stopped = inside(tmp_path, "search", "stop", search_id)
    assert "no process runs it, it is stopped" in stopped.stdout, stopped.stderr
    assert log(tmp_path)[-1]["status"] == "stopped"


def test_eval_prints_a_table(tmp_path: Path) -> None:
    small = ["--set", 'task.anchors=[{name="resnet", width=4}]', "--set", "task.steps=4",
             "--set", "checks.quality.steps=2"]  # fmt: skip
    done = inside(tmp_path, "eval", "evonorm-s0", "--seeds", "2", "--pool", "inline", *small)
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    for name in ("this layer", "bn-relu", "bn-silu", "gn-silu", "evonorm-b0", "evonorm-s0"):
        assert "[" in rows[name]
    # Same function, same seeds: the same numbers, whether typed by hand or known by name.
    assert rows["this layer"].split()[2:] == rows["evonorm-s0"].split()[1:]
    assert "equals evonorm-s0" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_layer_says_what_it_is_and_what_rejects_it(tmp_path: Path) -> None:
    done = inside(tmp_path, "layer", "x*sigmoid(v1*x)/std_group(x)")
    assert done.returncode == 0, done.stderr
    facts = {line[:20].strip(): line[21:] for line in done.stdout.splitlines()}
    assert facts["formula"] == "x * sigmoid(v1 * x) / std_group(x)"
    assert facts["equals"] == "evonorm-s0"
    assert facts["batch independent"] == "yes"
    assert facts["axes mixed"] == "channels, positions"
    assert facts["signal, efficientnet"].startswith("passes")
    wrong = inside(tmp_path, "layer", "v1 + std_batch(x)").stdout
    assert "rejects: no_spatial" in wrong
    assert wrong.splitlines()[-1] == "rejected"


@pytest.mark.parametrize("form", ["python", "json", "formula", "latex", "dot"])
def test_export_writes_a_formula_in_every_form(form: str, tmp_path: Path) -> None:
    out = tmp_path / "layer.txt"
    done = inside(
        tmp_path, "export", "--formula", "x / rms_batch(x)", "--format", form, "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    begins = {"python": '"""Formula: x / rms_batch(x)', "json": "{", "formula": "x / rms_batch(x)",
              "latex": r"\frac{x}", "dot": "digraph"}  # fmt: skip
    assert out.read_text().startswith(begins[form])
    assert [path.name for path in tmp_path.iterdir()] == ["layer.txt"]
