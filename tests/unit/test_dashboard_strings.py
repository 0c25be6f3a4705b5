"""Every word in ``strings.js`` is shown somewhere: no script names a word that nobody reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.states import CANDIDATE_STATES
from evosearch.screen import SCREEN_CODES, WORKER_CODES

DASHBOARD = Path(__file__).resolve().parents[2] / "api" / "dashboard"
JS = DASHBOARD / "static" / "js"

Keys = tuple[str, ...]
"""The way to an entry, such as ("search", "pause")."""

COMMENT = re.compile(r"/\*.*?\*/|^\s*//[^\n]*$", re.DOTALL | re.MULTILINE)
KEY = re.compile(r'[\s,]*(?:(\w+)|"([^"]+)")\s*:\s*')
ALIAS = re.compile(r"\b(?:const|let) (\w+) = T((?:\.\w+)+);")
PARTS = re.compile(r"\b(?:const|let) \{([^{}]*)\} = T((?:\.\w+)+);")
USE = re.compile(r"(?<![\w.$])T((?:\??\.\w+)+)(?:\[([^\]]*)\])?")
EITHER = re.compile(r'[^"]* \? "(\w+)" : "(\w+)"')


def without_comments(script: str) -> str:
    return COMMENT.sub("", script)


def end_of(text: str, place: int, closing: str) -> int:
    """Where the first of the closing characters stands that belongs to no inner bracket or text."""
    depth, quote = 0, ""
    while True:
        char = text[place]
        if quote:
            if char == "\\":
                place += 1
            elif quote == "`" and text.startswith("${", place):
                place = end_of(text, place + 2, "}")
            elif char == quote:
                quote = ""
        elif char in '"`':
            quote = char
        elif depth == 0 and char in closing:
            return place
        else:
            depth += (char in "([{") - (char in ")]}")
        place += 1


def entries(text: str, place: int, above: Keys = ()) -> Iterator[Keys]:
    """The ways to all that is no object itself in the object whose brace stands at the place."""
    closing = end_of(text, place + 1, "}")
    place += 1
    while key := KEY.match(text, place, closing):
        way = (*above, key[1] or key[2])
        if text[key.end()] == "{":
            yield from entries(text, key.end(), way)
            place = end_of(text, key.end() + 1, "}") + 1
        else:
            yield way
            place = end_of(text, key.end(), ",}")
    assert not text[place:closing].strip(" \n,"), text[place : place + 60]


def uses(script: str) -> set[Keys]:
    """The ways that a script names, and all of an object where it computes the key.

    Other names of a part of T (``const P = T.page;``) are followed.
    """
    text = without_comments(script)
    found: set[Keys] = set()
    for names, way in PARTS.findall(text):
        keys = (one.partition(":")[0].strip() for one in names.split(","))
        found |= {(*way.split(".")[1:], key) for key in keys}
    named = ALIAS.findall(text)
    text = PARTS.sub("", ALIAS.sub("", text))
    for name, _ in named:  # one name may stand for several parts, in a function each
        ways = [way for other, way in named if other == name]
        part = re.compile(rf"(?<![\w.$]){name}(?=\??\.\w|\[)")
        text = "\n".join(part.sub(f"T{way}", text) for way in ways)
        if re.search(rf"(?<![\w.$]){name}(?![\w$:]|\??\.)", text):  # handed on as a whole
            found |= {tuple(way.split(".")[1:]) for way in ways}
    for dotted, index in USE.findall(text):
        way = tuple(re.split(r"\??\.", dotted)[1:])
        either = EITHER.fullmatch(index)
        found |= {(*way, key) for key in either.groups()} if either else {way}
    return found


def unused(words: list[Keys], used: set[Keys]) -> list[str]:
    """Entries that are named neither themselves nor by an object that holds them."""
    return [
        ".".join(way)
        for way in words
        if not any(way[:length] in used for length in range(1, len(way) + 1))
    ]


@pytest.fixture(scope="module")
def strings() -> str:
    return without_comments((JS / "strings.js").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scripts() -> list[str]:
    found = [path for path in sorted(JS.rglob("*.js")) if path.name != "strings.js"]
    return [path.read_text(encoding="utf-8") for path in found]


def object_of(strings: str, name: str) -> list[Keys]:
    head = re.search(rf"export const {name} = ", strings)
    assert head is not None
    return list(entries(strings, head.end()))


def test_every_word_is_shown(strings: str, scripts: list[str]) -> None:
    words = object_of(strings, "T")
    assert len(words) > 700
    served = re.findall(r'_word\(words, "(\w+)"\)', (DASHBOARD / "pages.py").read_text())
    used = {("page", key) for key in served}.union(*map(uses, scripts))
    assert unused(words, used) == []


def test_no_script_reads_a_word_that_is_not_there(strings: str, scripts: list[str]) -> None:
    words = set(object_of(strings, "T"))
    objects = {way[:length] for way in words for length in range(1, len(way))}
    missing = [
        ".".join(way)
        for way in set().union(*map(uses, scripts)) - objects
        if not any(way[:length] in words for length in range(1, len(way) + 1))
    ]
    assert missing == []


def test_every_tip_is_shown(strings: str, scripts: list[str]) -> None:
    """Those that are looked up are called as a stage, a fact, a code or a state is."""
    text = without_comments("\n".join((strings, *scripts)))
    named = set(re.findall(r'\bWORDS\.(\w+)|\bword\("(\w+)"', text))
    found = {one or other for one, other in named} | {*SCREEN_CODES, *WORKER_CODES}
    found |= set(CANDIDATE_STATES)
    found |= {way[-1] for way in object_of(strings, "T")
              if way[:2] in (("funnel", "stages"), ("look", "facts"))}  # fmt: skip
    words = object_of(strings, "WORDS")
    assert len(words) > 15
    assert unused(words, {(one,) for one in found}) == []


def test_a_word_that_nobody_reads_is_found() -> None:
    strings = """export const T = {
      page: { title: "So: {", text: (n) => `${n ? `a "{" ${n}` : "b"}, more`, kinds: { a: "A", "b c": "B" } },
      ways: { over: "over", under: "under", by: "by" }, time: { s: "s", h: "h" }, left: "left",
    };"""  # noqa: E501
    words = object_of(strings, "T")
    assert [".".join(way) for way in words] == [
        "page.title", "page.text", "page.kinds.a", "page.kinds.b c",
        "ways.over", "ways.under", "ways.by", "time.s", "time.h", "left",
    ]  # fmt: skip
    script = """// T.left
      const P = T.page; const { s } = T.time; say(P.title, P.kinds[kind] ?? kind);
      say(T.ways[low ? "under" : "over"](1), T.ways?.by); box.textContent = P.text(3);"""
    assert unused(words, uses(script)) == ["time.h", "left"]
    assert unused(words, uses(script.replace("P.text(3)", "T.ways.by"))) == [
        "page.text", "time.h", "left",
    ]  # fmt: skip
    assert unused(words, uses("show(T.page, T.ways[way]); const P = T.time; each(P);")) == ["left"]


def test_counts_of_candidates_are_called_so(strings: str) -> None:
    """An evaluation is one layer on one anchor with one seed (see the glossary)."""
    shown = re.sub(r"\w+: |\$\{[^}]*\}", "", strings)
    assert re.findall(r".*\bevaluations?\b.*", shown) == []
