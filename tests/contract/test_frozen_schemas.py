"""A database of every released schema upgrades, and nothing in it is lost."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from db.backfill import fill_candidates
from db.candidate_pages import CandidatePages, Wanted
from db.check import check
from db.migrate import HEAD
from db.queries import Queries
from db.schema import REVISIONS
from db.sql_store import SqlStore, upgrade
from evosearch.events import JobLost
from evosearch.ports import Pause
from evosearch.records import Failure
from primitives.printer import format_formula
from primitives.properties import stored_properties
from primitives.structure import analyse
from tests.support.events import CREATED, RandomSearch, evaluation, queued

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


TO_0004 = """
DROP TABLE stars; DROP TABLE studies;
DROP INDEX ix_candidates_nodes; DROP INDEX ix_candidates_seconds; DROP INDEX ix_candidates_seeds;
DROP INDEX ix_candidates_seeds_score; DROP INDEX ix_candidates_step_time;
DROP INDEX ix_candidates_audit; DROP INDEX ix_evaluations_later; DROP TABLE scores;
ALTER TABLE candidates DROP COLUMN step_time; ALTER TABLE candidates DROP COLUMN attempts;
ALTER TABLE searches DROP COLUMN added_at; ALTER TABLE searches DROP COLUMN ready;
UPDATE candidates SET state = 'queued' WHERE state IN ('running', 'lost');
DELETE FROM tallies WHERE stage = 'state' AND code IN ('running', 'lost');
UPDATE tallies SET count = (SELECT count(*) FROM candidates WHERE state = 'queued')
WHERE stage = 'state' AND code = 'queued';
UPDATE alembic_version SET version_num = '0004';
"""


def test_states_that_older_schemas_did_not_tell_are_told_by_the_events(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqlStore(str(path))
    store.create(ID, "", CREATED)
    lease = store.acquire(ID, "me", 60)
    for batch in itertools.islice(RandomSearch(3).batches(), 40):
        store.append(lease, batch)
    gone = [JobLost(id=f"c{birth}", failure=Failure(cause="died"), attempt=1)
            for birth in (10**6, 10**6 + 1)]  # fmt: skip
    store.append(lease, [queued(10**6 + number) for number in range(4)])
    store.append(lease, [evaluation(10**6 + 2, "resnet", 0.5), *gone])
    store.append(lease, [evaluation(10**6 + 1, "resnet", 0.5)])
    before = CandidatePages(store).page(ID, Wanted(), 500)[0]
    assert [row["state"] for row in before[:4]] == ["queued", "running", "running", "lost"]
    assert [row["attempts"] for row in before[:4]] == [1, 1, 2, 2]
    store.close()
    with sqlite3.connect(path) as plain:
        plain.executescript(TO_0004)
    plain.close()
    assert upgrade(str(path)) == ("0004", HEAD)
    store = SqlStore(str(path))
    assert CandidatePages(store).page(ID, Wanted(), 500)[0] == before
    assert check(store) == []
    store.close()
