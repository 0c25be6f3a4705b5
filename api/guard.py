"""What stands before every request: host, origin, token, rate, size, and what the answer carries.

Plain ASGI, so that event streams pass through unbuffered. This file must not know any route but
the few that are open to everyone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Access, Caller
from api.logs import request_id, subject, subject_of
from api.metrics import Metrics
from api.problems import problem, unexpected
from api.settings import ServiceSettings
from api.strict_json import JsonError, check_json

COOKIE = "evosearch_token"
OPEN = ("/healthz", "/readyz", "/api/v1/session", "/assets/", "/static/", "/favicon")
"""Paths that need no token: is it up, signing in, and the page's own files, which hold no data."""
READS = frozenset({"/api/v1/layers/check", "/api/v1/layers/export", "/api/v1/searches/dry-run"})
"""Paths whose POST changes nothing."""
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
log = logging.getLogger("evosearch.access")


class Guard:
    """The outermost layer of the app."""

    def __init__(
        self, app: ASGIApp, settings: ServiceSettings, access: Access, metrics: Metrics
    ) -> None:
        self._app, self._settings, self._access, self._metrics = app, settings, access, metrics
        self._rate = Rate(settings.rate_per_minute / 60.0, settings.rate_burst)
        self._hosts = allowed_hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        begin = time.perf_counter()
        mark = request_id.set(request_id.new())
        about = subject.set(subject_of(scope["path"]))
        try:
            await self._pass(scope, receive, answer)
        except Exception as err:
            if answer.status is None:
                await unexpected(err)(scope, receive, answer)
            elif not answer.complete:
                raise  # too late for an answer: the server cuts the connection
        finally:
            seconds = time.perf_counter() - begin
            self._metrics.request(scope, answer.status or 500, seconds)
            log.info(
                "%s %s %s", scope["method"], scope["path"], answer.status,
                extra={"status": answer.status, "milliseconds": round(1000 * seconds, 1),
                       "caller": caller_of(scope)},
            )  # fmt: skip
            request_id.reset(mark)
            subject.reset(about)

    async def _pass(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        headers = Headers(scope=scope)
        refusal = self._refuse_host(headers) or self._refuse_origin(scope, headers)
        caller, host = None, host_of(scope)
        if refusal is None:
            caller, refusal = await self._identify(scope, headers)
        if refusal is None:
            refusal = too_many(self._rate.take(caller.id if caller and caller.id else host))
        if refusal is None:
            body, refusal = await self._read(scope, headers, receive)
            receive = _replay(body, receive)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        # The proxy has stripped the prefix; links that are made below need it.
        scope["root_path"] = self._settings.root_path
        scope["path"] = self._settings.root_path + scope["path"]
        await self._app(scope, receive, send)

    def _refuse_host(self, headers: Headers) -> JSONResponse | None:
        """A name that is not ours is a page elsewhere that had its name point here."""
        hosts = headers.getlist("host")
        if len(hosts) == 1 and host_name(hosts[0]) in self._hosts:
            return None
        return problem(
            421, "this Host header is not served here; --allowed-host NAME adds one",
        )  # fmt: skip

    def _refuse_origin(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Other sites may not have a browser act here in its user's name."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in ("cross-site", "same-site") and scope["method"] not in ("GET", "HEAD"):
            return problem(403, "requests from other sites are refused")
        if origin is None:
            return None
        # Compared with the Host header, which is checked: a proxy may change the scheme.
        if origin != "null" and urlsplit(origin).netloc.lower() == headers.get("host", "").lower():
            return None
        return problem(403, "requests from other origins are refused")

    async def _identify(
        self, scope: Scope, headers: Headers
    ) -> tuple[Caller | None, JSONResponse | None]:
        path, method = scope["path"], scope["method"]
        if any(path == name or (name.endswith("/") and path.startswith(name)) for name in OPEN):
            return None, None
        text, tries = bearer(headers), f"tokens of {host_of(scope)}"
        if text is not None and not self._access.remembers(text):
            # Each look costs a query: who has tried many wrong ones waits before the next.
            refusal = too_many(self._rate.wait(tries))
            if refusal is not None:
                return None, refusal
        caller = await run_in_threadpool(self._access.identify, text)
        if caller is None:
            if not path.startswith("/api/") and path != "/metrics" and method in ("GET", "HEAD"):
                return None, None  # the page itself; it asks for the token
            refusal = too_many(self._rate.take(tries))
            if refusal is not None:
                return None, refusal
            told = "this token opens nothing" if text else "send Authorization: Bearer TOKEN"
            return None, problem(401, told, headers={"WWW-Authenticate": "Bearer"})
        reading = method in ("GET", "HEAD", "OPTIONS") or path in READS
        if not reading and caller.scope != "write":
            return None, problem(403, "this token may only read")
        return caller, None

    async def _read(
        self, scope: Scope, headers: Headers, receive: Receive
    ) -> tuple[bytes, JSONResponse | None]:
        if scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return b"", None
        limit = self._settings.max_body_bytes
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared[:20]) > limit:
            return b"", problem(413, f"the body is longer than {limit} bytes")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"", problem(400, "the body was cut off")
            size += len(message.get("body", b""))
            if size > limit:
                return b"", problem(413, f"the body is longer than {limit} bytes")
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = b"".join(parts)
        return body, self._refuse_json(headers, body)

    def _refuse_json(self, headers: Headers, body: bytes) -> JSONResponse | None:
        if not body:
            return None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "application/merge-patch+json"):
            return problem(415, f"the body must be application/json, got {kind[:60] or 'nothing'}")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as err:
            return problem(400, f"byte {err.start + 1}: the body is not UTF-8", position=err.start)
        try:
            check_json(text, self._settings.max_depth)
        except JsonError as err:
            return problem(400, str(err), position=err.position)
        return None


class _Answer:
    """Sends on, with the security headers, and remembers how far it came."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
            headers["x-request-id"] = request_id.get()
            message["headers"] = headers.raw
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.complete = True


class Rate:
    """Token buckets by client: ``burst`` at once, ``per_second`` in the long run."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, float(burst), clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, key: str) -> float:
        """Seconds until that client's next request may pass; takes nothing."""
        left, since = self._left.get(key, (self._burst, 0.0))
        left = min(self._burst, left + (self._clock() - since) * self._per_second)
        return max(0.0, (1.0 - left) / self._per_second)

    def take(self, key: str) -> float:
        """0 if the request may pass, else the seconds to wait."""
        now = self._clock()
        left, since = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        if left < 1.0:
            self._left[key] = (left, now)
            return (1.0 - left) / self._per_second
        self._left[key] = (left - 1.0, now)
        if len(self._left) > 10_000:  # the oldest are full again, or nearly so
            self._left.pop(next(iter(self._left)))
        return 0.0


def too_many(wait: float) -> JSONResponse | None:
    """The answer to a client that must wait; None where it need not."""
    if wait <= 0.0:
        return None
    return problem(429, "too many requests", headers={"Retry-After": str(int(wait) + 1)})


def caller_of(scope: Scope) -> str | None:
    """The id of the token that the request came with."""
    caller = scope.get("state", {}).get("caller")
    return caller.id or None if isinstance(caller, Caller) else None


def host_of(scope: Scope) -> str:
    """The address that the request came from."""
    return str((scope.get("client") or ("?",))[0])


def bearer(headers: Headers) -> str | None:
    """The token that the request carries: in its header, or in the page's cookie."""
    kind, _, text = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and text.strip():
        return text.strip()
    return cookie_parser(headers.get("cookie", "")).get(COOKIE) or None


def allowed_hosts(settings: ServiceSettings) -> frozenset[str]:
    """Names that the Host header may carry."""
    names = {"localhost", "127.0.0.1", "::1", host_name(settings.host)}
    return frozenset(names | {host_name(name) for name in settings.allowed_hosts})


def host_name(text: str) -> str:
    """The Host header without its port, in lower case."""
    text = text.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text if text.count(":") > 1 else text.partition(":")[0]


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, then whatever comes: the client's going away."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
