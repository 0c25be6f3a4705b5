"""What turns a stored mean score into a gain over the better baseline, as number and expression.

Read from the few trainings that are none of the search itself (baselines, fresh seeds), each once;
so a page of candidates can be ordered by the lower bound of the gain. It must not judge: who leads
and what to make of it stands in the charts' verdict.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Float, case, cast, literal, null, select, text

from db.engine import begin
from db.refusals import not_one
from db.schema import HERE_SINCE, IS_LATER, candidates, evaluations, searches
from db.sql_store import SqlStore
from evosearch.gain import Gain, Samples, better_baseline, gains, with_margin

MOST_SEEDS = 50
"""Beyond so many seeds a margin counts as that of so many."""
KEPT = 32
_READ = ("purpose", "birth", "baseline", "anchor", "seed", "learning_rate", "split", "score",
         "steps", "seconds")  # fmt: skip


@dataclass(frozen=True, slots=True)
class GainScale:
    """``base``: the better baseline's mean score; ``margins``: of 0, 1, ... seeds.

    ``fresh``: birth -> mean score and seeds of a confirmation, which stand alone: the seed that
    chose a candidate flatters it.
    """

    base: float
    margins: tuple[float, ...]
    fresh: Mapping[int, tuple[float, int]]

    def seeds(self, birth: int, seeds: int) -> int:
        """Seeds behind a candidate's gain: the fresh ones alone once there are any."""
        return self.fresh[birth][1] if birth in self.fresh else seeds

    def gain(self, birth: int, mean_score: float | None, seeds: int) -> Gain | None:
        """A candidate's gain; None before it has a score."""
        if mean_score is None:
            return None
        mean, many = self.fresh.get(birth, (mean_score, seeds))
        return with_margin(mean - self.base, self.margins[min(many, MOST_SEEDS)])

    def value(self) -> ColumnElement[float]:
        """The gain as an expression; NULL before a candidate has a score."""
        return self.mean() - literal(self.base, Float)

    def low(self) -> ColumnElement[float]:
        """The lower bound of the gain; the gain itself while no spread over seeds is known."""
        return self.mean_low() - literal(self.base, Float)

    def mean(self) -> ColumnElement[float]:
        """The mean score that the gain is taken from."""
        column: ColumnElement[float] = cast(candidates.c.mean_score, Float)
        if self.fresh:
            means = {birth: mean for birth, (mean, _) in self.fresh.items()}
            column = case(means, value=candidates.c.birth, else_=column)
        return column

    def mean_low(self) -> ColumnElement[float]:
        """The lower bound of that mean."""
        if math.isnan(self.margins[1]):
            return self.mean()
        each = dict(enumerate(self.margins[1:], 1))
        margin = case(each, value=candidates.c.seeds, else_=self.margins[-1])
        if self.fresh:
            known = {one: self.margins[min(n, MOST_SEEDS)] for one, (_, n) in self.fresh.items()}
            margin = case(known, value=candidates.c.birth, else_=margin)
        return self.mean() - margin


@dataclass(slots=True)
class _Known:
    """What was read of a search up to an event."""

    samples: Samples
    rivals: tuple[str, ...]
    last: int = 0
    scale: GainScale | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class GainScales:
    """The scales of a store's searches, each kept and brought up to date when asked for."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._known = OrderedDict[tuple[str, datetime], _Known]()
        self._lock = threading.Lock()

    def of(self, search_id: str) -> GainScale | None:
        """The search's scale now; None before a baseline is trained.

        Raises:
            NotFound: there is no such search.
        """
        stands = select(searches.c.last_seq, HERE_SINCE).where(searches.c.id == search_id)
        with begin(self._store.engine) as connection:
            found = connection.execute(stands).one_or_none()
        if found is None:
            raise not_one(search_id, [])
        last, here_since = found
        with self._lock:
            key = search_id, here_since
            known = self._known.get(key)
            if known is None:
                config = self._store.search(search_id).config
                samples = Samples(config.anchor_names, config.task.learning_rate)
                known = self._known[key] = _Known(samples, tuple(config.confirmation.rivals))
            self._known.move_to_end(key)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        with known.lock:
            if last > known.last and self._read(search_id, known, last):
                known.scale = _scale(known)
            return known.scale

    def _read(self, search_id: str, known: _Known, last: int) -> bool:
        """Takes in what was trained since, up to that event; whether there was anything."""
        mine, seq = evaluations.c.search_id == search_id, evaluations.c.seq
        with begin(self._store.engine) as connection:
            wanted = select(*(evaluations.c[name] for name in _READ)).where(
                mine, seq > known.last, seq <= last, text(IS_LATER)
            )
            rows = connection.execute(wanted.order_by(seq)).mappings().all()
        known.last = last
        for row in rows:
            _take(known.samples, row)
        return bool(rows)


def _take(samples: Samples, row: Mapping[Any, Any]) -> None:
    if row["anchor"] in samples.anchors:
        subject = row["baseline"] if row["birth"] is None else row["birth"]
        samples.add(subject, row["purpose"], list(samples.anchors).index(row["anchor"]), row)


def _scale(known: _Known) -> GainScale | None:
    samples = known.samples
    baseline = better_baseline(samples, known.rivals)
    if baseline is None:
        return None
    seeds = np.arange(MOST_SEEDS + 1)
    flat = np.zeros((len(seeds), len(samples.anchors)))
    margins = gains(flat, seeds, baseline, samples.noise())[3]
    return GainScale(
        float(baseline.means.mean()), tuple(float(one) for one in margins),
        {birth: (float(np.mean(means)), samples.fresh_seeds(birth))
         for birth, means in samples.confirmed().items()},
    )  # fmt: skip


def unknown() -> ColumnElement[float]:
    """The gain of a search without a baseline."""
    return cast(null(), Float)
