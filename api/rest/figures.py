"""Figures of a search: front, hypervolume, funnel, population, costs, events.

Each answer is bounded, whatever the number of candidates, and has an ETag of the log's length.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.charts.progress import thinned
from api.rest.schemas import (
    CostView,
    EventPage,
    EventView,
    FrontHistoryView,
    FrontStep,
    FrontView,
    FunnelStage,
    FunnelView,
    HypervolumeView,
    Member,
    PopulationView,
    PurposeCost,
    Rate,
)
from api.rest.types import (
    FOUND,
    MAX_INT,
    UNCHANGED,
    Here,
    Limit,
    SearchRef,
    etag_of,
    not_modified,
    unchanged,
)
from api.rest.views import candidate_view
from db.candidate_pages import Wanted
from db.views import FunnelRow
from evosearch.screen import SCREEN_CODES, WORKER_CODES
from evosearch.stats import false_rejection_rate
from evosearch.where import Compare

router = APIRouter(prefix="/searches/{ref}", tags=["figures"])
MEANINGS = {"": "passed", **WORKER_CODES, **SCREEN_CODES}
ON_FRONT = Compare("on_front", "==", (True,))
MAX_FRONT = 500


@router.get("/front", responses=FOUND | UNCHANGED)
def front(service: Here, ref: SearchRef, request: Request, response: Response) -> FrontView:
    """The Pareto front, the highest mean score first (at most 500 candidates)."""
    info = service.store.search(ref)
    if unchanged(request, response, etag_of("front", info.id, info.last_seq)):
        same: FrontView = not_modified(response)
        return same
    wanted = Wanted(where=ON_FRONT, sort="mean_score")
    rows, _ = service.pages.page(info.id, wanted, MAX_FRONT)
    return FrontView(
        hypervolume=info.hypervolume,
        reference={anchor.name: anchor.reference for anchor in info.config.task.anchors},
        candidates=[candidate_view(row) for row in rows],
    )


@router.get("/front/history", responses=FOUND)
def front_history(
    service: Here, ref: SearchRef, after: Annotated[int, Query(ge=0, le=MAX_INT)] = 0
) -> FrontHistoryView:
    """Every change of the front after an event, in order (the last 5,000)."""
    every = service.ledgers.steps(service.store.search(ref))
    steps = [one for one in every if one.place.seq > after]
    kept = steps[-5000:]
    return FrontHistoryView(
        steps=[
            FrontStep(
                seq=one.place.seq, at=one.place.at, evaluated=one.place.evaluated,
                hypervolume=one.hypervolume, front_in=list(one.front_in),
                front_out=list(one.front_out),
            )
            for one in kept
        ],
        truncated=len(kept) < len(steps),
    )  # fmt: skip


@router.get("/hypervolume", responses=FOUND)
def hypervolume(
    service: Here, ref: SearchRef, points: Annotated[int, Query(ge=2, le=5000)] = 1000
) -> HypervolumeView:
    """The hypervolume against evaluated candidates, thinned to so many points."""
    info = service.store.search(ref)
    kept = thinned(service.ledgers.steps(info), points)
    return HypervolumeView(
        hypervolume=info.hypervolume, evaluated=[one.place.evaluated for one in kept],
        values=[one.hypervolume for one in kept],
    )  # fmt: skip


@router.get("/funnel", responses=FOUND | UNCHANGED)
def funnel(service: Here, ref: SearchRef, request: Request, response: Response) -> FunnelView:
    """What each check threw out, at what cost, and how often wrongly (audited)."""
    info = service.store.search(ref)
    if unchanged(request, response, etag_of("funnel", info.id, info.last_seq)):
        same: FunnelView = not_modified(response)
        return same
    rows = service.queries.funnel(info.id)
    audit = service.rest.audit(info.id)
    share = info.config.checks.signal.audit_share
    rate = false_rejection_rate(**audit, share=share)
    kinds = ("controller", "enqueued", "worker")
    return FunnelView(
        states=service.queries.states(info.id),
        controller=_stages(rows, "controller"), enqueued=_stages(rows, "enqueued"),
        worker=_stages(rows, "worker"),
        checks=[_stage(row) for row in rows if row.stage not in kinds],
        audited=audit["audited"], wrongly_rejected=audit["wrong"],
        false_rejection_rate=None if rate is None else Rate(**rate._asdict()),
    )  # fmt: skip


@router.get("/population", responses=FOUND)
def population(service: Here, ref: SearchRef, limit: Limit = 500) -> PopulationView:
    """The population: figures of all, and its youngest members."""
    info = service.store.search(ref)
    size = info.config.evolution.population_size
    found = service.queries.population(info.id, size)
    members = service.rest.members(info.id, size, min(limit, service.settings.max_page))
    return PopulationView(
        size=found.size, lowest=found.lowest, mean=found.mean, highest=found.highest,
        front_size=found.front_size,
        members=[Member(birth=b, outcome=seq, mean_score=score) for b, seq, score in members],
    )  # fmt: skip


@router.get("/costs", responses=FOUND)
def costs(service: Here, ref: SearchRef) -> CostView:
    """Worker-seconds by purpose, and what the rejections saved."""
    info, settings = service.store.search(ref), service.settings
    training = service.rest.training_costs(info.id)
    rows = service.queries.funnel(info.id)
    checks: dict[str, float] = {}
    for row in rows:
        if row.stage not in ("controller", "enqueued", "worker"):
            checks[row.stage] = checks.get(row.stage, 0.0) + row.seconds
    rejected = sum(row.count for row in rows if row.stage == "worker")
    of_search = sum(row["seconds"] for row in training if row["purpose"] == "search")
    mean = of_search / info.evaluated if info.evaluated else None
    seconds = service.rest.worker_seconds(info.id)
    price = settings.price_per_hour
    return CostView(
        worker_seconds=seconds, gpu_hours=seconds / 3600 * service.gpus_per_worker(),
        training=[PurposeCost(**row) for row in training], check_seconds=checks,
        rejected=rejected, seconds_per_evaluation=mean,
        saved_seconds=None if mean is None
        else max(0.0, rejected * mean - sum(r.seconds for r in rows if r.stage == "worker")),
        price=None if price is None else seconds / 3600 * price, price_per_hour=price,
    )  # fmt: skip


@router.get("/events", responses=FOUND)
def events(
    service: Here, ref: SearchRef, after: Annotated[int, Query(ge=0, le=MAX_INT)] = 0,
    before: Annotated[
        int | None, Query(ge=1, le=MAX_INT, description="only events below this number")
    ] = None,
    kind: Annotated[
        list[Annotated[str, Query(pattern=r"^[a-z_]{1,40}$")]] | None,
        Query(max_length=20, description="only events of these kinds"),
    ] = None,
    limit: Limit = 200, newest: bool = False,
) -> EventPage:  # fmt: skip
    """A page of the log: what follows an event, or with ``newest`` the end of it."""
    info = service.store.search(ref)
    limit = min(limit, service.settings.max_page)
    rows = service.queries.events(
        info.id, after=after, before=before, kinds=kind or (), limit=limit + 1, newest=newest
    )
    more = len(rows) > limit
    rows = rows[-limit:] if newest else rows[:limit]
    return EventPage(
        events=[
            EventView(seq=row.seq, at=row.at, kind=row.kind, event=row.payload) for row in rows
        ],
        last=rows[-1].seq if rows else after,
        more=more,
    )


def _stages(rows: list[FunnelRow], stage: str) -> list[FunnelStage]:
    return [_stage(row) for row in rows if row.stage == stage]


def _stage(row: FunnelRow) -> FunnelStage:
    return FunnelStage(
        stage=row.stage, code=row.code, count=row.count, seconds=row.seconds, steps=row.steps,
        meaning=MEANINGS.get(row.code, row.code.replace("_", " ")),
    )  # fmt: skip
