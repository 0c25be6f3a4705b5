"""The one shape of every error that leaves the service: problem details (RFC 9457) with an id.

The id is in the log beside what is not told to the client. No stack trace, path or SQL leaves.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from evosearch.errors import (
    ConfigError,
    EvosearchError,
    GraphError,
    LeaseHeld,
    NotFound,
    StateConflict,
    StoreError,
    WorkerError,
)

log = logging.getLogger("evosearch.web")
MEDIA = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "In conflict with the present state",
    413: "Too large",
    415: "Wrong kind of content",
    421: "Unknown host",
    422: "Not valid",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available now",
}


class FieldProblem(BaseModel):
    """One value that was refused: where it stands, and why."""

    where: str
    reason: str


class Problem(BaseModel):
    """An error. ``position``: 0-based place in the text or body; node index of a graph."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error_id: str = Field(description="stands in the server's log beside what happened")
    position: int | None = None
    errors: list[FieldProblem] = []


class Refused(Exception):
    """An answer other than success, raised where it is known. ``where``: the field at fault."""

    def __init__(
        self, status: int, detail: str, *, position: int | None = None, where: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.status, self.detail, self.position = status, detail, position
        self.errors = [FieldProblem(where=where, reason=detail)] if where else None
        self.headers = headers


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of routes that may answer with these problems."""
    shape = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": TITLES[status], "content": {MEDIA: {"schema": shape}}}
        for status in statuses
    }


def problem(
    status: int,
    detail: str,
    *,
    position: int | None = None,
    errors: list[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
    cause: BaseException | None = None,
) -> JSONResponse:
    """The answer, logged under its id; a cause is logged with its trace and not told."""
    error_id = secrets.token_hex(6)
    body = Problem(
        title=TITLES.get(status, "Error"), status=status, detail=detail[:2000], error_id=error_id,
        position=position, errors=(errors or [])[:20],
    )  # fmt: skip
    level = logging.ERROR if status >= 500 else logging.INFO
    log.log(
        level, "%d %s", status, detail[:500], exc_info=cause,
        extra={"error_id": error_id, "status": status},
    )  # fmt: skip
    return JSONResponse(
        body.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA
    )


def status_of(err: EvosearchError) -> int:
    """The status that an error of ours is answered with."""
    if isinstance(err, NotFound):
        return 404
    if isinstance(err, (StateConflict, LeaseHeld)):
        return 409
    if isinstance(err, (StoreError, WorkerError)):
        return 503
    return 400 if isinstance(err, ConfigError) else 422


def install(app: FastAPI) -> None:
    """Have every error of the app come out as a problem."""
    app.add_exception_handler(EvosearchError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Exception, _unexpected)


def unexpected(err: Exception) -> JSONResponse:
    """The answer to what nobody foresaw."""
    return problem(500, "something went wrong; the log of the server says what", cause=err)


async def _unexpected(request: Request, err: Exception) -> JSONResponse:
    return unexpected(err)


async def _ours(request: Request, err: Exception) -> JSONResponse:
    assert isinstance(err, EvosearchError)
    status = status_of(err)
    if status == 503:
        # A driver's words may name hosts and paths.
        return problem(
            503, "the store or the workers cannot be reached now; try again", cause=err,
            headers={"Retry-After": "5"},
        )  # fmt: skip
    position = getattr(err, "position", None)
    # What is wrong with a graph as a whole has no node to point at.
    whole = isinstance(err, GraphError) and position is None
    errors = [FieldProblem(where="graph", reason=str(err))] if whole else None
    return problem(status, str(err), position=position, errors=errors)


async def _invalid(request: Request, err: Exception) -> JSONResponse:
    assert isinstance(err, RequestValidationError)
    errors = [
        FieldProblem(where=".".join(str(part) for part in one["loc"])[:200], reason=one["msg"])
        for one in err.errors()
    ]
    first = errors[0] if errors else FieldProblem(where="request", reason="not valid")
    place = next((one["loc"][-1] for one in err.errors() if one["type"] == "json_invalid"), None)
    return problem(
        422, f"{first.where}: {first.reason}", errors=errors,
        position=place if isinstance(place, int) else None,
    )  # fmt: skip


async def _http(request: Request, err: Exception) -> JSONResponse:
    assert isinstance(err, HTTPException)
    headers = dict(err.headers) if err.headers else None
    return problem(err.status_code, str(err.detail), headers=headers)


async def _refused(request: Request, err: Exception) -> JSONResponse:
    assert isinstance(err, Refused)
    return problem(
        err.status, err.detail, position=err.position, errors=err.errors, headers=err.headers
    )
