"""What a worker makes of files and plug-ins that people edit: old versions are let go.

A process lives for days, and each version may hold gigabytes of images.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

PLUGIN_VERSIONS = 3
"""Versions of a plug-in that are kept: searches go on with the old one beside a newer one's."""


class Latest(Generic[T]):
    """What was made for each name in the ``versions`` that were used last."""

    def __init__(self, versions: int = 1) -> None:
        self._versions = versions
        self._known: dict[Hashable, dict[Hashable, T]] = {}

    def of(self, name: Hashable, version: Hashable, make: Callable[[], T]) -> T:
        """What was made of that version, or is made now: after the oldest is gone."""
        known = self._known.setdefault(name, {})
        if version in known:
            found = known.pop(version)
        else:
            while len(known) >= self._versions:
                del known[next(iter(known))]
            found = make()
        known[version] = found  # used last
        return found
