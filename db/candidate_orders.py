"""Orders of candidates, each as parts that an index holds in that order; a page merges the parts.

Most orders are one part. By birth each state is a part of its own; a gain is the mean score but
for the few candidates with fresh seeds; its lower bound is the mean score among those with as many
seeds. Nothing here may sort more than a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, func, select

from db.candidate_filter import Conditions, Wanted
from db.gain_scale import MOST_SEEDS, GainScale
from db.schema import candidates, scores
from evosearch.errors import ConfigError

SORTS = (
    "birth", "mean_score", "live_nodes", "seconds", "seeds", "finished_at", "step_time", "gain",
    "gain_low",
)  # fmt: skip
"""Columns that a page may be ordered by, besides ``score.ANCHOR``.

``gain`` and ``gain_low``: over the better baseline, and its lower bound; the mean score has the
same order before a baseline is trained.
"""


_SCORED = ("mean_score", "finished_at", "gain", "gain_low")


def scored(sort: str) -> bool:
    """Whether only evaluated candidates have a place in the order."""
    return sort in _SCORED or sort.startswith("score.")


@dataclass(frozen=True, slots=True)
class Part:
    """Some candidates of a search in the page's order.

    ``order``: what the index holds them by; ``near``: a column and how much it is above the key,
    where the key is computed from it; ``of_state``: all of them are in a state that was asked for.
    """

    key: ColumnElement[Any]
    birth: ColumnElement[int]
    table: FromClause
    conditions: tuple[ColumnElement[bool], ...]
    order: tuple[ColumnElement[Any], ...]
    near: tuple[ColumnElement[float], float] | None = None
    of_state: bool = False


def parts_of(
    connection: Connection, search_id: str, wanted: Wanted, scale: GainScale | None,
    asked: Conditions,
) -> list[Part]:  # fmt: skip
    """The parts whose union is what the page is taken from.

    Raises:
        ConfigError: there is no such order.
    """
    sort = wanted.sort
    if sort not in SORTS and not sort.startswith("score."):
        raise ConfigError(
            "unknown order", expected=", ".join((*SORTS, "score.ANCHOR")), got=repr(sort)[:60]
        )
    if asked.few:
        key = _key(sort, scale, asked)
        conditions = (*asked.few, *asked.along, key.is_not(None))
        return [Part(key, candidates.c.birth, candidates, conditions, ())]
    if sort.startswith("score."):
        name, columns = sort.removeprefix("score."), scores.c
        order = (columns.score, columns.birth)
        return [Part(columns.score, columns.birth, scores, (columns.name == name,), order)]
    if sort == "birth" and wanted.states:
        birth = candidates.c.birth
        return [
            Part(birth, birth, candidates, (candidates.c.state == state,), (birth,), of_state=True)
            for state in dict.fromkeys(wanted.states)
        ]
    if scale is None or sort not in ("gain", "gain_low"):
        return [_plain(_key(sort, None, asked), tuple(asked.along))]
    return _by_gain(connection, search_id, sort, scale)


def _key(sort: str, scale: GainScale | None, asked: Conditions) -> ColumnElement[Any]:
    """What a page is ordered by. Gains are left above the baseline's score, which is all one."""
    if sort.startswith("score."):
        return asked.score(sort.removeprefix("score."))
    if sort in ("gain", "gain_low"):
        if scale is None:
            return candidates.c.mean_score
        return scale.mean() if sort == "gain" else scale.mean_low()
    # A moment cannot stand in a cursor; the number of the outcome has the same order.
    return candidates.c["outcome_seq" if sort == "finished_at" else sort]


def _plain(key: ColumnElement[Any], within: tuple[ColumnElement[bool], ...]) -> Part:
    """All candidates that have the key, or a key within bounds, by the index on it."""
    birth = candidates.c.birth
    if key is birth:
        return Part(birth, birth, candidates, (), (birth,))
    known = (key.is_not(None),) if candidates.c[str(key.key)].nullable else ()
    return Part(key, birth, candidates, (*known, *within), (key, birth))


def _by_gain(connection: Connection, search_id: str, sort: str, scale: GainScale) -> list[Part]:
    birth, mean = candidates.c.birth, candidates.c.mean_score
    known, order = mean.is_not(None), (mean, birth)
    fresh = sorted(scale.fresh)
    others = (known, birth.not_in(fresh)) if fresh else (known,)
    key = scale.mean() if sort == "gain" else scale.mean_low()
    parts = [Part(key, birth, candidates, (known, birth.in_(fresh)), (key, birth))] if fresh else []
    if sort == "gain" or math.isnan(scale.margins[1]):
        return [*parts, Part(mean, birth, candidates, others, order)]
    for seeds in _held_seeds(connection, search_id):
        margin = scale.margins[min(seeds, MOST_SEEDS)]
        mine = (*others, candidates.c.seeds == seeds)
        near = (mean, margin)
        parts.append(Part(mean - margin, birth, candidates, mine, order, near))
    return parts or [Part(mean, birth, candidates, others, order)]


def _held_seeds(connection: Connection, search_id: str) -> Sequence[int]:
    """The numbers of seeds that candidates have; each is found by one step in the index."""
    mine = (candidates.c.search_id == search_id, candidates.c.mean_score.is_not(None))
    held = select(func.min(candidates.c.seeds).label("seeds")).where(*mine).cte(recursive=True)
    following = select(func.min(candidates.c.seeds)).where(*mine, candidates.c.seeds > held.c.seeds)
    every = held.union_all(
        select(following.correlate(held).scalar_subquery()).where(held.c.seeds.is_not(None))
    )
    wanted = select(every.c.seeds).where(every.c.seeds.is_not(None))
    return connection.execute(wanted).scalars().all()
