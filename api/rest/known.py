"""What is known here: catalog, primitives, anchors, data sets, presets, workers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from api.rest.schemas import (
    CatalogEntry,
    ControllerView,
    PresetList,
    PresetView,
    PrimitiveView,
    WorkersView,
    WorkerView,
)
from api.rest.types import COMMON, UNCHANGED, Here, etag_of, not_modified, unchanged
from api.wiring import package_version
from evosearch.config import SearchConfig
from evosearch.presets import load_preset, preset_names
from primitives.catalog import CATALOG
from primitives.ops import OPS
from primitives.structure import analyse

router = APIRouter(tags=["known"])
VERSION = package_version("evosearch")


@router.get("/catalog", responses=COMMON | UNCHANGED)
def catalog(request: Request, response: Response) -> list[CatalogEntry]:
    """Layers that are known by name, with their sources."""
    if unchanged(request, response, etag_of("catalog", VERSION, len(CATALOG))):
        same: list[CatalogEntry] = not_modified(response)
        return same
    return [
        CatalogEntry(
            name=one.name, title=one.title, formula=one.formula, citation=one.citation,
            year=one.year, slot=one.slot, torch_equivalent=one.torch_equivalent,
            live_nodes=analyse(one.graph).live_nodes,
            batch_independent=analyse(one.graph).batch_independent,
        )
        for one in CATALOG.values()
    ]  # fmt: skip


@router.get("/primitives", responses=COMMON | UNCHANGED)
def primitives(request: Request, response: Response) -> list[PrimitiveView]:
    """The op table: every primitive with each of its index sets."""
    if unchanged(request, response, etag_of("primitives", VERSION, len(OPS))):
        same: list[PrimitiveView] = not_modified(response)
        return same
    return [
        PrimitiveView(
            name=op.name, over=over, arity=op.arity,
            kind="element-wise" if over is None else "aggregation",
        )
        for op in OPS.values()
        for over in (op.index_sets or (None,))
    ]  # fmt: skip


@router.get("/anchors", responses=COMMON)
def anchors(service: Here) -> list[str]:
    """Anchor networks that the workers know."""
    return list(service.offers()["anchors"])


@router.get("/datasets", responses=COMMON)
def datasets(service: Here) -> list[str]:
    """Data sets that the workers know."""
    return list(service.offers()["datasets"])


@router.get("/versions", responses=COMMON)
def versions(service: Here) -> dict[str, str]:
    """Versions of what computes."""
    return {str(name): str(text) for name, text in service.offers()["versions"].items()}


@router.get("/presets", responses=COMMON | UNCHANGED)
def presets(request: Request, response: Response) -> PresetList:
    """Presets with their whole configs, and the JSON schema of a config."""
    if unchanged(request, response, etag_of("presets", VERSION, *preset_names())):
        same: PresetList = not_modified(response)
        return same
    return PresetList(presets=[preset_view(name) for name in preset_names()],
                      json_schema=SearchConfig.model_json_schema())  # fmt: skip


@router.get("/workers", responses=COMMON)
def workers(service: Here) -> WorkersView:
    """Controllers and their workers: who evaluates what."""
    rows = service.controllers.list()
    views = [
        ControllerView(
            owner=row.owner, host=row.host, pid=row.pid, pool=row.pool, alive=row.alive,
            seen_seconds_ago=row.age, started_at=row.started_at, capacity=row.capacity,
            searches=row.searches, workers=[WorkerView(**one) for one in row.workers],
        )
        for row in rows
    ]  # fmt: skip
    alive = [
        worker for view in views if view.alive for worker in view.workers if worker.state != "dead"
    ]
    busy = sum(worker.state == "busy" for worker in alive)
    return WorkersView(controllers=views, workers=len(alive), busy=busy)


def preset_view(name: str) -> PresetView:
    """A preset with its whole config."""
    config: dict[str, Any] = load_preset(name).model_dump(mode="json")
    return PresetView(name=name, config=config)
