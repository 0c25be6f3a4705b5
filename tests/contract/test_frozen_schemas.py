"""A database of every released schema upgrades, and nothing in it is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from db.backfill import fill_candidates
from db.candidate_pages import CandidatePages, Wanted
from db.check import check
from db.migrate import HEAD
from db.queries import Queries
from db.schema import REVISIONS
from db.sql_store import SqlStore, upgrade
from evosearch.ports import Pause
from primitives.printer import format_formula
from primitives.properties import stored_properties
from primitives.structure import analyse
from tests.support.events import queued

GOLDEN = Path(__file__).parents[1] / "golden"
ID = "frozen01"


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_database_upgrades(revision: str, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copyfile(GOLDEN / f"schema-{revision}.db", path)
    told = json.loads((GOLDEN / f"schema-{revision}.json").read_text())
    assert upgrade(str(path)) == (revision, HEAD)
    store = SqlStore(str(path))
    info = store.search(ID)
    for name in ("last_seq", "evaluated", "hypervolume", "status"):
        assert getattr(info, name) == told[name]
    assert len(list(store.events(ID))) == told["last_seq"]
    assert check(store) == []
    front = {str(row.birth): row.scores for row in Queries(store).front(ID)}
    assert {birth: list((scores or {}).values()) for birth, scores in front.items()} == told[
        "front"
    ]
    lease = store.acquire(ID, "me", 60)
    assert [one.command for one in store.commands(lease)] == [Pause()]
    assert store.append(lease, [queued(10**6)]) == told["last_seq"] + 1
    assert check(store) == []
    store.close()


@pytest.mark.parametrize("revision", REVISIONS)
def test_its_candidates_get_what_newer_ones_have(revision: str, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copyfile(GOLDEN / f"schema-{revision}.db", path)
    upgrade(str(path))
    store = SqlStore(str(path))
    rows, cursor = CandidatePages(store).page(ID, Wanted(sort="birth"), 500)
    assert rows
    assert cursor is None
    for row in rows:
        graph = Queries(store).candidate(ID, row["birth"]).candidate.graph
        assert row["formula"] == format_formula(graph)
        assert row["batch_independent"] == analyse(graph).batch_independent
        assert row["properties"] == stored_properties(graph)
    assert fill_candidates(store.engine) == 0  # a second upgrade finds nothing to do
    store.close()
