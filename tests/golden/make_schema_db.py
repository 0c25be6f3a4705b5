"""Writes the frozen database of the newest schema: ``python -m tests.golden.make_schema_db``.

Run it once for each released schema and commit both files, the database and what it holds; it
refuses to replace one.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

from db.admin import backup, vacuum
from db.migrate import HEAD
from db.sql_store import SqlStore
from evosearch.ports import Pause, Snapshot
from tests.support.events import CREATED, RandomSearch

FOLDER = Path(__file__).parent


def main() -> None:
    """Records a small search and copies it here."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore(f"{folder}/store.db")
        store.create("frozen01", "a search of this schema", CREATED)
        lease = store.acquire("frozen01", "maker", 60)
        search = RandomSearch(1)
        for batch in itertools.islice(search.batches(), 60):
            store.append(lease, batch)
        last = store.search("frozen01").last_seq
        store.save(lease, Snapshot(last, '{"version":0}'))
        store.send("frozen01", Pause())
        store.release(lease)
        vacuum(store)
        backup(store, FOLDER / f"schema-{HEAD}.db")
        info = store.search("frozen01")
        told = {
            "last_seq": info.last_seq, "evaluated": info.evaluated,
            "hypervolume": info.hypervolume, "status": info.status,
            "front": {birth: search.scores[birth] for birth in sorted(search.front)},
        }  # fmt: skip
        (FOLDER / f"schema-{HEAD}.json").write_text(json.dumps(told, indent=1) + "\n")
        store.close()


if __name__ == "__main__":
    main()
