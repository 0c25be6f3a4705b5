"""How long a fresh `evosearch serve --quickstart` takes to its first events, and how it obeys."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from db.controllers import Controllers
from db.queries import Queries
from db.sql_store import SqlStore
from evosearch.client import Client
from evosearch.events import CandidateEvaluated, EvaluationRecorded, JobQueued

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0


def starts(count: int) -> dict[str, Any]:
    """Medians and ranges, in seconds, of so many fresh starts; empty for none."""
    found = [start() for _ in range(count)]
    return {
        name: {"median": round(statistics.median(values), 2), "low": round(min(values), 2),
               "high": round(max(values), 2), "n": count}
        for name in (found[0] if found else ())
        if (values := [one[name] for one in found])
    }  # fmt: skip


def start() -> dict[str, float]:
    """One start in a folder of its own: seconds from the command to each milestone."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve", "--quickstart", "--port", "0"], cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            return milestones(process, Path(folder), begun)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)


def milestones(process: subprocess.Popen[str], folder: Path, begun: float) -> dict[str, float]:
    """What happened when, and how long commands took to act."""
    assert process.stdout is not None
    search_id, url = "", ""
    while not url:
        words = process.stdout.readline().split()
        if words[:2] == ["new", "search"]:
            search_id = words[2]
        elif words[:1] == ["evosearch"]:
            url = words[-1].rstrip("/")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    store = SqlStore(f"sqlite:///{folder}/evosearch.db")
    times = {"address printed": time.monotonic() - begun}

    def since(name: str, true: Callable[[], bool], begin: float) -> None:
        while not true():
            if time.monotonic() - begin > PATIENCE or process.poll() is not None:
                raise RuntimeError(f"waited in vain: {name}")
            time.sleep(0.02)
        times[name] = time.monotonic() - begin

    def happened(kind: type) -> bool:
        return any(isinstance(entry.event, kind) for entry in store.events(search_id))

    since("page served", lambda: answers(url), begun)
    since("first job queued", lambda: happened(JobQueued), begun)
    since("first training done", lambda: happened(EvaluationRecorded), begun)
    since("first candidate evaluated", lambda: happened(CandidateEvaluated), begun)
    times |= {f"{word} obeyed": seconds for word, seconds in obeyed(url, store, search_id).items()}
    store.close()
    return times


def obeyed(url: str, store: SqlStore, search_id: str) -> dict[str, float]:
    """Seconds by the wall clock from each command's request to what it does; it is over then.

    The search must run, with an evaluated candidate. A second one, made here, is what the first
    one's priority is against; it is deleted in the end. Priorities act on new jobs: where those at
    hand are long, their end is measured too.
    """
    queries, controllers, found = Queries(store), Controllers(store), {}
    config = store.search(search_id).config.model_dump(mode="json")

    def events(kind: str) -> list[Any]:
        rows = store.events(search_id, before)
        return [entry.event for entry in rows if entry.event.kind == kind]

    def measure(name: str, act: Callable[[], Any], true: Callable[[], bool]) -> None:
        begin = time.monotonic()
        act()
        while not true():
            if time.monotonic() - begin > PATIENCE:
                raise RuntimeError(f"waited in vain: {name}")
            time.sleep(0.02)
        found[name] = time.monotonic() - begin

    def status(name: str = search_id) -> str:
        return store.search(name).status

    def held(name: str) -> bool:
        return any(one.alive and name in one.searches for one in controllers.list())

    def shares() -> Counter[str]:
        alive = [one for one in controllers.list() if one.alive]
        return Counter(worker.get("search") for one in alive for worker in one.workers)

    with Client(url, timeout=60) as client:
        best = next(one.birth for one in client.candidates(search_id, state="evaluated"))
        before = store.search(search_id).last_seq
        measure("pause", lambda: client.command(search_id, "pause"), lambda: status() == "paused")
        measure("resume", lambda: client.command(search_id, "resume"),
                lambda: status() == "running")  # fmt: skip
        measure("extend", lambda: client.command(search_id, "extend", evaluations=10**6),
                lambda: queries.search_row(search_id).budget == 10**6)  # fmt: skip
        measure("enqueue", lambda: client.command(search_id, "enqueue", formula="tanh(v1 * x)"),
                lambda: any(one.origin == "enqueued" for one in events("candidate_queued"))
                or bool(events("enqueued_refused")))  # fmt: skip
        again = f"candidates/{best}/remeasure"
        measure("remeasure", lambda: client.command(search_id, again, seeds=1),
                lambda: any(one.purpose == "remeasure" and one.subject.birth == best
                            for one in events("job_queued")))  # fmt: skip
        other = client.create(config=config).id
        until = time.monotonic() + PATIENCE
        while not held(other) and time.monotonic() < until:
            time.sleep(0.1)
        shared = shares()[search_id]
        measure("priority", lambda: httpx.patch(f"{url}/api/v1/searches/{other}",
                                                json={"priority": 100}).raise_for_status(),
                lambda: shares()[search_id] < shared or shared < 2)  # fmt: skip
        measure("delete", lambda: client.delete(other), lambda: not held(other))
        measure("stop", lambda: client.command(search_id, "stop"), lambda: status() == "stopped")
    return found


def answers(url: str) -> bool:
    """Whether the web process serves."""
    try:
        return httpx.get(f"{url}/readyz", timeout=10).is_success
    except httpx.TransportError:
        return False
