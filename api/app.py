"""Makes the web app: routes, guard, feed. It must import neither torch nor ray.

One app is one process; several may serve one store, for they share nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.gzip import GZipMiddleware

from api import health, problems
from api.dashboard import pages
from api.guard import Guard
from api.links import add_links
from api.problems import Problem
from api.rest import (
    candidates,
    charts,
    figures,
    known,
    layers,
    live,
    looks,
    searches,
    session,
    steer,
)
from api.service import Service
from api.settings import ServiceSettings
from api.wiring import package_version
from evosearch.plugins import load_registered_rows

ROUTERS = (searches, steer, candidates, looks, figures, charts, live, known, layers, session)


class Application:
    """The app behind its guard; ``service`` is closed when the app ends."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.service = Service(settings)
        self.api = _api(self.service)
        self._guarded = Guard(
            GZipMiddleware(self.api, minimum_size=1000, compresslevel=5), settings,
            self.service.access, self.service.metrics,
        )  # fmt: skip

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._guarded(scope, receive, send)


def make_app(settings: ServiceSettings) -> Application:
    """The app with these settings.

    Raises:
        StoreError: the database cannot be used.
        ConfigError: the token file cannot be read.
        PluginError: a plug-in with primitives cannot be loaded.
    """
    load_registered_rows()
    return Application(settings)


def _api(service: Service) -> FastAPI:
    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.feed.start()
        service.warm()
        service.stalls.start()
        yield
        await service.feed.stop()
        service.close()

    app = FastAPI(
        title="evosearch", version=package_version("evosearch"), lifespan=life,
        summary="Evolve normalization-activation layers for your own networks and data.",
        openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.service = service
    problems.install(app)
    rest = APIRouter(prefix="/api/v1")
    for module in ROUTERS:
        rest.include_router(module.router)
    app.include_router(rest)
    app.include_router(health.router)
    pages.mount(app, service.settings.root_path)
    app.openapi = _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> Any:
    """OpenAPI with the shape of problems and how to sign in."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = original()
            parts = made.setdefault("components", {})
            shapes = parts.setdefault("schemas", {})
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            shapes.update(schema.pop("$defs", {}))
            shapes["Problem"] = schema
            parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"bearer": []}, {}]
            _drop_default_422(made)
            add_links(made)
        return dict(app.openapi_schema or {})

    return openapi


def _drop_default_422(document: dict[str, Any]) -> None:
    """FastAPI documents its own shape of errors beside ours; ours is what is sent."""
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("responses", {}).get("422", {}).get("content", {})
            content.pop("application/json", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
