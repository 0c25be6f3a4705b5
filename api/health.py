"""Is it up, can it serve, and how much: for supervisors, balancers and Prometheus."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from api import metrics
from api.problems import documented
from api.rest.types import Here
from api.service import Service
from evosearch.errors import EvosearchError

router = APIRouter(tags=["health"])
OPEN = documented(403, 421, 429, 500)
Gauge = tuple[str, str, Mapping[str, str], float]


@router.get("/healthz", responses=OPEN)
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get(
    "/readyz", response_model=dict[str, str],
    responses=OPEN | {503: {"description": "The store cannot be read"}},
)  # fmt: skip
def readyz(service: Here) -> JSONResponse:
    """The store can be read, and events flow."""
    try:
        service.rest.last_seqs()
    except EvosearchError:
        return JSONResponse({"status": "the store cannot be read"}, 503)
    if not service.feed.ready:
        return JSONResponse({"status": "events do not flow"}, 503)
    return JSONResponse({"status": "ok"})


@router.get(
    "/metrics", response_class=PlainTextResponse, responses=documented(401, 403, 421, 429, 500, 503)
)  # fmt: skip
def prometheus(service: Here) -> PlainTextResponse:
    """Counts and gauges in Prometheus' text format."""
    return PlainTextResponse(service.metrics.text(gauges(service)), media_type=metrics.MEDIA)


def gauges(service: Service) -> Iterable[Gauge]:
    """What is counted at the moment of asking."""
    yield "evosearch_event_streams", "Open event streams.", {}, service.feed.count
    for row in service.queries.searches():
        if row.status in ("running", "paused"):
            labels = {"search": row.id, "status": row.status}
            yield "evosearch_evaluated", "Evaluated candidates.", labels, row.evaluated
            yield "evosearch_hypervolume", "Hypervolume of the front.", labels, row.hypervolume
    alive = [row for row in service.controllers.list() if row.alive]
    workers = [one for row in alive for one in row.workers if one.get("state") != "dead"]
    yield "evosearch_controllers", "Controllers alive.", {}, len(alive)
    yield "evosearch_workers", "Workers of live controllers.", {}, len(workers)
    busy = sum(worker.get("state") == "busy" for worker in workers)
    yield "evosearch_workers_busy", "Workers at a job.", {}, busy
    free = service.disk_free()
    if free is not None:
        yield "evosearch_disk_free_bytes", "Free room beside the database.", {}, free
    memory = resident_bytes()
    if memory is not None:
        yield "evosearch_web_memory_bytes", "Memory of the web process.", {}, memory


def resident_bytes() -> int | None:
    """Memory that this process holds; None where the system does not say."""
    if not sys.platform.startswith("linux"):
        return None
    import os

    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
