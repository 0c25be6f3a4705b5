"""Fixtures of the integration tests: empty databases of either kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgres import Server, postgres

__all__ = ["postgres"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()
