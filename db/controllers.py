"""Who runs searches: one row a controller, renewed every few seconds, judged by the store's clock.

A controller writes here what it offers (anchors, data sets, presets, versions), so that the web
process can say so without importing what trains. This file must not know what an offer means.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Float, cast, delete, insert, literal_column, select, update

from db.engine import begin, database_clock
from db.schema_service import controllers
from db.sql_store import SqlStore

ALIVE_SECONDS = 10.0
"""A controller that was seen within so many seconds counts as alive."""


@dataclass(frozen=True, slots=True)
class ControllerRow:
    """A controller: where it runs, what it trains with, and how long ago it was seen."""

    owner: str
    host: str
    pid: int
    pool: str
    started_at: datetime
    age: float
    capacity: int
    workers: list[dict[str, Any]]
    searches: list[str]

    @property
    def alive(self) -> bool:
        """Whether it was seen a moment ago."""
        return self.age <= ALIVE_SECONDS


class Controllers:
    """The controllers of a store."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine
        self._clock: Any = cast(literal_column(database_clock(store.engine)), Float)

    def register(self, owner: str, host: str, pid: int, pool: str, offers: dict[str, Any]) -> None:
        """Begin a controller's row anew; rows that are long dead go."""
        row = {
            "owner": owner, "host": host, "pid": pid, "pool": pool, "capacity": 0,
            "started_at": datetime.now(UTC), "seen_at": self._clock, "workers": "[]",
            "searches": "[]", "offers": json.dumps(offers),
        }  # fmt: skip
        old = controllers.c.seen_at < self._clock - 86_400.0
        with begin(self._engine, write=True) as connection:
            connection.execute(delete(controllers).where((controllers.c.owner == owner) | old))
            connection.execute(insert(controllers).values(**row))

    def beat(
        self, owner: str, capacity: int, workers: list[dict[str, Any]], searches: list[str]
    ) -> None:
        """The controller is alive, and this is what its workers do."""
        told = {
            "seen_at": self._clock, "capacity": capacity, "workers": json.dumps(workers),
            "searches": json.dumps(searches),
        }  # fmt: skip
        mine = update(controllers).where(controllers.c.owner == owner)
        with begin(self._engine, write=True) as connection:
            connection.execute(mine.values(**told))

    def leave(self, owner: str) -> None:
        """The controller ends; what it offers stays known."""
        mine = update(controllers).where(controllers.c.owner == owner)
        with begin(self._engine, write=True) as connection:
            connection.execute(
                mine.values(seen_at=self._clock - 3600.0, workers="[]", searches="[]")
            )

    def list(self) -> list[ControllerRow]:
        """All controllers, the last seen one first."""
        age = (self._clock - controllers.c.seen_at).label("age")
        names = ("owner", "host", "pid", "pool", "started_at")
        wanted = select(
            *(controllers.c[name] for name in names), age, controllers.c.capacity,
            controllers.c.workers, controllers.c.searches,
        ).order_by(controllers.c.seen_at.desc())  # fmt: skip
        with begin(self._engine) as connection:
            rows = connection.execute(wanted).all()
        return [
            ControllerRow(*row[:5], max(0.0, row.age), row.capacity, json.loads(row.workers),
                          json.loads(row.searches))
            for row in rows
        ]  # fmt: skip

    def pool_of(self, search_id: str) -> int | None:
        """Workers of the controllers that run the search now, dead ones left out.

        Returns:
            None where no living controller runs it.
        """
        rows = [one for one in self.list() if one.alive and search_id in one.searches]
        if not rows:
            return None
        return sum(1 for row in rows for one in row.workers if one.get("state") != "dead")

    def offers(self) -> dict[str, Any] | None:
        """What the controller that was seen last offers; None before the first one."""
        wanted = select(controllers.c.offers).order_by(controllers.c.seen_at.desc()).limit(1)
        with begin(self._engine) as connection:
            text = connection.execute(wanted).scalar()
        return None if text is None else dict(json.loads(text))
