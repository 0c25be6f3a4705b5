"""The charts of the searches in a store, for the page and for notebooks alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from api.charts.breakdown import (
    ages,
    births_at,
    primitive_shares,
    simplest,
    simplest_places,
)
from api.charts.funnel import funnel_path
from api.charts.inside import Range, inside
from api.charts.ledger import Ledger
from api.charts.ledgers import Ledgers
from api.charts.progress import progress, throughput
from api.charts.scatter import scatter
from api.rest.chart_schemas import (
    AgesView,
    FunnelPath,
    PrimitiveShares,
    ProgressView,
    ScatterView,
    SimplestView,
    ThroughputView,
)
from db.controllers import Controllers
from db.queries import Queries
from db.queries_log import LogQueries
from db.queries_rest import RestQueries
from db.sql_store import SqlStore
from evosearch.ports import SearchInfo
from evosearch.stats import false_rejection_rate


class Charts:
    """What is drawn of a search. ``gpus_per_worker``: what GPU-hours are counted with."""

    def __init__(self, store: SqlStore, gpus_per_worker: Callable[[], float] = lambda: 0.0) -> None:
        self.ledgers = Ledgers(LogQueries(store))
        self._queries, self._rest = Queries(store), RestQueries(store)
        self._controllers = Controllers(store)
        self._gpus = gpus_per_worker

    def scatter(
        self, info: SearchInfo, x: str, y: str, points: int, ranges: Sequence[Range] = ()
    ) -> ScatterView:
        """Evaluated candidates against two quantities; with ranges those in all of them.

        Raises:
            ConfigError: there is no such quantity in this search.
        """
        with self.ledgers.of(info) as ledger:
            return scatter(ledger, x, y, points, _within(ledger, ranges))

    def formulas(self, info: SearchInfo, births: Sequence[int]) -> dict[int, str | None]:
        """Birth -> formula, of the first thousand of them."""
        return self._rest.formulas(info.id, births)

    def progress(self, info: SearchInfo, points: int, ranges: Sequence[Range] = ()) -> ProgressView:
        """The leader's gain and the hypervolume over the search."""
        with self.ledgers.of(info) as ledger:
            within = _within(ledger, ranges)
            return progress(ledger, info.created_at, info.updated_at, points, self._gpus(), within)

    def funnel(self, info: SearchInfo, ranges: Sequence[Range] = ()) -> FunnelPath:
        """The way from proposals to the front."""
        audit = self._rest.audit(info.id)
        rate = false_rejection_rate(**audit, share=info.config.checks.signal.audit_share)
        rows, states = self._queries.funnel(info.id), self._queries.states(info.id)
        with self.ledgers.of(info) as ledger:
            within = _within(ledger, ranges)
            return funnel_path(ledger, rows, states, rate, audit["audited"], within)

    def throughput(
        self, info: SearchInfo, bins: int, ranges: Sequence[Range] = ()
    ) -> ThroughputView:
        """Outcomes and busy workers over time."""
        with self.ledgers.of(info) as ledger:
            within = _within(ledger, ranges)
            return throughput(ledger, bins, within=within, pool=self._controllers.pool_of(info.id))

    def primitive_shares(
        self, info: SearchInfo, bins: int, ranges: Sequence[Range] = ()
    ) -> PrimitiveShares:
        """Share of proposals, survivors and the front that use each primitive, over births."""
        with self.ledgers.of(info) as ledger:
            return primitive_shares(ledger, bins, _within(ledger, ranges))

    def ages(self, info: SearchInfo, members: int, ranges: Sequence[Range] = ()) -> AgesView:
        """The population: age (outcomes since) against score."""
        with self.ledgers.of(info) as ledger:
            return ages(ledger, members, _within(ledger, ranges))

    def simplest(self, info: SearchInfo, ranges: Sequence[Range] = ()) -> SimplestView:
        """The best candidate of each number of live nodes, and what each further node buys."""
        with self.ledgers.of(info) as ledger:
            places = simplest_places(ledger, _within(ledger, ranges))
            births = births_at(ledger, places)
            return simplest(ledger, places, self.formulas(info, births) if births else {})


def _within(ledger: Ledger, ranges: Sequence[Range]) -> NDArray[np.bool_] | None:
    return inside(ledger, ranges) if ranges else None
