"""`evosearch db` from outside: a search goes from a laptop to a server and back, unharmed."""

from __future__ import annotations

import gzip
import itertools
import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from api.cli import run
from db.sql_store import SqlStore
from db.transfer import FORMAT
from tests.acceptance.command import (
    ROOT,
    age_lease,
    assert_refused,
    begin,
    evaluations,
    evosearch,
    inside,
    start_tiny,
    wait_until,
)
from tests.support.events import CREATED, RandomSearch
from tests.support.postgres import Server, postgres

__all__ = ["postgres"]


def fill(url: str, search_id: str, seed: int) -> None:
    """A random search in that database."""
    store = SqlStore(url)
    store.create(search_id, f"title of {search_id}", CREATED)
    lease = store.acquire(search_id, "me", 60)
    for batch in itertools.islice(RandomSearch(seed).batches(), 40):
        store.append(lease, batch)
    store.release(lease)
    store.close()


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    """A folder with a database of two searches."""
    for search_id, seed in (("aaaa2345", 1), ("bbbb2345", 2)):
        fill(f"{tmp_path}/evosearch.db", search_id, seed)
    return tmp_path


def test_from_a_laptop_into_a_cluster_and_back(laptop: Path, postgres: Server) -> None:
    cluster = postgres.new_database()
    fill(cluster, "cccc2345", 3)
    out = evosearch(laptop, "db", "export", "aaaa", "--out", "one.jsonl")
    assert (out.returncode, out.stdout) == (0, "exported 1 search to one.jsonl\n"), out.stderr
    came = inside(laptop, "db", "import", "one.jsonl", "--db", cluster)
    assert (came.returncode, came.stdout) == (0, "added aaaa2345\n"), came.stderr
    again = inside(laptop, "db", "import", "one.jsonl", "--db", cluster)
    assert again.stdout == "aaaa2345 is there already, event by event\n", again.stderr
    whole = inside(laptop, "db", "check", "--db", cluster)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert whole.stdout.startswith("whole: 2 searches, ")
    back = inside(laptop, "db", "export", "aaaa2345", "--db", cluster)
    assert back.stdout == (laptop / "one.jsonl").read_text()
    assert "exported 1 search" in back.stderr


def test_another_search_of_the_same_id_is_one_clear_line(laptop: Path, tmp_path: Path) -> None:
    fill(f"{tmp_path}/other.db", "aaaa2345", 9)
    made = inside(laptop, "db", "export", "--out", "all.jsonl.gz")
    assert made.stdout == "exported 2 searches to all.jsonl.gz\n", made.stderr
    head = gzip.decompress((laptop / "all.jsonl.gz").read_bytes()).splitlines()[0]
    assert json.loads(head) == FORMAT
    done = inside(laptop, "db", "import", "all.jsonl.gz", "--db", "other.db")
    assert_refused(done, "another search aaaa2345", "difference at event", "nothing was")


def test_a_backup_is_whole_and_damage_is_told(laptop: Path) -> None:
    saved = inside(laptop, "db", "backup", "copy.db")
    assert saved.returncode == 0, saved.stderr
    assert saved.stdout.startswith("copy.db: ")
    assert inside(laptop, "db", "vacuum").stdout == "done\n"
    assert inside(laptop, "db", "check", "--db", "copy.db").returncode == 0
    with sqlite3.connect(laptop / "copy.db") as connection:
        connection.execute("UPDATE candidates SET worker = 'x' WHERE state = 'evaluated'")
    connection.close()
    damaged = inside(laptop, "db", "check", "--db", "copy.db")
    assert damaged.returncode == 1
    assert "search aaaa2345: table candidates: " in damaged.stdout
    assert "worker is 'x'" in damaged.stdout
    one = inside(laptop, "db", "check", "bbbb", "--db", "copy.db")
    assert "aaaa2345" not in one.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "zzzz"], ["no such search"]),
        (["export", "--out", "evosearch.db"], ["this file exists"]),
        (["export", "--out", "no/a.jsonl"], ["no folder for the export"]),
        (["backup", "evosearch.db"], ["this file exists"]),
        (["backup", "no/copy.db"], ["no folder for the backup"]),
        (["import", "none.jsonl", "--db", "new.db"], ["cannot be read", "none.jsonl"]),
        (["import", "evosearch.db", "--db", "new.db"], ["cannot be read"]),
        (["import", "cut.jsonl.gz", "--db", "new.db"], ["cannot be read", "cut.jsonl.gz"]),
        (["import", "rubbish.jsonl", "--db", "new.db"], ["no whole export", "line 1"]),
        (["check", "--db", "none.db"], ["no database"]),
        (["check", "--db", "memory:"], ["keeps nothing"]),
        (["vacuum", "--db", "rubbish.jsonl"], ["no SQLite database"]),
    ],
)
def test_what_is_wrong_is_one_line(
    laptop: Path,
    arguments: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    head = (json.dumps(FORMAT) + "\n").encode()
    (laptop / "rubbish.jsonl").write_text("{}\n" * 1000)
    (laptop / "cut.jsonl.gz").write_bytes(gzip.compress(head)[:-12])
    monkeypatch.chdir(laptop)
    monkeypatch.delenv("EVOSEARCH_DB", raising=False)
    assert run(["db", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("evosearch: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err
    assert not list(laptop.glob("*.partial"))


PAGE = (ROOT / "docs" / "store.md").read_text()
LINES = [
    line.split("#")[0].split() for line in PAGE.splitlines() if line.startswith("    evosearch")
]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_the_page_about_the_database_names_commands_that_exist(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words[1:3], "--help"]) == 0
    told = capsys.readouterr().out
    assert f"evosearch {words[1]} {words[2]}" in told
    for word in words:
        if word.startswith("--"):
            assert f" {word} " in told, f"{word} is no option"


def test_a_locked_database_is_waited_for_and_then_told(tmp_path: Path) -> None:
    """Patience, here of three seconds, then one line; the search lies whole and goes on."""
    code = (
        "from db.sql_store import SqlStore; from api.cli import main; "
        "SqlStore.__init__.__kwdefaults__['busy_seconds'] = 3.0; main()"
    )
    process = begin(tmp_path, *start_tiny(8), command=(sys.executable, "-c", code))
    wait_until(lambda: evaluations(tmp_path) > 2, process)
    with closing(sqlite3.connect(tmp_path / "evosearch.db", isolation_level=None)) as other:
        locked = time.monotonic()
        other.execute("BEGIN IMMEDIATE")
        kept = evaluations(tmp_path)
        listed = inside(tmp_path, "search", "list")
        assert listed.returncode == 0, listed.stderr
        _, said = process.communicate(timeout=120)
        assert time.monotonic() - locked > 2.0
        other.execute("ROLLBACK")
    assert process.returncode == 2
    assert "locked by another program; got database is locked; close it, then try again" in said
    assert evaluations(tmp_path) == kept
    age_lease(tmp_path, 12.0)  # it could not be given back
    done = inside(tmp_path, *start_tiny(8))
    assert done.returncode == 0, done.stderr
    assert evaluations(tmp_path) >= 8
    assert inside(tmp_path, "db", "check").returncode == 0
