"""What the page's charts and panels show of a search; every answer is bounded.

Under ``/api/v1/searches/{ref}``:

- ``/verdict`` -> ``{"outcome": "ahead_surely", "text": "leader +1.4 ± 0.6 points over ...",
  "leader": {"birth": 6341, "gain": {"value": 0.014, "low": 0.008, "high": 0.02}, "anchors":
  [{"anchor": "resnet", "baseline": "bn-silu", "gain": {...}}]}, "final": {...} | null}``
- ``/scatter?x=step_time&y=gain&points=5000`` -> ``{"births": [..], "x": [..], "y": [..],
  "margin": [..], "confirmed": [..], "on_front": [..], "baselines": [{"name": "BN-ReLU", "x": 1.0,
  "y": 0.0}], "rest": {"x_edges", "y_edges", "counts"} | null}``; axes are gain, step_time,
  live_nodes, memory, mean_score, age, score.ANCHOR, score.ANCHOR#OBJECTIVE and gain.ANCHOR
- ``/progress?points=400`` -> ``{"leader": [{"evaluated", "hours", "steps", "gpu_hours", "birth",
  "seeds", "gain", "gains": [..]}], "provisional": [..], "hypervolume": [{.., "value"}],
  "marks": [{.., "kind"}]}``
- ``/funnel/path`` -> ``{"bars": [{"stage": "proposed", "count", "share", "worker_seconds",
  "saved_hours", "false_rejection_rate", "filter"}]}``
- ``/throughput?bins=60`` -> ``{"starts": [..], "evaluated": [..], "busy": [..], "workers": 8}``
- ``/failures`` -> ``{"causes": [{"cause": "died", "candidates", "jobs", "last", "births"}]}``
- ``/simplest`` -> ``{"rows": [{"live_nodes": 3, "birth", "formula", "gain", "buys"}]}``
- ``/primitive-shares?bins=24`` -> ``{"births": [..], "rows": [{"primitive": "rms_batch",
  "proposals": [..], "survivors": [..], "front": [..]}]}``
- ``/ages?members=1000`` -> ``{"members": [{"birth", "age", "score", "gain", "on_front"}]}``
- ``/since?event=N`` -> ``{"evaluated": 412, "new_on_front": 2, "workers_lost": 1, ...}``
- ``/config-difference`` -> ``{"differences": [{"key": "task.steps", "preset": 100, "here": 150}],
  "toml": ".."}``

All but verdict, failures, since and the config take ``range=gain:0..0.02`` (several times): what of
them is in all those ranges.

Under ``/api/v1``: ``/compare?search=A&search=B`` -> searches in a line each, with verdict and
sparkline.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.charts.breakdown import (
    counts_since,
)
from api.charts.failures import failures_view
from api.charts.line import comparable_to, search_line
from api.charts.since import since_view
from api.charts.verdict import search_verdict
from api.rest.chart_schemas import (
    AgesView,
    Comparison,
    ConfigDifference,
    FailuresView,
    FunnelPath,
    PrimitiveShares,
    ProgressView,
    ScatterView,
    SearchVerdict,
    SimplestView,
    SinceView,
    ThroughputView,
)
from api.rest.ranges import Quantity, Ranges
from api.rest.types import (
    COMMON,
    FOUND,
    MAX_INT,
    UNCHANGED,
    Here,
    SearchRef,
    as_json,
    etag_of,
    not_modified,
    unchanged,
)
from api.service import Service
from evosearch.ports import SearchInfo

router = APIRouter(tags=["charts"])
HERE = "/searches/{ref}"
MAX_COMPARED = 50


@router.get(HERE + "/verdict", responses=FOUND | UNCHANGED)
def verdict(service: Here, ref: SearchRef, request: Request, response: Response) -> SearchVerdict:
    """Leader, gain over the better baseline with its interval, and the final figure if any."""
    info = service.store.search(ref)
    if unchanged(request, response, etag_of("verdict", info.id, info.last_seq)):
        same: SearchVerdict = not_modified(response)
        return same
    return verdict_of(service, info)


@router.get(HERE + "/scatter", responses=FOUND | UNCHANGED)
def show_scatter(
    service: Here, ref: SearchRef, request: Request, response: Response,
    wanted: Ranges, x: Quantity = "step_time", y: Quantity = "gain",
    points: Annotated[int, Query(ge=1, le=5000)] = 5000,
) -> ScatterView:  # fmt: skip
    """Evaluated candidates against two quantities; what is not a point is in the histogram."""
    info = service.store.search(ref)
    tag = etag_of("scatter", info.id, info.last_seq, x, y, points, *wanted)
    if unchanged(request, response, tag):
        same: ScatterView = not_modified(response)
        return same
    made: ScatterView = as_json(service.charts.scatter(info, x, y, points, wanted), response)
    return made


@router.get(HERE + "/progress", responses=FOUND)
def show_progress(
    service: Here, ref: SearchRef, wanted: Ranges,
    points: Annotated[int, Query(ge=2, le=2000)] = 400,
) -> ProgressView:  # fmt: skip
    """The leader's gain and the hypervolume against evaluations, hours, steps and GPU-hours."""
    return service.charts.progress(service.store.search(ref), points, wanted)


@router.get(HERE + "/funnel/path", responses=FOUND | UNCHANGED)
def show_path(
    service: Here, ref: SearchRef, request: Request, response: Response, wanted: Ranges
) -> FunnelPath:
    """The funnel as a way from proposals to the front, with shares, costs and savings."""
    info = service.store.search(ref)
    if unchanged(request, response, etag_of("path", info.id, info.last_seq, *wanted)):
        same: FunnelPath = not_modified(response)
        return same
    return service.charts.funnel(info, wanted)


@router.get(HERE + "/throughput", responses=FOUND)
def show_throughput(
    service: Here, ref: SearchRef, wanted: Ranges,
    bins: Annotated[int, Query(ge=1, le=500)] = 60,
) -> ThroughputView:  # fmt: skip
    """Outcomes by kind and busy workers in equal bins of time."""
    return service.charts.throughput(service.store.search(ref), bins, wanted)


@router.get(HERE + "/failures", responses=FOUND)
def show_failures(service: Here, ref: SearchRef) -> FailuresView:
    """All failures by cause and by worker: candidates without a verdict, and lost jobs."""
    with service.ledgers.of(service.store.search(ref)) as ledger:
        return failures_view(ledger.failures)


@router.get(HERE + "/simplest", responses=FOUND | UNCHANGED)
def show_simplest(
    service: Here, ref: SearchRef, request: Request, response: Response, wanted: Ranges
) -> SimplestView:
    """The best candidate of each number of live nodes, and what each further node buys."""
    info = service.store.search(ref)
    if unchanged(request, response, etag_of("simplest", info.id, info.last_seq, *wanted)):
        same: SimplestView = not_modified(response)
        return same
    return service.charts.simplest(info, wanted)


@router.get(HERE + "/primitive-shares", responses=FOUND)
def show_primitives(
    service: Here, ref: SearchRef, wanted: Ranges,
    bins: Annotated[int, Query(ge=1, le=100)] = 24,
) -> PrimitiveShares:  # fmt: skip
    """Share of proposals, survivors and the front that use each primitive, over births."""
    return service.charts.primitive_shares(service.store.search(ref), bins, wanted)


@router.get(HERE + "/ages", responses=FOUND)
def show_ages(
    service: Here, ref: SearchRef, response: Response, wanted: Ranges,
    members: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> AgesView:  # fmt: skip
    """The population: age (outcomes since) against score."""
    made: AgesView = as_json(
        service.charts.ages(service.store.search(ref), members, wanted), response
    )
    return made


@router.get(HERE + "/since", responses=FOUND)
def show_since(
    service: Here, ref: SearchRef, event: Annotated[int, Query(ge=0, le=MAX_INT)] = 0
) -> SinceView:
    """What happened after an event, for someone who comes back."""
    info = service.store.search(ref)
    before = service.queries.events(info.id, after=max(0, event - 1), limit=1) if event else []
    with service.ledgers.of(info) as ledger:
        fresh = sorted((seq, birth) for birth, seq in ledger.entered.items() if seq > event)
        formulas = formulas_of(service, info.id, [birth for _, birth in fresh[-50:]])
        at = before[0].at if before and before[0].seq == event else None
        return since_view(
            ledger, info, event, at, counts_since(ledger, event), fresh, formulas,
            ledger.lead_at(event),
        )  # fmt: skip


@router.get(HERE + "/config-difference", responses=FOUND)
def show_difference(service: Here, ref: SearchRef) -> ConfigDifference:
    """Settings that are not the preset's, and the whole config as TOML."""
    from api.charts.configs import config_difference

    return config_difference(service.store.search(ref).config)


@router.get("/compare", responses=COMMON | FOUND)
def compare(
    service: Here,
    search: Annotated[
        list[Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{1,64}$")]],
        Query(min_length=1, max_length=MAX_COMPARED),
    ],
) -> Comparison:
    """Searches in a line each: verdict, sparkline, and whether they can be compared."""
    infos = [service.store.search(one) for one in search]
    lines = []
    for info in infos:
        told = verdict_of(service, info)
        with service.ledgers.of(info) as ledger:
            same = comparable_to(info.config, infos[0].config)
            lines.append(search_line(ledger, info, told, comparable=same))
    return Comparison(searches=lines)


def verdict_of(service: Service, info: SearchInfo) -> SearchVerdict:
    """The verdict of one search."""
    report = service.queries.last_event(info.id, "reported") if info.status == "finished" else None
    with service.ledgers.of(info) as ledger:
        lead = ledger.leader()
        formulas = {} if lead is None else formulas_of(service, info.id, [lead.birth])
        return search_verdict(
            ledger, formulas, None if report is None else report.payload["report"]
        )


def formulas_of(service: Service, search_id: str, births: list[int]) -> dict[int, str | None]:
    """Birth -> formula of these candidates (at most 1,000)."""
    return service.rest.formulas(search_id, births) if births else {}
