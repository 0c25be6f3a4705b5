"""The words that routes share: path and query parameters with their limits, and text checks."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.problems import documented
from api.rest.view import View
from api.service import Service, service_of

MAX_INT = 2**63 - 1


def _no_controls(text: str) -> str:
    """Refuses what no database keeps or no screen shows; line ends and tabs may stand."""
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t\r":
            raise ValueError(f"character {place + 1} is a control character or half a pair")
    return text


Text = Annotated[str, AfterValidator(_no_controls)]
Title = Annotated[Text, Field(min_length=1, max_length=200)]
Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.:-]{0,39}$")]
SearchRef = Annotated[
    str,
    Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="A search's id, or its first letters."),
]
Birth = Annotated[int, Path(ge=0, le=MAX_INT, description="The candidate's number.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Most rows of the page.")]
Cursor = Annotated[
    str | None, Query(max_length=400, description="`next` of the page before this one.")
]
Here = Annotated[Service, Depends(service_of)]

COMMON = documented(400, 401, 403, 421, 422, 429, 500, 503)
FOUND = COMMON | documented(404)
CHANGED = FOUND | documented(409, 413, 415)


class Body(BaseModel):
    """Base of all request bodies: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def etag_of(*parts: Any) -> str:
    """A strong ETag of what the parts say."""
    import hashlib

    text = "\x00".join(str(part) for part in parts)
    return f'"{hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]}"'


def unchanged(request: Request, response: Response, tag: str, *, forever: bool = False) -> bool:
    """Sets the ETag; whether the client has this version already (answer with 304 then)."""
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = "private, max-age=86400" if forever else "no-cache"
    known = request.headers.get("if-none-match", "")
    return tag in [one.strip().removeprefix("W/") for one in known.split(",")]


def not_modified(response: Response) -> Any:
    """The answer to a client that has this version; typed loosely, for it stands for the body."""
    kept = {k: v for k, v in response.headers.items() if k in ("etag", "cache-control")}
    return Response(status_code=304, headers=kept)


def as_json(view: View, response: Response) -> Any:
    """A long answer, written without a detour through Python objects; it stands for the view."""
    kept = {k: v for k, v in response.headers.items() if k in ("etag", "cache-control")}
    return Response(view.model_dump_json(), media_type="application/json", headers=kept)


UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "The client has this version"}}
