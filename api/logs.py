"""Log lines that machines can read: JSON or text, with the ids of request, search and candidate.

Nothing here may log a body, a token or a query string.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from contextvars import ContextVar, Token
from datetime import UTC, datetime

FIELDS = ("error_id", "search", "candidate", "status", "milliseconds", "caller", "owner")


class _RequestId:
    """The id of the request at hand; ``-`` outside of requests."""

    def __init__(self) -> None:
        self._var: ContextVar[str] = ContextVar("request_id", default="-")

    def new(self) -> str:
        return secrets.token_hex(6)

    def get(self) -> str:
        return self._var.get()

    def set(self, value: str) -> Token[str]:
        return self._var.set(value)

    def reset(self, mark: Token[str]) -> None:
        self._var.reset(mark)


request_id = _RequestId()
subject: ContextVar[dict[str, str]] = ContextVar("subject", default={})  # noqa: B039 (never changed)
"""The search and candidate that the request at hand is about."""
_SUBJECT = re.compile(r"/searches/([A-Za-z0-9_-]{1,64})(?:/candidates/([0-9]{1,19})(?:/|$))?")


def subject_of(path: str) -> dict[str, str]:
    """The search and candidate that a path names."""
    found = _SUBJECT.search(path)
    if found is None or found[1] == "dry-run":
        return {}
    named = {"search": found[1], "candidate": found[2]}
    return {name: value for name, value in named.items() if value is not None}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(), "request": request_id.get(), **_extra(record),
        }  # fmt: skip
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """Time, level, message, ids."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        message = record.getMessage().encode("unicode_escape").decode("ascii")
        ids = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        line = f"{at} {record.levelname.lower():7} {record.name}: {message} {ids}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _extra(record: logging.LogRecord) -> dict[str, object]:
    about = subject.get()
    return {
        name: value for name in FIELDS
        if (value := getattr(record, name, about.get(name))) is not None
    }  # fmt: skip


def set_up(form: str, level: str) -> None:
    """Sends the log to standard error in that form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    logging.getLogger("alembic.runtime").setLevel("WARNING")  # its plug-ins are no news
    logging.getLogger("uvicorn.access").disabled = True  # the guard writes its own
    # The id that a client was told must be found, however quiet the log is.
    logging.getLogger("evosearch.web").setLevel("DEBUG" if level == "debug" else "INFO")
    if level != "debug":
        logging.getLogger("evosearch.access").setLevel("WARNING")
