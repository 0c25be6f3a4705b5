"""Who a request comes from: tokens of the database, the token file, or everyone on this machine."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass

from db.tokens import Tokens

REMEMBERED_SECONDS = 5.0
"""How long a checked token counts without asking the database; a revoked one is gone after it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an id for logs and limits (empty: anyone here), and what it may do."""

    id: str
    scope: str


EVERYONE = Caller("", "write")


class Access:
    """Tells callers by their tokens. ``static``: a token beside those of the database."""

    def __init__(self, tokens: Tokens, *, needed: bool, static: str | None = None) -> None:
        self._tokens, self._needed, self._static = tokens, needed, static
        self._known: dict[bytes, tuple[float, Caller]] = {}

    def remembers(self, text: str) -> bool:
        """Whether this token was good a while ago, or is the server's own: no guess, that is."""
        return self._is_static(text) or _digest(text) in self._known

    def _is_static(self, text: str) -> bool:
        return self._static is not None and hmac.compare_digest(
            self._static.encode(), text.encode("utf-8", "surrogatepass")
        )

    def identify(self, text: str | None) -> Caller | None:
        """The caller with that token; without one everyone, where no token is needed."""
        if text is None:
            return None if self._needed else EVERYONE
        if self._is_static(text):
            return Caller("token-file", "write")
        key = _digest(text)
        known = self._known.get(key)
        if known is not None and time.monotonic() - known[0] < REMEMBERED_SECONDS:
            return known[1]
        found = self._tokens.check(text)
        if found is None:
            self._known.pop(key, None)
            return None
        caller = Caller(found.id, found.scope)
        if len(self._known) >= 1000:
            self._known.clear()
        self._known[key] = (time.monotonic(), caller)
        return caller


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
