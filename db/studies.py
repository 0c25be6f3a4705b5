"""Studies after a search, item by item: what was planned, trained, read and concluded.

A study belongs to a search and changes nothing of it. Items are JSON under a name; whoever runs the
study says what they mean. This file must not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, insert, select, update

from db.engine import begin
from db.schema_service import studies
from db.sql_store import SqlStore


@dataclass(frozen=True, slots=True)
class Item:
    """One item: when it was last written, and what it says."""

    at: datetime
    payload: dict[str, Any]


class Studies:
    """The studies of one store's searches."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine

    def add(self, search_id: str, study: str, item: str, payload: Mapping[str, Any]) -> bool:
        """Write an item that must not change again; returns whether it was not there yet."""
        row = _row(search_id, study, item, payload)
        mine = _is(search_id, study, item)
        with begin(self._engine, write=True) as connection:
            if connection.execute(select(studies.c.item).where(*mine)).first() is not None:
                return False
            connection.execute(insert(studies), row)
        return True

    def put(self, search_id: str, study: str, item: str, payload: Mapping[str, Any]) -> None:
        """Write an item in place of an older one."""
        row = _row(search_id, study, item, payload)
        mine = _is(search_id, study, item)
        with begin(self._engine, write=True) as connection:
            changed = connection.execute(update(studies).where(*mine).values(row))
            if not changed.rowcount:
                connection.execute(insert(studies), row)

    def items(self, search_id: str, study: str, kind: str) -> dict[str, Item]:
        """Items named ``kind/NAME``, by name, in the order of their names."""
        wanted = (
            select(studies.c.item, studies.c.at, studies.c.payload)
            .where(
                studies.c.search_id == search_id, studies.c.study == study,
                studies.c.item.startswith(f"{kind}/", autoescape=True),
            )
            .order_by(studies.c.item)
        )  # fmt: skip
        with begin(self._engine) as connection:
            rows = connection.execute(wanted).all()
        return {
            row.item.removeprefix(f"{kind}/"): Item(row.at, json.loads(row.payload)) for row in rows
        }

    def item(self, search_id: str, study: str, item: str) -> Item | None:
        """The item of that name, if there is one."""
        wanted = select(studies.c.at, studies.c.payload).where(*_is(search_id, study, item))
        with begin(self._engine) as connection:
            row = connection.execute(wanted).first()
        return None if row is None else Item(row.at, json.loads(row.payload))

    def of(self, search_id: str) -> list[str]:
        """Names of a search's studies, the one that began first before the others."""
        began = func.min(studies.c.at)
        wanted = (
            select(studies.c.study)
            .where(studies.c.search_id == search_id)
            .group_by(studies.c.study)
            .order_by(began, studies.c.study)
        )
        with begin(self._engine) as connection:
            return list(connection.execute(wanted).scalars())


def _row(search_id: str, study: str, item: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "search_id": search_id, "study": study, "item": item, "at": datetime.now(UTC),
        "payload": json.dumps(dict(payload), sort_keys=True),
    }  # fmt: skip


def _is(search_id: str, study: str, item: str) -> tuple[Any, ...]:
    return studies.c.search_id == search_id, studies.c.study == study, studies.c.item == item
