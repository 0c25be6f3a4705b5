"""Bearer tokens: only a hash is kept, so a stolen database opens nothing.

A token is ``evs_ID_SECRET``. The secret has 256 random bits, so one round of SHA-256 keeps it; a
slow hash would protect a password, and only cost time here. This file must not know of HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, insert, select, update

from db.engine import begin
from db.schema_service import SCOPES, tokens
from db.sql_store import SqlStore
from evosearch.errors import ConfigError, NotFound

PREFIX = "evs"
_NOBODY = hashlib.sha256(b"nobody").hexdigest()


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; never its secret."""

    id: str
    name: str
    scope: str
    created_at: datetime
    revoked_at: datetime | None = None


class Tokens:
    """The tokens of a store."""

    def __init__(self, store: SqlStore) -> None:
        self._engine = store.engine

    def create(self, name: str, scope: str) -> tuple[Token, str]:
        """A new token, and its text, which is shown this once.

        Raises:
            ConfigError: there is no such scope.
        """
        if scope not in SCOPES:
            raise ConfigError("unknown scope", expected=" or ".join(SCOPES), got=scope)
        token = Token(secrets.token_hex(4), name, scope, datetime.now(UTC))
        secret = secrets.token_urlsafe(32)
        row = {"id": token.id, "name": name, "scope": scope, "created_at": token.created_at}
        with begin(self._engine, write=True) as connection:
            connection.execute(insert(tokens), row | {"hash": hash_of(secret)})
        return token, f"{PREFIX}_{token.id}_{secret}"

    def check(self, text: str) -> Token | None:
        """The token, if the text is one that was given out and not revoked."""
        prefix, _, rest = text.partition("_")
        name, _, secret = rest.partition("_")
        wanted = select(tokens).where(tokens.c.id == name, tokens.c.revoked_at.is_(None))
        row = None
        if prefix == PREFIX and name.isascii() and name.isalnum():
            with begin(self._engine) as connection:
                row = connection.execute(wanted).first()
        # Compared in any case: the time taken must not tell which ids exist.
        same = hmac.compare_digest(row.hash if row else _NOBODY, hash_of(secret))
        if row is None or not same:
            return None
        return Token(row.id, row.name, row.scope, row.created_at)

    def any(self) -> bool:
        """Whether there is a token that opens anything."""
        wanted = select(func.count()).select_from(tokens).where(tokens.c.revoked_at.is_(None))
        with begin(self._engine) as connection:
            return bool(connection.execute(wanted).scalar())

    def list(self) -> list[Token]:
        """All tokens, the newest first."""
        wanted = select(*(tokens.c[name] for name in Token.__dataclass_fields__))
        with begin(self._engine) as connection:
            rows = connection.execute(wanted.order_by(tokens.c.created_at.desc())).all()
        return [Token(*row) for row in rows]

    def revoke(self, token_id: str) -> None:
        """The token opens nothing from now on.

        Raises:
            NotFound: there is no such token, or it is revoked already.
        """
        mine = update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
        with begin(self._engine, write=True) as connection:
            if connection.execute(mine.values(revoked_at=datetime.now(UTC))).rowcount != 1:
                raise NotFound(
                    "no such token", got=repr(token_id), hint="see: evosearch token list"
                )


def hash_of(secret: str) -> str:
    """SHA-256 of the secret as hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
