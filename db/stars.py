"""Stars that readers give to candidates: notes beside the log, which nothing of a search reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, exists, insert, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from db.refusals import no_candidate, not_one
from db.schema import candidates, searches
from db.schema_service import stars


def set_star(connection: Connection, search_id: str, birth: int, on: bool) -> None:
    """Give the candidate a star, or take it away; again changes nothing.

    Raises:
        NotFound: there is no such search or candidate.
    """
    _expect_search(connection, search_id)
    if on:
        add_star(connection, search_id, birth)
        return
    _expect_candidate(connection, search_id, birth)
    gone = delete(stars).where(stars.c.search_id == search_id, stars.c.birth == birth)
    connection.execute(gone)


def add_star(connection: Connection, search_id: str, birth: int) -> None:
    """Give the candidate a star, also where its search is still coming in.

    Raises:
        NotFound: there is no such candidate.
    """
    _expect_candidate(connection, search_id, birth)
    upsert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    row = {"search_id": search_id, "birth": birth, "at": datetime.now(UTC)}
    connection.execute(upsert(stars).values(row).on_conflict_do_nothing())


def starred(connection: Connection, search_id: str) -> Sequence[int]:
    """Births of the search's starred candidates, ascending.

    Raises:
        NotFound: there is no such search.
    """
    _expect_search(connection, search_id)
    mine = select(stars.c.birth).where(stars.c.search_id == search_id).order_by(stars.c.birth)
    return connection.execute(mine).scalars().all()


def copy_stars(connection: Connection, source: str, target: str) -> None:
    """Give the candidates of a copy the stars of those that they are copies of."""
    known = exists().where(candidates.c.search_id == target, candidates.c.birth == stars.c.birth)
    theirs = select(literal(target), stars.c.birth, stars.c.at).where(
        stars.c.search_id == source, known
    )
    connection.execute(insert(stars).from_select(["search_id", "birth", "at"], theirs))


def _expect_search(connection: Connection, search_id: str) -> None:
    known = select(searches.c.id).where(searches.c.id == search_id, searches.c.ready)
    if connection.execute(known).first() is None:
        raise not_one(search_id, [])


def _expect_candidate(connection: Connection, search_id: str, birth: int) -> None:
    place = (candidates.c.search_id == search_id, candidates.c.birth == birth)
    if connection.execute(select(candidates.c.birth).where(*place)).first() is None:
        raise no_candidate(search_id, birth)
