"""A typed client of the service, sync and async, over httpx alone.

It must import nothing of the project but errors, so that it may be used where nothing trains; only
`Client.layer` builds a module, and imports torch for it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from evosearch.errors import ConfigError, EvosearchError, NotFound, StateConflict

if TYPE_CHECKING:
    import httpx

ENDED = frozenset({"finished", "stopped", "failed"})
RETRY_SECONDS = 1.0
STREAM_SECONDS = 60.0
"""Silence after which a stream counts as dead; the service's heartbeat is much shorter."""


class ServiceError(EvosearchError):
    """The service refused or failed; ``status`` and ``error_id`` as it told."""

    def __init__(self, what: str, *, status: int, error_id: str = "") -> None:
        self.status, self.error_id = status, error_id
        super().__init__(what, where=f"service, status {status}", hint=f"error {error_id}")


@dataclass(frozen=True, slots=True)
class Search:
    """A search as the service shows it; ``data`` has every field."""

    id: str
    title: str
    status: str
    phase: str
    evaluated: int
    budget: int
    hypervolume: float
    data: Mapping[str, Any] = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status in ENDED

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Search:
        """From the service's JSON."""
        names = ("id", "title", "status", "phase", "evaluated", "budget", "hypervolume")
        return cls(**{name: data[name] for name in names}, data=data)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate as the service shows it; ``data`` has every field."""

    birth: int
    state: str
    formula: str | None
    mean_score: float | None
    scores: Mapping[str, float] | None
    seeds: int
    data: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Candidate:
        """From the service's JSON."""
        names = ("birth", "state", "formula", "mean_score", "scores", "seeds")
        return cls(**{name: data[name] for name in names}, data=data)


@dataclass(frozen=True, slots=True)
class Event:
    """A live event. ``id``: resumes the stream behind it."""

    search: str
    seq: int
    kind: str
    at: str
    data: Mapping[str, Any]
    id: str


class _Requests:
    """What both clients ask, as (method, path, arguments); neither sends nor waits."""

    def __init__(self, token: str | None) -> None:
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    @staticmethod
    def create(preset: str | None, config: Mapping[str, Any] | None, key: str | None,
               more: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:  # fmt: skip
        body = {"preset": preset, "config": config, **more}
        return (
            {name: value for name, value in body.items() if value is not None},
            {"Idempotency-Key": key or secrets.token_hex(16)},
        )

    @staticmethod
    def body_of(response: httpx.Response) -> Any:
        """The answer's JSON.

        Raises:
            NotFound, StateConflict, ConfigError, ServiceError: as the service answered.
        """
        if response.is_success:
            return response.json() if response.content else None
        try:
            told = response.json()
            detail, error_id = str(told["detail"]), str(told["error_id"])
        except (ValueError, LookupError, TypeError):
            detail, error_id = response.text[:200] or "no words", ""
        match response.status_code:
            case 404:
                raise NotFound(detail)
            case 409:
                raise StateConflict(detail)
            case 400 | 422:
                raise ConfigError(detail)
            case status:
                raise ServiceError(detail, status=status, error_id=error_id)


class Client:
    """The service at ``url``, for plain code; use it as a context.

    Example:
        >>> with Client("http://127.0.0.1:8642") as client:      # doctest: +SKIP
        ...     search = client.create("quickstart", seed=1)
        ...     for event in client.watch(search.id):
        ...         print(event.kind)
        ...     layer = client.layer(search.id, client.front(search.id)[0].birth, 64)
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8642", *, token: str | None = None,
        timeout: float = 60.0, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        import httpx

        self._requests = _Requests(token)
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1", headers=self._requests.headers, timeout=timeout,
            transport=transport,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections; idempotent."""
        self._http.close()

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        return self._requests.body_of(self._http.request(method, path, **more))

    def searches(self) -> list[Search]:
        """All searches, the newest first."""
        found: list[Search] = []
        params: dict[str, Any] = {}
        while True:
            page = self._ask("GET", "/searches", params=params)
            found += map(Search.of, page["searches"])
            if not page.get("next"):
                return found
            params = {"cursor": page["next"]}

    def search(self, ref: str) -> Search:
        """The search of that id or beginning of an id."""
        return Search.of(self._ask("GET", f"/searches/{ref}"))

    def create(
        self, preset: str | None = None, *, config: Mapping[str, Any] | None = None,
        key: str | None = None, **more: Any,
    ) -> Search:  # fmt: skip
        """Create a search; with the same ``key`` again it returns the first one.

        ``more``: overrides, seed, title, tags, notes, priority; ``warm_start``: a search's id, to
        begin with the layers of its front.
        """
        body, headers = self._requests.create(preset, config, key, more)
        return Search.of(self._ask("POST", "/searches", json=body, headers=headers))

    def estimate(self, preset: str | None = None, *, config: Mapping[str, Any] | None = None,
                 **more: Any) -> dict[str, Any]:  # fmt: skip
        """What such a search would take; nothing is written."""
        body, _ = self._requests.create(preset, config, None, more)
        return dict(self._ask("POST", "/searches/dry-run", json=body))

    def command(self, ref: str, word: str, **body: Any) -> None:
        """Send ``pause``, ``resume``, ``stop``, ``extend`` or ``enqueue`` with its arguments."""
        self._ask("POST", f"/searches/{ref}/{word}", **({"json": body} if body else {}))

    def change(self, ref: str, **changes: Any) -> Search:
        """Change title, tags, notes, priority, marks or ``budget``; what is not named stays.

        ``budget``: evaluations in all, or limits such as ``{"hours": 3, "target": None}``: None
        clears one.
        """
        return Search.of(self._ask("PATCH", f"/searches/{ref}", json=changes))

    def delete(self, search_id: str) -> None:
        """Delete a search and everything about it."""
        self._ask("DELETE", f"/searches/{search_id}")

    def front(self, ref: str) -> list[Candidate]:
        """The Pareto front, the highest mean score first."""
        found = self._ask("GET", f"/searches/{ref}/front")["candidates"]
        return [Candidate.of(one) for one in found]

    def candidates(self, ref: str, **filters: Any) -> Iterator[Candidate]:
        """All candidates that the filters let through (where, state, sort, ...), page by page."""
        cursor: dict[str, Any] = {}
        while True:
            page = self._ask("GET", f"/searches/{ref}/candidates", params=filters | cursor)
            yield from (Candidate.of(one) for one in page["candidates"])
            if page["next"] is None:
                return
            cursor = {"cursor": page["next"]}

    def candidate(self, ref: str, birth: int) -> dict[str, Any]:
        """Everything about one candidate."""
        return dict(self._ask("GET", f"/searches/{ref}/candidates/{birth}"))

    def star(self, ref: str, birth: int, on: bool = True) -> None:
        """Give a candidate a star, or take it away; `candidates` has the filter ``starred``."""
        self._ask("PUT" if on else "DELETE", f"/searches/{ref}/candidates/{birth}/star")

    def export(self, ref: str, birth: int, format: str = "python") -> bytes:
        """The layer as a file."""
        path = f"/searches/{ref}/candidates/{birth}/export"
        response = self._http.get(path, params={"format": format})
        if not response.is_success:
            self._requests.body_of(response)
        return response.content

    def layer(self, ref: str, birth: int, num_features: int, **more: Any) -> Any:
        """The candidate as an `nn.Module`, built here from its graph: no code is downloaded."""
        return _build(self.candidate(ref, birth)["graph"], num_features, more)

    def check(self, formula: str, preset: str = "quickstart") -> dict[str, Any]:
        """What a layer is, and which check would reject it."""
        return dict(self._ask("POST", "/layers/check", json={"formula": formula, "preset": preset}))

    def watch(self, ref: str, *, after: int = 0) -> Iterator[Event]:
        """A search's events, from the one behind ``after`` on, each once, until it ends.

        A broken stream is taken up where it broke off.

        Raises:
            NotFound: there is no such search, or it was deleted meanwhile.
        """
        import httpx

        path = f"/searches/{self.search(ref).id}/events/stream"
        while True:
            try:
                before = after
                with self._http.stream("GET", path, **_following(after)) as answer:
                    if not answer.is_success:
                        answer.read()
                        self._requests.body_of(answer)
                    for event in _events(answer.iter_lines()):
                        after = event.seq
                        yield event
                        if _is_end(event):
                            return
                if after == before and self.search(ref).ended:
                    return
            except httpx.TransportError:
                pass
            except ServiceError as err:
                if err.status not in (429, 502, 503, 504):
                    raise
            time.sleep(RETRY_SECONDS)

    def wait(self, ref: str, seconds: float = 1.0) -> Search:
        """The search once it has ended."""
        while not (found := self.search(ref)).ended:
            time.sleep(seconds)
        return found


class AsyncClient:
    """The same service for asynchronous code; use it as an asynchronous context."""

    def __init__(
        self, url: str = "http://127.0.0.1:8642", *, token: str | None = None,
        timeout: float = 60.0, transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        import httpx

        self._requests = _Requests(token)
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1", headers=self._requests.headers, timeout=timeout,
            transport=transport,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def _ask(self, method: str, path: str, **more: Any) -> Any:
        return self._requests.body_of(await self._http.request(method, path, **more))

    async def searches(self) -> list[Search]:
        """All searches, the newest first."""
        found: list[Search] = []
        params: dict[str, Any] = {}
        while True:
            page = await self._ask("GET", "/searches", params=params)
            found += map(Search.of, page["searches"])
            if not page.get("next"):
                return found
            params = {"cursor": page["next"]}

    async def search(self, ref: str) -> Search:
        """The search of that id or beginning of an id."""
        return Search.of(await self._ask("GET", f"/searches/{ref}"))

    async def create(
        self, preset: str | None = None, *, config: Mapping[str, Any] | None = None,
        key: str | None = None, **more: Any,
    ) -> Search:  # fmt: skip
        """Create a search, as `Client.create` does."""
        body, headers = self._requests.create(preset, config, key, more)
        return Search.of(await self._ask("POST", "/searches", json=body, headers=headers))

    async def estimate(
        self, preset: str | None = None, *, config: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        """What such a search would take; nothing is written."""
        body, _ = self._requests.create(preset, config, None, more)
        return dict(await self._ask("POST", "/searches/dry-run", json=body))

    async def change(self, ref: str, **changes: Any) -> Search:
        """Change title, tags, notes, priority, marks or ``budget``, as `Client.change` does."""
        return Search.of(await self._ask("PATCH", f"/searches/{ref}", json=changes))

    async def delete(self, search_id: str) -> None:
        """Delete a search and everything about it."""
        await self._ask("DELETE", f"/searches/{search_id}")

    async def command(self, ref: str, word: str, **body: Any) -> None:
        """Send ``pause``, ``resume``, ``stop``, ``extend`` or ``enqueue``."""
        await self._ask("POST", f"/searches/{ref}/{word}", **({"json": body} if body else {}))

    async def front(self, ref: str) -> list[Candidate]:
        """The Pareto front, the highest mean score first."""
        found = (await self._ask("GET", f"/searches/{ref}/front"))["candidates"]
        return [Candidate.of(one) for one in found]

    async def candidates(self, ref: str, **filters: Any) -> AsyncIterator[Candidate]:
        """All candidates that the filters let through (where, state, sort, ...), page by page."""
        cursor: dict[str, Any] = {}
        while True:
            page = await self._ask("GET", f"/searches/{ref}/candidates", params=filters | cursor)
            for one in page["candidates"]:
                yield Candidate.of(one)
            if page["next"] is None:
                return
            cursor = {"cursor": page["next"]}

    async def candidate(self, ref: str, birth: int) -> dict[str, Any]:
        """Everything about one candidate."""
        return dict(await self._ask("GET", f"/searches/{ref}/candidates/{birth}"))

    async def star(self, ref: str, birth: int, on: bool = True) -> None:
        """Give a candidate a star, or take it away."""
        await self._ask("PUT" if on else "DELETE", f"/searches/{ref}/candidates/{birth}/star")

    async def export(self, ref: str, birth: int, format: str = "python") -> bytes:
        """The layer as a file."""
        path = f"/searches/{ref}/candidates/{birth}/export"
        response = await self._http.get(path, params={"format": format})
        if not response.is_success:
            self._requests.body_of(response)
        return response.content

    async def layer(self, ref: str, birth: int, num_features: int, **more: Any) -> Any:
        """The candidate as an `nn.Module`, built here from its graph: no code is downloaded."""
        return _build((await self.candidate(ref, birth))["graph"], num_features, more)

    async def check(self, formula: str, preset: str = "quickstart") -> dict[str, Any]:
        """What a layer is, and which check would reject it."""
        body = {"formula": formula, "preset": preset}
        return dict(await self._ask("POST", "/layers/check", json=body))

    async def wait(self, ref: str, seconds: float = 1.0) -> Search:
        """The search once it has ended."""
        import asyncio

        while not (found := await self.search(ref)).ended:
            await asyncio.sleep(seconds)
        return found

    async def watch(self, ref: str, *, after: int = 0) -> AsyncIterator[Event]:
        """A search's events, from the one behind ``after`` on, each once, until it ends."""
        import asyncio

        import httpx

        path = f"/searches/{(await self.search(ref)).id}/events/stream"
        while True:
            try:
                before = after
                async with self._http.stream("GET", path, **_following(after)) as answer:
                    if not answer.is_success:
                        await answer.aread()
                        self._requests.body_of(answer)
                    reader = _Reader()
                    async for line in answer.aiter_lines():
                        event = reader.add(line)
                        if event is None:
                            continue
                        after = event.seq
                        yield event
                        if _is_end(event):
                            return
                if after == before and (await self.search(ref)).ended:
                    return
            except httpx.TransportError:
                pass
            except ServiceError as err:
                if err.status not in (429, 502, 503, 504):
                    raise
            await asyncio.sleep(RETRY_SECONDS)


def _build(graph: Mapping[str, Any], num_features: int, more: Mapping[str, Any]) -> Any:
    from evosearch import Graph, build_layer

    return build_layer(Graph.from_json(dict(graph)), num_features, **more)


class _Reader:
    """Puts lines of an event stream together."""

    def __init__(self) -> None:
        self._data: list[str] = []
        self._id = ""

    def add(self, line: str) -> Event | None:
        """An event, if this line ends one."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif not line and self._data:
            told = json.loads("\n".join(self._data))
            self._data = []
            return Event(
                told["search"], told["seq"], told["kind"], told["at"], told["event"], self._id
            )
        return None


def _events(lines: Iterator[str]) -> Iterator[Event]:
    reader = _Reader()
    for line in lines:
        event = reader.add(line)
        if event is not None:
            yield event


def _is_end(event: Event) -> bool:
    return event.kind == "status_changed" and event.data["status"] in ENDED


def _following(after: int) -> dict[str, Any]:
    """How a stream is asked for: from where on, to the search's end, with its own time limit."""
    import httpx

    return {
        "headers": {"Last-Event-ID": str(after)}, "params": {"until": "end"},
        "timeout": httpx.Timeout(10.0, read=STREAM_SECONDS),
    }  # fmt: skip
