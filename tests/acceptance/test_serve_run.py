"""`evosearch serve --quickstart`, which is `make run`: to its end, through Ctrl-C and kill -9."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from db import open_store
from evosearch.events import CandidateEvaluated
from tests.acceptance.command import (
    COMMAND,
    TINY,
    age_lease,
    assert_refused,
    begin,
    environment,
    evaluations,
    evosearch,
    inside,
    wait_until,
)

WORDS = ["serve", "--quickstart", "--port", "0", "--pool", "inline", *TINY]


def serve(count: int) -> list[str]:
    return [*WORDS, "--set", f"budget.evaluations={count}"]


def address(process: subprocess.Popen[str]) -> str:
    """The address that the command prints; everything before it is skipped."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("evosearch serves at "):
            return line.split()[-1].rstrip("/")
    raise AssertionError(process.communicate()[1])


def wait(true: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def answers(url: str) -> bool:
    try:
        return httpx.get(url + "/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_ctrl_c_and_kill_9_cost_nothing_and_the_end_is_a_report(tmp_path: Path) -> None:
    first = begin(tmp_path, *serve(8))
    url = address(first)
    wait_until(lambda: evaluations(tmp_path) >= 2, first)
    assert answers(url)
    first.send_signal(signal.SIGINT)
    said, err = first.communicate(timeout=120)
    assert first.returncode == 130, err
    assert "keeps everything; the same command goes on with it" in said
    assert "Traceback" not in err
    assert wait(lambda: not answers(url))
    before = evaluations(tmp_path)

    second = begin(tmp_path, *serve(8))
    url = address(second)
    wait_until(lambda: evaluations(tmp_path) > before, second)
    second.kill()
    second.communicate()
    # Both processes notice that nobody looks after them, and end by themselves.
    assert wait(lambda: not answers(url))
    before = evaluations(tmp_path)
    age_lease(tmp_path, 12.0)

    done = evosearch(tmp_path, *serve(8))
    assert done.returncode == 0, done.stderr
    assert "going on with search" in done.stdout
    for part in ("funnel", "front", "final: 3 seeds", "verdict: ", "bn-relu"):
        assert part in done.stdout
    (leader,) = tmp_path.glob("leader-*.py")
    assert done.stdout.rstrip().endswith(f"the leader as a PyTorch module: {leader.name}")
    store = open_store(f"sqlite:///{tmp_path / 'evosearch.db'}")
    try:
        (info,) = store.searches()  # the same search three times
        evaluated = [
            entry.event.birth for entry in store.events(info.id)
            if isinstance(entry.event, CandidateEvaluated)
        ]  # fmt: skip
    finally:
        store.close()
    assert info.status == "finished"
    assert len(evaluated) == len(set(evaluated)) >= 8
    assert evaluations(tmp_path) > before


class Terminal:
    """A command at a terminal of its own; ``text`` grows as it prints."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        mine, theirs = pty.openpty()
        self.text, self._mine = "", mine
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=folder, env=environment() | {"TERM": "xterm"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._mine, 65_536)
            except OSError:  # the other end is closed
                return
            self.text += part.decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._thread.join(10)
        os.close(self._mine)


def test_at_a_terminal_it_goes_on_serving(tmp_path: Path) -> None:
    at = Terminal(tmp_path, *serve(2))
    try:
        assert wait(lambda: "still serving; Ctrl-C ends it" in at.text, 240), at.text[-2000:]
        assert "verdict: " in at.text
        assert "of 2 evaluated" in at.text  # the live picture
        url = at.text.split("evosearch serves at ")[1].split()[0].rstrip("/")
        listed = httpx.get(url + "/api/v1/searches", timeout=30).json()["searches"]
        assert [one["status"] for one in listed] == ["finished"]
        at.process.send_signal(signal.SIGINT)
        assert at.process.wait(60) == 130
        assert not answers(url)
    finally:
        at.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "quickstrat"], ["unknown preset", "quickstart"]),
        (["--quickstart", "--set", "task.step=3"], ["did you mean task.steps"]),
        (["--quickstart", "--set", "task.dataset=digit"], ["polarity-digits"]),
        (["--seed", "3"], ["--start PRESET"]),
        (["--quickstart", "--host", "0.0.0.0"], ["needs a token", "token create"]),
        (["--quickstart", "--db", "oracle://x"], ["unknown kind of database"]),
    ],
)
def test_what_is_wrong_is_one_line_and_starts_nothing(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    assert_refused(inside(tmp_path, "serve", *arguments), *words)
    assert [path.name for path in tmp_path.iterdir() if path.name != "evosearch.db"] == []


def test_a_port_that_is_taken_is_no_obstacle_unless_it_was_chosen() -> None:
    import socket

    from api.serving import bind_somewhere
    from api.settings import ServiceSettings
    from evosearch.errors import ConfigError

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        by_default = ServiceSettings.model_construct(_fields_set=set(), port=port)
        settings, bound = bind_somewhere(by_default, True)
        assert bound.getsockname()[1] not in (0, port)
        assert settings.port == 0
        bound.close()
        with pytest.raises(ConfigError, match="choose one with --port"):
            bind_somewhere(ServiceSettings(port=port), True)
        with pytest.raises(ConfigError, match="choose one with --port"):
            bind_somewhere(by_default, False)


def test_a_controller_that_never_lives_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from rich.console import Console

    from api import serving, supervisor
    from api.serve_search import Shown, find_or_create
    from db.sql_store import SqlStore
    from evosearch.errors import WorkerError
    from evosearch.presets import load_preset

    monkeypatch.setattr(supervisor, "WAITS", (0.1,))
    watched = supervisor.Supervisor(
        [supervisor.Child("controller", [sys.executable, "-c", "1"], {})]
    )
    console = Console(quiet=True)
    store = SqlStore(f"{tmp_path}/store.db")
    try:
        watched.start()
        shown = Shown(store, find_or_create(store, load_preset("quickstart"), console), console)
        with pytest.raises(WorkerError, match="does not stay alive; got 4 deaths"):
            serving._attend(watched, shown, console)
    finally:
        watched.close()
        store.close()


def test_a_search_is_shown_from_its_snapshot_on(tmp_path: Path) -> None:
    from rich.console import Console
    from sqlalchemy import text

    from api.serve_search import Shown
    from db.engine import begin as transaction
    from db.sql_store import SqlStore
    from evosearch.events import BudgetChanged, StatusChanged
    from evosearch.ports import Snapshot
    from evosearch.snapshot import dump_state
    from evosearch.state import recover
    from tests.support.events import CREATED

    store = SqlStore(f"{tmp_path}/store.db")
    store.create("shown234", "", CREATED)
    lease = store.acquire("shown234", "me", 60)
    store.append(lease, [BudgetChanged(evaluations=one) for one in range(1, 6)])
    state = recover(store.events("shown234"))
    store.save(lease, Snapshot(state.seq, dump_state(state)))
    with transaction(store.engine, write=True) as connection:  # whoever reads all of it would fail
        connection.execute(text("DELETE FROM events WHERE seq < 5"))
    shown = Shown(store, "shown234", Console(quiet=True))
    assert (shown.seq, shown.over) == (state.seq, False)
    ending = [BudgetChanged(evaluations=7), StatusChanged(status="stopped", reason="asked to")]
    last = store.append(lease, ending)
    shown.look()
    assert (shown.seq, shown.over) == (last, True)
    store.close()
