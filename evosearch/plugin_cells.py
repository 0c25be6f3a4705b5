"""The text of what a notebook defines: no file has it, and its hash must say when it changes.

From what is registered, everything is followed that it reaches by name in its own module: functions
and classes of other cells, and plain values. What lies in objects of other kinds is not seen.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from evosearch.own import Entry

PLAIN = (int, float, complex, str, bytes, bool, type(None))
MAX_TEXT = 100_000


def cells_text(entries: Iterable[Entry], module: types.ModuleType) -> str:
    """Source of the entries and of all that they reach in their module, in a fixed order."""
    seen: set[int] = set()
    parts: list[str] = []
    waiting: list[tuple[str, Any]] = [
        (f"{entry.kind} {entry.name}", part) for entry in entries for part in parts_of(entry)
    ]
    while waiting:
        name, value = waiting.pop(0)
        if id(value) in seen and not isinstance(value, PLAIN):
            continue
        seen.add(id(value))
        functions = functions_of(value)
        if isinstance(value, type):
            bases = [one.__qualname__ for one in value.__bases__]
            parts.append(f"class {value.__qualname__}{bases}")
            waiting += [(one.__name__, one) for one in value.__bases__ if _is_own(one, module)]
            waiting += [(key, one) for key, one in sorted(vars(value).items())
                        if not key.startswith("__") and _plain(one) is not None]  # fmt: skip
        elif not functions:
            parts.append(f"{name} = {_plain(value)}")
        for function in functions:
            parts.append(_text(function))
            waiting += [(key, one) for key, one in _reached(function)
                        if _is_own(one, module) or _plain(one) is not None]  # fmt: skip
    return "\n".join(parts)


def parts_of(entry: Entry) -> list[Any]:
    """The functions and classes of which an entry is made."""
    value = getattr(entry.value, "made_by", entry.value)
    if isinstance(value, tuple):
        return [one for one in value if callable(one)]
    if is_dataclass(value) and not isinstance(value, type):
        return [part for one in fields(value) if callable(part := getattr(value, one.name))]
    return [value]


def functions_of(value: Any) -> list[types.FunctionType]:
    """The function itself, or those of a class."""
    if isinstance(value, types.FunctionType):
        return [value]
    found = []
    for one in vars(value).values() if isinstance(value, type) else ():
        inner = inspect.unwrap(getattr(one, "__func__", None) or getattr(one, "fget", None) or one)
        if isinstance(inner, types.FunctionType):
            found.append(inner)
    return found


def _is_own(value: Any, module: types.ModuleType) -> bool:
    known = isinstance(value, (types.FunctionType, type))
    return known and getattr(value, "__module__", None) == module.__name__


def _text(function: types.FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed on standard input: no text is kept of it
        return _code_text(function.__code__)


def _code_text(code: types.CodeType) -> str:
    constants = [
        _code_text(one) if isinstance(one, types.CodeType) else repr(_plain(one))
        for one in code.co_consts
    ]
    return f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"


def _reached(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Name -> value of the globals, closure and defaults that a function uses."""
    names, codes = dict[str, None](), [function.__code__]
    while codes:
        code = codes.pop(0)
        names |= dict.fromkeys(code.co_names)
        codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    for name in names:
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
            continue
    for number, value in enumerate(function.__defaults__ or ()):
        yield f"default {number}", value


def _plain(value: Any) -> str | None:
    """A plain value as text, the same in every process; None if it is something else."""
    if isinstance(value, PLAIN):
        return repr(value)[:MAX_TEXT]
    if isinstance(value, (list, tuple)):
        inner = [_plain(one) for one in value]
        return None if None in inner else f"{type(value).__name__}{inner}"[:MAX_TEXT]
    if isinstance(value, (set, frozenset)):
        inner = [_plain(one) for one in value]
        return None if None in inner else f"set{sorted(map(str, inner))}"[:MAX_TEXT]
    if isinstance(value, dict):
        inner = [_plain((key, one)) for key, one in value.items()]
        return None if None in inner else f"dict{inner}"[:MAX_TEXT]
    return None
