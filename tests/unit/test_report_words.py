"""What reports say of the surrogate and of operators, with numbers that are reckoned by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.report_text import surrogate_line
from api.reporting.blocks import Document, Table
from api.reporting.contents import document
from api.reporting.gather import Facts, gather
from db.memory import MemoryStore
from evosearch.events import Created
from evosearch.members import Yield
from evosearch.presets import load_preset
from evosearch.surrogate import Discards, Lesson

ON = ("surrogate.enabled=true", "surrogate.audit_share=0.5")


def begun(*overrides: str) -> Facts:
    """A search in which nothing has happened yet."""
    store = MemoryStore()
    store.create("begun", "a title", Created(config=load_preset("quickstart", list(overrides))))
    return gather(store, "begun")


def tables(made: Document) -> Iterator[Table]:
    return (one for part in made.sections for one in part.blocks if isinstance(one, Table))


def rows_of(facts: Facts, name: str) -> dict[str, dict[str, str]]:
    """First cell of each row -> head -> cell."""
    (table,) = (one for one in tables(document(facts)) if one.name == name)
    return {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}


def numbers(facts: Facts) -> list[str]:
    return [row["number"] for row in rows_of(facts, "surrogate").values()]


def test_a_surrogate_that_has_foretold_and_audited_is_told() -> None:
    facts = begun(*ON)
    # In the order of promise the outcomes come first, second, fourth, third: 1 - 6 * 2 / (4 * 15).
    outcomes = {0.1: None, 0.2: 0.5, 0.3: 0.7, 0.4: 0.6}
    facts.state.lessons.extend(Lesson((), mean, False, one) for one, mean in outcomes.items())
    facts.state.lessons.append(Lesson((), 0.9, True, None))  # before the first fit
    facts.state.discards = Discards(discarded=1200, audited=30, useful=3, passed=27)
    # Half are audited, so that 3 stand for 6 of 33; 3 of Poisson's are 0.62 to 8.77.
    assert surrogate_line(facts.state) == (
        "surrogate: rank correlation 0.80 of promise and outcome, 4 foretold; 1200 candidates "
        "discarded, of 30 such that were trained all the same 3 were better than half of the "
        "population, 18.2 % [4.4, 39.4] of all such"
    )
    assert numbers(facts) == ["4", "0.80", "1,200", "30", "3", "18.2 % [4.4, 39.4]"]


def test_a_surrogate_that_has_told_nothing_yet_has_no_rates() -> None:
    facts = begun(*ON)
    assert surrogate_line(facts.state) == (
        "surrogate: nothing yet of promise and outcome, 0 foretold; 0 candidates discarded, of 0 "
        "such that were trained all the same 0 were better than half of the population"
    )
    assert numbers(facts) == ["0", "-", "0", "0", "0", "-"]


def test_without_a_surrogate_a_report_has_no_table_of_it() -> None:
    made = document(begun("surrogate.enabled=false"))
    assert "surrogate" not in {one.name for one in tables(made)}


OPERATORS = {
    "random": ("1,000", "400", "20", "0", "0.400", "0.0200"),
    "paper": ("550", "320", "16", "0", "0.582", "0.0291"),
    "swap": ("50", "20", "6", "0", "0.400", "0.1200"),
}
COLUMNS = ("proposals", "new functions", "evaluated", "on the front", "new functions per proposal",
           "survivors per proposal")  # fmt: skip


@pytest.fixture
def edited() -> Facts:
    """A search with proposals of one edit and of two."""
    facts = begun()
    facts.state.operators |= {
        "random": Yield(1000, 400, 20), "paper": Yield(500, 300, 10), "paper+swap": Yield(50, 20, 6)
    }  # fmt: skip
    return facts


def test_a_proposal_of_two_edits_counts_for_both_operators(edited: Facts) -> None:
    rows = rows_of(edited, "operators")
    assert list(rows) == list(OPERATORS)  # the most evaluated first
    for name, wanted in OPERATORS.items():
        assert tuple(rows[name][column] for column in COLUMNS) == wanted


def test_the_same_by_edits_counts_each_proposal_once(edited: Facts) -> None:
    rows = rows_of(edited, "edits")
    columns = COLUMNS[:4]
    told = {name: tuple(row[column] for column in columns) for name, row in rows.items()}
    assert told == {
        "random": ("1,000", "400", "20", "0"), "paper": ("500", "300", "10", "0"),
        "paper+swap": ("50", "20", "6", "0"),
    }  # fmt: skip
