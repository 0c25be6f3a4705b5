"""Refuses JSON that is legal to a lenient reader and dangerous to a program, with its position.

Depth bombs, NaN literals, numbers without end, duplicate keys and NUL characters are refused in
one pass over the text, before anything is built from it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from evosearch.errors import EvosearchError

MAX_NUMBER = 40
"""Characters of the longest number; 64-bit integers and doubles need fewer."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")
    |(?P<number>-?[0-9][0-9.eE+-]*)
    |(?P<word>[A-Za-z-]+)
    |(?P<mark>[][{}:,])""",
    re.VERBOSE,
)
_WORDS = frozenset({"true", "false", "null"})
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class JsonError(EvosearchError):
    """JSON that is refused; ``position`` is a 0-based character offset."""

    def __init__(self, what: str, position: int, **context: str | None) -> None:
        self.position = position
        super().__init__(what, where=f"character {position + 1}", **context)


@dataclass(slots=True)
class _Level:
    """An open object or array; ``keys``: those seen so far, None in an array."""

    keys: set[str] | None = None
    expects_key: bool = False


def check_json(text: str, max_depth: int) -> None:
    """Do nothing if the text may be given to a JSON reader.

    Syntax beyond its words is left to that reader.

    Raises:
        JsonError: it is too deep, says a key twice, or holds something that is no JSON.
    """
    levels: list[_Level] = []
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise JsonError("this is no JSON", place, got=repr(text[place : place + 10]))
        token = found.group()
        match found.lastgroup:
            case "string":
                _string(token, place, levels)
            case "number" if len(token) > MAX_NUMBER:
                raise JsonError(
                    "a number is too long", place, expected=f"at most {MAX_NUMBER} characters",
                    got=str(len(token)),
                )  # fmt: skip
            case "word" if token not in _WORDS:
                raise JsonError("this is no JSON", place, expected="a JSON value", got=token[:20])
            case "mark":
                _mark(token, place, levels, max_depth)
        place = found.end()


def _string(token: str, place: int, levels: list[_Level]) -> None:
    if _NUL.search(token):
        raise JsonError("a text holds the character NUL", place)
    level = levels[-1] if levels else None
    if level is None or level.keys is None or not level.expects_key:
        return
    key = json.loads(token)  # "a" and "\\u0061" are the same key
    if key in level.keys:
        raise JsonError("a key stands twice", place, got=token[:60])
    level.keys.add(key)
    level.expects_key = False


def _mark(token: str, place: int, levels: list[_Level], max_depth: int) -> None:
    if token in "[{":
        if len(levels) >= max_depth:
            raise JsonError("nested too deeply", place, expected=f"at most {max_depth} levels")
        levels.append(_Level(set(), True) if token == "{" else _Level())
    elif token in "]}":
        if not levels or (levels[-1].keys is None) != (token == "]"):
            raise JsonError("an unmatched bracket", place, got=token)
        levels.pop()
    elif token == "," and levels and levels[-1].keys is not None:
        levels[-1].expects_key = True
