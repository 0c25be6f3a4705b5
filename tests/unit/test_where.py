"""The language of filters: what it reads, and where it says that it cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evosearch.where import Both, Compare, Not, WhereError, parse_where, where_terms


def test_the_example_of_the_documentation() -> None:
    tree = parse_where("batch_independent and live_nodes <= 6 and score.resnet >= 0.75")
    assert tree == Both(
        "and",
        (
            Compare("batch_independent", "==", (True,)),
            Compare("live_nodes", "<=", (6.0,)),
            Compare("score.resnet", ">=", (0.75,)),
        ),
    )


def test_and_binds_tighter_than_or_and_not_tightest() -> None:
    tree = parse_where("on_front or not audit and seeds > 1")
    assert isinstance(tree, Both)
    assert tree.op == "or"
    inner = tree.parts[1]
    assert isinstance(inner, Both)
    assert inner.op == "and"
    assert inner.parts[0] == Not(Compare("audit", "==", (True,)))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("live_nodes <= 6", ["live_nodes <= 6"]),
        (" audit  and not on_front ", ["audit", "not on_front"]),
        ("not (audit and on_front) and seeds>1", ["not (audit and on_front)", "seeds>1"]),
        ("state in ('and', 'b (') and audit", ["state in ('and', 'b (')", "audit"]),
        ("audit and on_front or seeds > 1", ["audit and on_front or seeds > 1"]),
        ("(audit and on_front)", ["(audit and on_front)"]),
    ],
)
def test_what_and_joins_outside_brackets_are_the_terms(text: str, terms: list[str]) -> None:
    assert where_terms(text) == terms
    whole, read = parse_where(text), tuple(map(parse_where, terms))
    assert whole == (read[0] if len(read) == 1 else Both("and", read))


def test_brackets_lists_and_texts() -> None:
    tree = parse_where("(state in ('evaluated', \"failed\") or birth=3)")
    assert isinstance(tree, Both)
    assert tree.parts[0] == Compare("state", "in", ("evaluated", "failed"))
    assert tree.parts[1] == Compare("birth", "==", (3.0,))


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("live_nodes", 10),
        ("live_nodes <= 'six'", 14),
        ("live_nodes <= 6 and", 19),
        ("colour = 3", 0),
        ("live_nodes <= 6 6", 16),
        ("(on_front", 9),
        ("state < 'a'", 6),
        ("birth; drop table", 5),
        ("state = 'a", 8),
        ("birth in ()", 10),
        ("birth <= 1e999", 9),
        ("not " * 30 + "audit", 80),
        ("__import__('os')", 0),
        ("birth = 1\x00", 9),
    ],
)
def test_what_cannot_be_read_says_where(text: str, position: int) -> None:
    with pytest.raises(WhereError) as caught:
        parse_where(text)
    assert caught.value.position == position
    assert "\n" not in str(caught.value)


def test_too_long_and_too_many() -> None:
    with pytest.raises(WhereError, match="too long"):
        parse_where("on_front or " * 100)
    with pytest.raises(WhereError, match="too many"):
        parse_where(" or ".join(["audit"] * 51))


@given(st.text(max_size=200))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    place = 0
    try:
        parse_where(text)
    except WhereError as err:
        place = err.position
    assert 0 <= place <= len(text)
