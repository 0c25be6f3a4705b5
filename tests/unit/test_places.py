"""Places in the stream of all: what they say, that they stay short, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from api.places import LONGEST, MARGIN, MOST, Trail, mark_of, read_place
from evosearch.errors import ConfigError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def trail_of(count: int, apart: timedelta) -> Trail:
    """So many searches, each with its last event so much before the one after it."""
    made = Trail()
    for number in range(count):
        made.add(mark_of(f"s{number}"), 10**8 + number, NOW - apart * (count - 1 - number))
    return made


def test_a_place_names_what_had_news_in_the_last_hour() -> None:
    place = read_place(trail_of(100, timedelta(minutes=1)).place(NOW))
    assert place.since == NOW - MARGIN
    assert [n for n in range(100) if place.seq(f"s{n}") is not None] == [*range(40, 100)]
    assert place.seq("s99") == 10**8 + 99


@pytest.mark.parametrize("count", [0, MOST, MOST + 1, 5000])
def test_a_place_stays_short_and_names_the_newest(count: int) -> None:
    text = trail_of(count, timedelta(milliseconds=10)).place(NOW)
    place = read_place(text)
    assert len(text) <= LONGEST
    named = [number for number in range(count) if place.seq(f"s{number}") is not None]
    assert named == [*range(max(0, count - MOST), count)]
    # What is not named was told up to the moment: it may not lie before its last event.
    last = NOW - timedelta(milliseconds=10) * MOST
    assert place.since == (NOW - MARGIN if count <= MOST else last)


def test_numbers_times_and_moments_never_fall() -> None:
    trail = Trail()
    trail.add(mark_of("a"), 7, NOW)
    trail.add(mark_of("a"), 5, NOW - MARGIN * 2)
    assert read_place(trail.place(NOW)).seq("a") == 7
    later = trail.place(NOW + MARGIN)
    assert read_place(later).seq("a") is None
    assert read_place(trail.place(NOW)).since == read_place(later).since


def test_who_comes_back_keeps_what_its_place_said() -> None:
    first = trail_of(3, timedelta(minutes=1))
    again = Trail.behind(read_place(first.place(NOW)))
    place = read_place(again.place(NOW + timedelta(minutes=5)))
    assert [place.seq(f"s{n}") for n in range(3)] == [10**8, 10**8 + 1, 10**8 + 2]


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "_" * 40, "A" * 14, "f" * 14 + "AAAAAAA"])
def test_other_texts_are_no_places(text: str) -> None:
    with pytest.raises(ConfigError, match="Last-Event-ID"):
        read_place(text)


def test_a_place_that_was_cut_off_is_refused() -> None:
    text = trail_of(2, timedelta(0)).place(NOW)
    with pytest.raises(ConfigError, match="Last-Event-ID"):
        read_place(text[:-3])
