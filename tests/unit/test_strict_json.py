"""JSON that is refused before a reader builds anything from it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.strict_json import JsonError, check_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_every_plain_value_passes(value: object, ascii_only: bool) -> None:
    check_json(json.dumps(value, ensure_ascii=ascii_only), 32)


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("[" * 100_000, 32, "deep"),
        ('{"a":' * 40, 32 * 5, "deep"),
        ('{"a": 1, "a": 2}', 9, "twice"),
        ('{"a": 1, "\\u0061": 2}', 9, "twice"),
        ('{"b": {"a": 1}, "a": [{"x": 1, "x": 1}]}', 31, "twice"),
        ('{"a": NaN}', 6, "JSON"),
        ("[-Infinity]", 1, "JSON"),
        ("1" * 50, 0, "long"),
        ('["\\u0000"]', 1, "NUL"),
        ("[1}", 2, "bracket"),
        ("{\"a\": 'b'}", 6, "JSON"),
        ('"open', 0, "JSON"),
        ("\ufeff{}", 0, "JSON"),
    ],
)
def test_dangerous_text_is_refused_with_its_place(text: str, position: int, word: str) -> None:
    with pytest.raises(JsonError, match=word) as caught:
        check_json(text, 32)
    assert caught.value.position == position


def test_values_that_look_like_keys_may_repeat() -> None:
    check_json('[{"a": "a"}, {"a": ["a", "a"]}, "a"]', 32)
    check_json('["\\\\u0000"]', 32)
