"""Registries with one file an entry: data sets, anchor networks.

A module ``polarity_digits.py`` of a registry's package holds the entry ``polarity-digits`` in its
constant ``ENTRY``; files that begin with an underscore hold none. Listing must not import the
entries, for they import torch.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Generic, TypeVar

from evosearch.errors import ConfigError, NotFound

T = TypeVar("T")


def not_found(kind: str, name: str, known: Iterable[str]) -> NotFound:
    """The error for a name that names nothing: it lists the names, the closest one as a hint.

    A long list is left out where there is a close one: errors are cut, and hints stand last.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return NotFound(
        f"unknown {kind}",
        expected=None if close and len(names) > 12 else "one of " + ", ".join(names),
        got=repr(name)[:60],
        hint=f"did you mean {close[0]}?" if close else None,
    )


class Registry(Generic[T]):
    """Entries by name: the modules of one package, and what plug-ins added.

    ``kind`` is the word for an entry in error messages.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._added: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """All names, sorted; nothing is imported for it but the package."""
        path = importlib.import_module(self.package).__path__
        built_in = {
            info.name.replace("_", "-")
            for info in pkgutil.iter_modules(path)
            if not info.name.startswith("_")
        }
        return tuple(sorted(built_in | self._added.keys()))

    def get(self, name: str) -> T:
        """The entry of that name.

        Raises:
            NotFound: there is none; the error names the closest one.
        """
        if name in self._added:
            return self._added[name]
        if name not in self.names():
            raise not_found(self.kind, name, self.names())
        module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        entry: T = module.ENTRY
        return entry

    def add(self, name: str, entry: T) -> None:
        """Register a plug-in's entry.

        Raises:
            ConfigError: the name is taken.
        """
        if name in self.names():
            raise ConfigError(f"{self.kind} {name!r} exists already", hint="choose another name")
        self._added[name] = entry
