"""Two real controllers fight for one search, and what must hold of its log."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from db.check import check
from db.sql_store import SqlStore
from evosearch.events import Created, EvaluationRecorded
from evosearch.presets import load_preset
from evosearch.replay import replay
from tests.support.racer import ID

ROOT = Path(__file__).parents[2]
OWNERS = ("one", "two")


def race(url: str, seconds: float) -> dict[str, Any]:
    """Lets them fight for so long; fails unless all holds. Returns what happened, in figures."""
    store = SqlStore(url)
    overrides = ["budget.evaluations=1000000", "evolution.remeasure_every=4",
                 "evolution.choose_of=1"]  # fmt: skip
    store.create(ID, "", Created(config=load_preset("quickstart", overrides, seed=5)))
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.racer", url, owner, str(seconds)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for owner in OWNERS
    ]  # fmt: skip
    said = [racer.communicate(timeout=seconds + 180) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], said
    told = {owner: json.loads(out) for owner, (out, _) in zip(OWNERS, said, strict=True)}
    log = list(store.events(ID))
    assert [one.seq for one in log] == list(range(1, len(log) + 1)), "numbers are not dense"
    changes = owner_changes({owner: one["written"] for owner, one in told.items()}, len(log))
    runs = Counter(
        (one.event.job_id, one.event.evaluation.anchor, one.event.evaluation.seed,
         one.event.evaluation.learning_rate)
        for one in log if isinstance(one.event, EvaluationRecorded)
    )  # fmt: skip
    twice = sum(count - 1 for count in runs.values())
    assert runs
    assert twice == 0, "an evaluation was recorded twice"
    assert replay(log).difference is None
    assert check(store) == []
    store.close()
    counts = {owner: one["told"] for owner, one in told.items()}
    return {
        "seconds": seconds, "events": len(log), "evaluations": len(runs),
        "evaluations recorded twice": twice, "changes of the owner that wrote": changes,
        "leases taken": {owner: one["owned"] for owner, one in counts.items()},
        "late writers refused": sum(one.get("lost", 0) for one in counts.values()),
        "leases refused": sum(one.get("held", 0) for one in counts.values()),
    }  # fmt: skip


def owner_changes(written: dict[str, list[list[int]]], last: int) -> int:
    """How often the writer changed; fails unless each event has one writer, in order of epochs."""
    parts = sorted((first, end, epoch, owner) for owner, rows in written.items()
                   for epoch, first, end in rows)  # fmt: skip
    following, epochs, owners = 2, 0, dict[int, str]()
    for first, end, epoch, owner in parts:
        assert first == following, f"event {min(first, following)} was written by nobody or twice"
        assert epoch >= epochs, "an owner wrote after the next one had begun"
        assert owners.setdefault(epoch, owner) == owner, "two owners of one epoch"
        following, epochs = end + 1, epoch
    assert following == last + 1, "events that nobody wrote"
    every = [owner for _, _, _, owner in parts]
    return sum(one != other for one, other in pairwise(every))
