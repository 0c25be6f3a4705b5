"""Fixtures of the contract tests: the three stores, each empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.memory import MemoryStore
from db.sql_store import SqlStore
from evosearch.ports import Store
from tests.support.postgres import Server, postgres

__all__ = ["postgres"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SqlStore(f"{tmp_path}/store.db")
    else:
        server: Server = request.getfixturevalue("postgres")
        made = SqlStore(server.new_database())
    yield made
    made.close()


@pytest.fixture
def sql_store(url: str) -> Iterator[SqlStore]:
    """An empty SQL store of each kind."""
    made = SqlStore(url)
    yield made
    made.close()
