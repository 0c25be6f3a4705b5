"""Filters by what a layer does: the same candidates from every database as from the graphs."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from db.candidate_pages import CandidatePages, Wanted
from db.engine import begin
from db.schema import candidates
from db.sql_store import SqlStore
from evosearch.events import CandidateRejected, EnqueuedRefused
from evosearch.graph_filter import GraphFilter
from evosearch.records import Rejection
from evosearch.where import PROPERTIES, parse_where
from primitives.catalog import CATALOG
from primitives.properties import stored_properties
from tests.support.events import CREATED, graph, queued, rejected

ID = "k3f9a1c2"
LAYERS = ("bn-relu", "evonorm-s0", "dyt", "simple-rms-norm", "squared-relu", "poly-norm")


@pytest.fixture
def pages(sql_store: SqlStore) -> CandidatePages:
    sql_store.create(ID, "", CREATED)
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(
        lease,
        [
            queued(birth).model_copy(update={"graph": CATALOG[name].graph})
            for birth, name in enumerate(LAYERS)
        ],
    )
    return CandidatePages(sql_store)


def found(pages: CandidatePages, where: str) -> set[str]:
    rows, _ = pages.page(ID, Wanted(where=parse_where(where)), 50)
    return {LAYERS[row["birth"]] for row in rows}


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("scale_invariant", {"bn-relu", "simple-rms-norm", "poly-norm"}),
        ("symmetry = 'odd'", {"dyt", "simple-rms-norm"}),
        ("bounded and monotone = 'increasing'", {"dyt"}),
        ("parameters_per_channel > 4", {"poly-norm"}),
        ("mixes_batch or mixes_channels and not mixes_positions",
         {"bn-relu", "simple-rms-norm", "poly-norm"}),
        ("not (symmetry in ('odd', 'even') or mixes_positions)", {"squared-relu", "poly-norm"}),
    ],
)  # fmt: skip
def test_filters_by_facts(pages: CandidatePages, where: str, names: set[str]) -> None:
    assert found(pages, where) == names
    asked = GraphFilter(where)  # before there is a candidate
    assert {name for name in LAYERS if asked.holds(CATALOG[name].graph)} == names


def test_every_fact_can_be_asked_for_and_is_listed(pages: CandidatePages) -> None:
    rows, _ = pages.page(ID, Wanted(), 50)
    for row in rows:
        facts = stored_properties(CATALOG[LAYERS[row["birth"]]].graph)
        assert row["properties"] == facts
        for name, value in facts.items():
            text = f"'{value}'" if PROPERTIES[name] == "text" else str(value).lower()
            assert LAYERS[row["birth"]] in found(pages, f"{name} = {text}")


def test_rows_of_older_versions_fit_no_fact_and_no_denied_one_is_lost(
    pages: CandidatePages, sql_store: SqlStore
) -> None:
    with begin(sql_store.engine, write=True) as connection:
        connection.execute(
            update(candidates).where(candidates.c.birth == 2).values(properties=None)
        )
    assert found(pages, "bounded") == {"simple-rms-norm", "poly-norm"}
    assert "dyt" in found(pages, "not bounded")
    rows, _ = pages.page(ID, Wanted(), 50)
    assert [row["birth"] for row in rows if row["properties"] is None] == [2]


def test_who_threw_a_candidate_out_can_be_asked_for(
    pages: CandidatePages, sql_store: SqlStore
) -> None:
    codes = ("signal", "hurdle", "outranked", "too_slow")
    lease = sql_store.acquire(ID, "me", 60)
    sql_store.append(lease, [
        rejected(0, "signal"),
        *(CandidateRejected(birth=birth, rejection=Rejection(code=code))
          for birth, code in enumerate(codes) if birth),
        EnqueuedRefused(birth=len(LAYERS), graph=graph(9), rejection=Rejection(code="repeat")),
    ])  # fmt: skip
    for name, birth in (("signal", 0), ("hurdle", 1), ("surrogate", 2), ("training", 3),
                        ("controller", len(LAYERS))):  # fmt: skip
        rows, _ = pages.page(ID, Wanted(where=parse_where(f"rejected_by = '{name}'")), 50)
        assert [row["birth"] for row in rows] == [birth]
    where = parse_where("not rejected_by in ('controller', 'signal')")
    rows, _ = pages.page(ID, Wanted(where=where), 50)
    assert sorted(row["birth"] for row in rows) == [1, 2, 3, 4, 5]
