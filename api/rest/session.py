"""Signing in the page: the token moves into a cookie that no script reads and no URL carries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.guard import COOKIE, bearer
from api.problems import Refused, documented
from api.rest.schemas import SessionView
from api.rest.types import Body, Here

router = APIRouter(prefix="/session", tags=["session"])
RESPONSES = documented(400, 401, 403, 413, 415, 421, 422, 429, 500, 503)
DAYS = 30 * 86_400


class SignIn(Body):
    """A token, as `evosearch token create` printed it."""

    token: Annotated[str, Field(min_length=1, max_length=300)]


@router.get("", responses=RESPONSES)
def session(service: Here, request: Request) -> SessionView:
    """Whether this reader needs a token, and has one."""
    caller = service.access.identify(bearer(request.headers))
    return SessionView(
        signed_in=caller is not None, needed=service.settings.needs_token,
        scope=None if caller is None else caller.scope,
    )  # fmt: skip


@router.post("", responses=RESPONSES)
def sign_in(service: Here, request: Request, response: Response, body: SignIn) -> SessionView:
    """Sign in: the token is kept in a cookie of this origin."""
    caller = service.access.identify(body.token)
    if caller is None or not body.token.isascii() or not body.token.isprintable():
        raise Refused(401, "this token opens nothing", headers={"WWW-Authenticate": "Bearer"})
    secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    response.set_cookie(
        COOKIE, body.token, max_age=DAYS, httponly=True, samesite="strict", secure=secure,
        path=request.scope.get("root_path", "") + "/",
    )  # fmt: skip
    return SessionView(signed_in=True, needed=service.settings.needs_token, scope=caller.scope)


@router.delete("", status_code=204, response_class=Response, responses=RESPONSES)
def sign_out(request: Request) -> Response:
    """Sign out: the cookie goes."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path=request.scope.get("root_path", "") + "/")
    return response
