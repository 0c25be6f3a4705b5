"""Two controllers fight for one search: one owner at a time, and nothing is written twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from db.check import check
from db.sql_store import SqlStore
from evosearch.events import EvaluationRecorded, StatusChanged
from tests.support.events import CREATED

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("EVOSEARCH_RACE_SECONDS", "4"))


def test_two_controllers_race_for_one_search(url: str) -> None:
    store = SqlStore(url)
    store.create("race", "", CREATED)
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.racer", url, owner, str(SECONDS)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for owner in ("one", "two")
    ]  # fmt: skip
    told = [racer.communicate(timeout=SECONDS + 120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], told
    counts = [Counter(json.loads(out)) for out, _ in told]
    assert all(count["owned"] > 2 for count in counts), counts
    assert sum(count["lost"] for count in counts) > 0, "no late writer was met"

    log = list(store.events("race"))
    assert [one.seq for one in log] == list(range(1, len(log) + 1))
    owners: dict[int, str] = {}
    epochs = []
    for stored in log:
        if isinstance(stored.event, StatusChanged):
            owner, epoch = stored.event.reason.split()
            assert owners.setdefault(int(epoch), owner) == owner
            epochs.append(int(epoch))
    assert epochs == sorted(epochs), "an owner wrote after the next one had begun"
    assert set(owners.values()) == {"one", "two"}
    runs = [
        (one.event.job_id, one.event.evaluation.anchor)
        for one in log
        if isinstance(one.event, EvaluationRecorded)
    ]
    assert len(set(runs)) == len(runs) > 2
    assert check(store) == []
    store.close()
