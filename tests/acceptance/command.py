"""Runs the command line as a person does: in a folder of its own, mostly a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from api.cli import run

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-c", "from api.cli import main; main()")

TINY = (
    "--set", 'task.anchors=[{name="resnet", width=4}]',
    "--set", "task.steps=6",
    "--set", "evolution.choose_of=1",
    "--set", "evolution.experience=false",
    "--set", "checks.hurdles.steps=[]",
    "--set", "task.select_rows=60",
    "--set", "task.learning_rate=0.2",
    "--set", "checks.quality.steps=3",
    "--set", "checks.quality.accuracy=0.0",
    "--set", "checks.stability.enabled=false",
    "--set", 'baselines=["bn-relu"]',
    "--set", "confirmation.top=2",
    "--set", "confirmation.seeds=1",
    "--set", "confirmation.tune_seeds=1",
    "--set", "confirmation.learning_rates=[0.2]",
    "--set", "confirmation.final_seeds=3",
    "--set", "confirmation.resamples=50",
    "--set", 'confirmation.rivals=["bn-relu"]',
)  # fmt: skip
"""A search of seconds: one small anchor, a few steps, and nothing is asked of the layers."""


def start_tiny(evaluations: int) -> list[str]:
    """Arguments that start a tiny search on the inline pool."""
    budget = ("--set", f"budget.evaluations={evaluations}")
    return ["search", "start", "quickstart", "--pool", "inline", *TINY, *budget]


def environment() -> dict[str, str]:
    """This process's environment with the code on the path, one thread, and no database set."""
    kept = {key: value for key, value in os.environ.items() if key != "EVOSEARCH_DB"}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


def evosearch(
    folder: Path, *arguments: str, seconds: float = 600
) -> subprocess.CompletedProcess[str]:
    """The finished command."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip


def inside(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The finished command, run by this process: for what it says and does, not how it starts.

    A process of its own takes seconds until torch is there; here it is there already.
    """
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("EVOSEARCH_DB", raising=False)
        patch.setenv("COLUMNS", "80")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*arguments])
    return subprocess.CompletedProcess([*arguments], code, out.getvalue(), err.getvalue())


def begin(folder: Path, *arguments: str, command: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
    """The running command."""
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Fail unless the command ended with one line on stderr, nothing else, and exit code 2."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("evosearch: ")
    for word in words:
        assert word in done.stderr


def evaluations(folder: Path) -> int:
    """How many evaluations the folder's database holds; 0 while there is no database."""
    path = folder / "evosearch.db"
    if not path.exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        query = "SELECT count(*) FROM events WHERE kind = 'evaluation_recorded'"
        return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # the schema is being made
        return 0
    finally:
        connection.close()


def age_lease(folder: Path, seconds: float, name: str = "evosearch.db") -> None:
    """As if the search's process had been killed so many seconds earlier than it was."""
    with contextlib.closing(sqlite3.connect(folder / name)) as connection:
        change = "UPDATE searches SET lease_expires_at = lease_expires_at - ?"
        assert connection.execute(change, (seconds,)).rowcount == 1
        connection.commit()


def wait_until(
    true: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120
) -> None:
    """Wait until it is so; fail if the process ends before, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)
