"""kill -9 of the web process and of the controller while a client watches: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from api.settings import as_variables, load_settings
from api.supervisor import Child, Supervisor, python_command
from api.web import bind
from db.sql_store import SqlStore
from evosearch.client import Client
from tests.support.service import OFFERS

ROOT = str(Path(__file__).resolve().parents[2])


def children(folder: Path, descriptor: int, url: str) -> list[Child]:
    settings = load_settings({"db": url, "port": 0, "poll_seconds": 0.1})
    env = {**os.environ, **as_variables(settings), "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    controller = [sys.executable, "-m", "tests.support.simulated_controller", url, "me", "0.05"]
    return [
        Child("web", python_command("web-process", str(descriptor)), env, (descriptor,)),
        Child("controller", controller, env),
    ]


@pytest.mark.soak  # test_serve_kills does the same to real workers, once
def test_a_watched_search_survives_every_kill(tmp_path: Path) -> None:
    from db.controllers import Controllers

    url = f"sqlite:///{tmp_path}/store.db"
    store = SqlStore(url)
    Controllers(store).register("earlier", "here", 1, "inline", OFFERS)
    bound = bind(load_settings({"db": url, "port": 0}))
    base = f"http://127.0.0.1:{bound.getsockname()[1]}"
    supervisor = Supervisor(children(tmp_path, bound.fileno(), url))
    supervisor.start()
    seen: list[int] = []
    try:
        with Client(base, timeout=120) as client:
            overrides = {"budget.evaluations": 15, "confirmation.resamples": 50,
                         "confirmation.final_seeds": 3}  # fmt: skip
            made = client.create("quickstart", key="once", overrides=overrides)

        def watch() -> None:
            with Client(base, timeout=120) as watcher:
                seen.extend(event.seq for event in watcher.watch(made.id))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        rng, kills, until = random.Random(1), 0, time.monotonic() + 400
        next_kill = time.monotonic() + 2
        while thread.is_alive() and time.monotonic() < until:
            supervisor.watch(0.1)
            if kills < 4 and time.monotonic() > next_kill:
                victim = supervisor.children[rng.randrange(2)]
                if victim.process is not None and victim.process.poll() is None:
                    os.kill(victim.process.pid, signal.SIGKILL)
                    kills += 1
                next_kill = time.monotonic() + 2 + 2 * rng.random()
        info = store.search(made.id)
        assert info.status == "finished"
        assert kills >= 2
        thread.join(60)
        assert seen == list(range(1, info.last_seq + 1))
        for _ in range(3):
            supervisor.watch(0.1)
        with Client(base, timeout=120) as client:
            again = client.create("quickstart", key="once", overrides=overrides)
        assert again.id == made.id
    finally:
        supervisor.close()
        bound.close()
        store.close()
