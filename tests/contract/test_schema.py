"""The schema's life: migrations equal the tables, and every other database is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

import db.migrations
from db import open_store
from db.engine import open_engine, parse_url
from db.memory import MemoryStore
from db.migrate import HEAD, migrate
from db.schema import REVISIONS, metadata
from db.sql_store import SqlStore, upgrade
from db.states import CANDIDATE_STATES, EXAMPLES_KEPT
from evosearch.errors import StoreError
from tests.support.events import CREATED
from tests.support.postgres import Server


def reflected(engine: Engine) -> dict[str, Any]:
    """Everything that the database says of its tables."""
    found = inspect(engine)
    told = {}
    for name in found.get_table_names():
        if name == "alembic_version":
            continue
        told[name] = {
            "columns": [
                (one["name"], str(one["type"]), one["nullable"], one.get("autoincrement"))
                for one in found.get_columns(name)
            ],
            "pk": found.get_pk_constraint(name),
            "fk": sorted(found.get_foreign_keys(name), key=lambda one: str(one["name"])),
            "unique": sorted(found.get_unique_constraints(name), key=lambda one: str(one["name"])),
            "check": sorted(
                (one["name"], one["sqltext"]) for one in found.get_check_constraints(name)
            ),
            "index": sorted(
                (one["name"], one["column_names"], one["unique"],
                 str(one.get("dialect_options", {}).get(f"{engine.dialect.name}_where")))
                for one in found.get_indexes(name)
            ),
        }  # fmt: skip
    return told


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Two empty databases of one kind."""
    if request.param == "sqlite":
        return f"{tmp_path}/one.db", f"{tmp_path}/two.db"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database(), server.new_database()


def test_migrated_equals_created(urls: tuple[str, str]) -> None:
    one, two = (open_engine(parse_url(url), 1.0) for url in urls)
    try:
        with one.begin() as connection:
            migrate(connection)
        with two.begin() as connection:
            metadata.create_all(connection)
        assert set(reflected(one)) == set(metadata.tables)
        assert _without_schema(reflected(one)) == _without_schema(reflected(two))
        with one.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
    finally:
        one.dispose()
        two.dispose()


def _without_schema(told: dict[str, Any]) -> dict[str, Any]:
    for table in told.values():
        for key in table["fk"]:
            key.pop("referred_schema")
    return told


def test_the_comparison_sees_a_missing_check(tmp_path: Path) -> None:
    engine = open_engine(parse_url(f"{tmp_path}/one.db"), 1.0)
    with engine.begin() as connection:
        migrate(connection)
    before = reflected(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE skip_examples"))
        connection.execute(text("CREATE TABLE skip_examples (search_id TEXT)"))
    assert reflected(engine) != before
    engine.dispose()


def test_the_migrations_are_those_that_the_program_knows() -> None:
    folder = Path(str(db.migrations.__file__)).parent
    scripts = ScriptDirectory(str(folder)).walk_revisions()
    assert tuple(reversed([script.revision for script in scripts])) == REVISIONS
    first = (folder / "versions" / "v0001_first_schema.py").read_text()
    assert "from db" not in first


def test_words_of_the_rules_stand_in_the_schema() -> None:
    checks = " ".join(
        str(getattr(one, "sqltext", "")) for one in metadata.tables["candidates"].constraints
    )
    assert all(f"'{state}'" in checks for state in CANDIDATE_STATES)
    examples = metadata.tables["skip_examples"].constraints
    assert any(f"AND {EXAMPLES_KEPT - 1}" in str(getattr(one, "sqltext", "")) for one in examples)


def test_opening_twice_keeps_everything(url: str) -> None:
    first = SqlStore(url)
    first.create("aa", "kept", CREATED)
    first.close()
    second = SqlStore(url)
    assert second.search("aa").title == "kept"
    second.close()


def _set_version(url: str, version: str) -> None:
    engine = open_engine(parse_url(url), 1.0)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    engine.dispose()


def test_a_newer_schema_is_refused(url: str) -> None:
    SqlStore(url).close()
    _set_version(url, "9999")
    with pytest.raises(StoreError, match=r"newer.*9999.*install"):
        SqlStore(url)
    with pytest.raises(StoreError, match="newer"):
        upgrade(url)


def test_an_older_schema_waits_for_an_explicit_upgrade(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(url)
    store.create("aa", "kept", CREATED)
    store.close()
    monkeypatch.setattr("db.migrate.REVISIONS", (*REVISIONS, "next"))
    monkeypatch.setattr("db.migrate.HEAD", "next")
    monkeypatch.setattr("db.sql_store.HEAD", "next")
    with pytest.raises(StoreError, match=r"older.*backup.*evosearch db upgrade"):
        SqlStore(url)


def test_upgrading_what_is_new_enough_changes_nothing(url: str) -> None:
    SqlStore(url).close()
    assert upgrade(url) == (HEAD, HEAD)


def test_upgrading_an_empty_database_creates_it(url: str) -> None:
    assert upgrade(url) == (None, HEAD)
    SqlStore(url).close()


def test_a_database_of_something_else_is_left_alone(url: str) -> None:
    engine = open_engine(parse_url(url), 1.0)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE recipes (id INTEGER)"))
    with pytest.raises(StoreError, match=r"something else.*recipes"):
        SqlStore(url)
    assert inspect(engine).get_table_names() == ["recipes"]
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "delete"
    engine.dispose()


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 200)
    with pytest.raises(StoreError, match=r"no SQLite database.*choose another file"):
        SqlStore(str(path))
    assert path.read_text() == "Dear reader, " * 200
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", r"expected memory:, a path.*got mysql://"),
        ("sqlite://", r"no database file"),
        ("sqlite:///:memory:", r"no database file"),
        ("", r"no database file"),
        ("postgresql://host:port/db", r"bad database URL"),
        ("nowhere/at/all.db", r"expected an existing folder.*mkdir -p nowhere/at"),
    ],
)
def test_bad_urls_say_what_is_expected(
    url: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=message) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder is no database"):
        open_store(str(tmp_path))


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="no PostgreSQL driver")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        open_store("postgresql://someone:secret@127.0.0.1:1/evosearch")
    assert "secret" not in str(caught.value)


def test_every_form_of_url_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (
        "plain.db",
        f"{tmp_path}/absolute.db",
        f"sqlite:///{tmp_path}/u.db",
        "sqlite:///r.db",
    ):
        store = open_store(url)
        store.create("aa", "", CREATED)
        store.close()
    names = {path.name for path in tmp_path.glob("*.db")}
    assert names == {"plain.db", "absolute.db", "u.db", "r.db"}
    assert isinstance(open_store("memory:"), MemoryStore)


def test_sqlite_is_durable_and_checks_its_keys(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    with store.engine.connect() as connection:
        told = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    store.close()
    assert told == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000,
    }  # fmt: skip


def test_the_rules_stand_in_the_database_too(tmp_path: Path) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    store.create("aa", "", CREATED)
    store.close()
    plain = sqlite3.connect(f"{tmp_path}/store.db")
    for change in ("status = 'lost'", "last_seq = 0", "lease_owner = 'me'"):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            plain.execute(f"UPDATE searches SET {change}")
    plain.close()
