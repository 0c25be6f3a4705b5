"""The recorded outcomes of Ray workers, replayed from the command line, give the same proposals."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from api.cli import run
from db.sql_store import SqlStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.presets import load_preset
from tests.acceptance.command import TINY
from workers.ray_pool import RayPool

ID = "aaaa2345"


def test_a_search_of_ray_workers_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    store, pool = SqlStore(url), RayPool(2)
    overrides = [*TINY[1::2], "budget.evaluations=8", "confirmation.resamples=50"]
    config = load_preset("quickstart", overrides, seed=1)
    store.create(ID, "", ev.Created(config=config))
    try:
        lease = store.acquire(ID, "me", 3600)
        running = Controller(store, pool, lease, clock=time.perf_counter)
        state = running.run()
    finally:
        pool.close()
        store.close()
    assert state.status == "finished"
    assert run(["search", "replay", ID, "--db", url]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"search {ID} replays: {state.seq:,} events")

    connection = sqlite3.connect(tmp_path / "store.db")
    query = "SELECT seq, payload FROM events WHERE kind = 'candidate_queued' ORDER BY seq DESC"
    seq, payload = connection.execute(query).fetchone()
    other = json.loads(payload) | {"digest": "0" * 64}
    connection.execute("UPDATE events SET payload = ? WHERE seq = ?", (json.dumps(other), seq))
    connection.commit()
    connection.close()
    assert run(["search", "replay", ID, "--db", url]) == 1
    told = capsys.readouterr().out
    assert f"differs at event {seq} (candidate_queued): digest is " in told
    assert told.count("\n") == 1
