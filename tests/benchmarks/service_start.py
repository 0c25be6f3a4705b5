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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from db.sql_store import SqlStore
from evosearch.client import Client
from evosearch.events import EvaluationRecorded, JobQueued

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
    with Client(url) as client:
        for word, status in (("pause", "paused"), ("resume", "running")):
            sent = time.monotonic()
            client.command(search_id, word)
            since(f"{word} obeyed", lambda to=status: store.search(search_id).status == to, sent)  # type: ignore[misc]
    store.close()
    return times


def answers(url: str) -> bool:
    """Whether the web process serves."""
    try:
        return httpx.get(f"{url}/readyz", timeout=10).is_success
    except httpx.TransportError:
        return False
