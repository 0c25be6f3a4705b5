"""kill -9 of a real Ray worker, the controller and the web process while a client watches.

One order of the three always runs; all six by: pytest -m soak tests/acceptance/test_serve_kills.py
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from evosearch.client import Client, Event
from tests.acceptance.command import TINY, begin

ORDERS = tuple(itertools.permutations(("worker", "controller", "web")))
EVALUATIONS = 10


def overrides() -> dict[str, Any]:
    """The tiny search's settings as REST takes them."""
    found: dict[str, Any] = {"budget.evaluations": EVALUATIONS}
    for text in TINY[1::2]:
        key, _, raw = text.partition("=")
        found[key] = tomllib.loads(f"value = {raw}")["value"]
    return found


def processes() -> dict[int, tuple[int, str]]:
    """Process id -> (its parent, its command line), of all that live."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, IndexError, ValueError):
            continue  # it ended this moment
        if words:
            found[int(folder.name)] = (parent, words)
    return found


def below(root: int) -> dict[int, str]:
    """The descendants of a process with their command lines."""
    known, found, fresh = processes(), {}, {root}
    while fresh:
        fresh = {pid for pid, (parent, _) in known.items() if parent in fresh}
        found.update({pid: known[pid][1] for pid in fresh})
    return found


def victims(root: int, kind: str) -> list[int]:
    marks = {"worker": "ray::Worker", "controller": "api.cli controller",
             "web": "api.cli web-process"}  # fmt: skip
    return sorted(pid for pid, words in below(root).items() if marks[kind] in words)


def has(root: int, kind: str, number: int) -> bool:
    return len(victims(root, kind)) == number


def wait(true: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`evosearch serve` with two real Ray workers, and its address."""
    process = begin(tmp_path, "serve", "--port", "0", "--workers", "2")
    assert process.stdout is not None
    line = process.stdout.readline()
    # Its log must not fill the pipe.
    log = threading.Thread(target=lambda: [*process.stderr], daemon=True)  # type: ignore[misc]
    log.start()
    try:
        yield process, line.split()[-1].rstrip("/")
    finally:
        everyone = set(below(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 128 + signal.SIGTERM
        wait(lambda: not everyone & set(processes()), "the end of every process", 60)
        log.join(10)
        for pipe in (process.stdout, process.stderr):
            pipe.close()  # type: ignore[union-attr]


def check_order(
    order: tuple[str, ...], service: tuple[subprocess.Popen[str], str], key: str
) -> None:
    process, url = service
    seen: list[Event] = []
    with Client(url, timeout=120) as client:
        wait(lambda: answers(url), "the web process")
        body = {"preset": "quickstart", "overrides": overrides()}
        made = client.create(**body, key=key)

    def watch() -> None:
        with Client(url, timeout=120) as watcher:
            seen.extend(watcher.watch(made.id))

    def done(kind: str) -> int:
        return sum(event.kind == kind for event in [*seen])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for number, kind in enumerate(order):
        goal = 2 + 3 * number
        wait(lambda goal=goal: done("candidate_evaluated") >= goal, f"{goal} evaluations")  # type: ignore[misc]
        # After the controller's death there is none for a moment.
        there = wait(partial(victims, process.pid, kind), f"a {kind} to kill")
        os.kill(there[0], signal.SIGKILL)
        assert client_create(url, body, key) == made.id
    watcher.join(240)
    assert not watcher.is_alive(), Counter(event.kind for event in seen)
    with Client(url, timeout=120) as client:
        found = client.search(made.id)
        assert found.status == "finished"
        assert found.evaluated >= EVALUATIONS
        assert client.create(**body, key=key).id == made.id
        assert len(client.searches()) == 1
    # Each event once and in order: numbers have no gap, and the last one ends the search.
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert (seen[-1].kind, seen[-1].data["status"]) == ("status_changed", "finished")
    for kind, number in {"worker": 2, "controller": 1, "web": 1}.items():
        wait(partial(has, process.pid, kind, number), f"{number} x {kind} again")
    births = [event.data["birth"] for event in seen if event.kind == "candidate_evaluated"]
    assert len(births) == len(set(births))


def answers(url: str) -> bool:
    try:
        return httpx.get(url + "/healthz", timeout=5).is_success
    except httpx.TransportError:
        return False


def client_create(url: str, body: dict[str, Any], key: str) -> str:
    """The id of a create that is retried until the web process answers again."""

    def attempt() -> str | None:
        try:
            with Client(url, timeout=30) as client:
                return client.create(**body, key=key).id
        except httpx.TransportError:
            return None

    return str(wait(attempt, "an answer to the retried create"))


def test_every_process_may_be_killed_while_a_client_watches(
    service: tuple[subprocess.Popen[str], str],
) -> None:
    check_order(ORDERS[0], service, "monday")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_in_any_order(order: tuple[str, ...], service: tuple[subprocess.Popen[str], str]) -> None:
    check_order(order, service, "-".join(order))
