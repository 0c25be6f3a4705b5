"""Candidates: pages, a stream of all as CSV, one with everything, its lineage, its exports."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.aside import aside
from api.charts.inside import Range
from api.export import Format, about, notes
from api.problems import Refused
from api.rest.ranges import Ranges, births_of
from api.rest.schemas import (
    CandidateDetail,
    CandidatePage,
    CheckView,
    EvaluationView,
    Lineage,
    Link,
    Relative,
)
from api.rest.types import (
    FOUND,
    UNCHANGED,
    Birth,
    Cursor,
    Here,
    Limit,
    SearchRef,
    etag_of,
    not_modified,
    unchanged,
)
from api.rest.views import candidate_view, properties, row_of, verdict
from api.service import Service
from db.candidate_pages import COLUMNS, Wanted
from db.queries_rest import LINEAGE_LIMIT
from db.states import CANDIDATE_STATES
from db.step_time import step_time_of
from evosearch.errors import NotFound
from evosearch.report import known_as
from evosearch.where import parse_where
from primitives.errors import EvosearchError
from primitives.graph import Graph

router = APIRouter(prefix="/searches/{ref}", tags=["candidates"])

State = Literal[CANDIDATE_STATES]  # type: ignore[valid-type]
Sort = Annotated[
    str,
    Query(pattern=r"^-?(birth|mean_score|live_nodes|seconds|seeds|finished_at|step_time|gain|gain_low|score\.[A-Za-z0-9_-]{1,40}(#[A-Za-z0-9_-]{1,40})?)$",
          description="a property, gain (over the better baseline), gain_low (its lower bound), or "
          "score.ANCHOR; with - in front the highest first"),
]  # fmt: skip
Channels = Annotated[
    int, Query(ge=1, le=4096, description="channels of torch-export and onnx programs")
]
MEDIA = {
    "python": ("text/x-python", "py"),
    "json": ("application/json", "json"),
    "formula": ("text/plain", "txt"),
    "latex": ("application/x-tex", "tex"),
    "dot": ("text/vnd.graphviz", "dot"),
    "onnx": ("application/octet-stream", "onnx"),
    "torch-export": ("application/octet-stream", "pt2"),
    "mathml": ("application/mathml+xml", "mathml"),
    "svg": ("image/svg+xml", "svg"),
    "bundle": ("application/zip", "zip"),
}
"""Export format -> media type and ending; formats that are not named here are plain text."""
EXPORTED: dict[int | str, dict[str, Any]] = {200: {"content": {
    media: {"schema": {"type": "object"} if ending == "json"
            else {"type": "string", "format": "binary"}}
    for media, ending in MEDIA.values()
}}}  # fmt: skip
"""How an exported layer comes, for the document of the interface."""


def filters(
    state: Annotated[list[State] | None, Query(max_length=9)] = None,
    stage: Annotated[
        list[Annotated[str, Query(max_length=40)]] | None,
        Query(max_length=20, description="code of the check that rejected it"),
    ] = None,
    score: Annotated[
        list[Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{1,40}:[0-9]*\.?[0-9]+$")]] | None,
        Query(max_length=10, description="ANCHOR:LEAST, such as resnet:0.75"),
    ] = None,
    text: Annotated[str, Query(max_length=200, description="part of the formula")] = "",
    where: Annotated[
        str | None,
        Query(max_length=1000, description="such as: batch_independent and live_nodes <= 6"),
    ] = None,
    starred: Annotated[bool | None, Query(description="with, or without a reader's star")] = None,
    sort: Sort = "-birth",
) -> Wanted:
    """The filter and order that the query asks for."""
    if any(ord(letter) < 32 for letter in text + "".join(stage or ())):
        raise Refused(422, "text and stage hold no control characters")
    pairs = [one.split(":") for one in score or ()]
    return Wanted(
        states=state or (), stages=stage or (), text=text,
        scores=tuple((anchor, float(least)) for anchor, least in pairs),
        where=None if not where else parse_where(where),
        starred=starred, sort=sort.removeprefix("-"), descending=sort.startswith("-"),
    )  # fmt: skip


Filters = Annotated[Wanted, Depends(filters)]


@router.get("/candidates", responses=FOUND)
def list_candidates(
    service: Here, ref: SearchRef, wanted: Filters, within: Ranges, limit: Limit = 50,
    cursor: Cursor = None,
) -> CandidatePage:  # fmt: skip
    """A page of candidates; stable while new ones come in."""
    search_id, wanted = _narrowed(service, ref, wanted, within)
    limit = min(limit, service.settings.max_page)
    rows, following = service.pages.page(search_id, wanted, limit, cursor)
    return CandidatePage(candidates=[candidate_view(row) for row in rows], next=following)


def _narrowed(
    service: Service, ref: str, wanted: Wanted, within: tuple[Range, ...]
) -> tuple[str, Wanted]:
    """(the search's id, the filter with the ranges in it)."""
    info = service.store.search(ref)
    return info.id, replace(wanted, births=births_of(service, info, within))


@router.get(
    "/candidates.csv", response_class=StreamingResponse,
    responses=FOUND | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)  # fmt: skip
def stream_csv(service: Here, ref: SearchRef, wanted: Filters, within: Ranges) -> StreamingResponse:
    """All candidates that the filter lets through, as CSV, in a stream."""
    search_id, wanted = _narrowed(service, ref, wanted, within)
    first, _ = service.pages.page(search_id, wanted, 1)  # a wrong filter fails before the headers
    del first
    headers = {"Content-Disposition": f'attachment; filename="candidates-{search_id}.csv"'}
    rows = service.pages.stream(search_id, wanted)
    return StreamingResponse(_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)


@router.get(
    "/candidates.parquet", response_class=StreamingResponse,
    responses=FOUND
    | {200: {"content": {"application/vnd.apache.parquet": {"schema": {"type": "string"}}}}},
)  # fmt: skip
def stream_parquet(
    service: Here, ref: SearchRef, wanted: Filters, within: Ranges
) -> StreamingResponse:
    """All candidates that the filter lets through, as Parquet, in a stream of row groups."""
    from api.parquet import parquet_stream

    search_id, wanted = _narrowed(service, ref, wanted, within)
    service.pages.page(search_id, wanted, 1)
    headers = {"Content-Disposition": f'attachment; filename="candidates-{search_id}.parquet"'}
    return StreamingResponse(
        parquet_stream(service.pages.stream(search_id, wanted)),
        media_type="application/vnd.apache.parquet", headers=headers,
    )  # fmt: skip


@router.get("/candidates/{birth}", responses=FOUND | UNCHANGED)
def show_candidate(
    service: Here, ref: SearchRef, birth: Birth, request: Request, response: Response
) -> CandidateDetail:
    """One candidate with its checks, trainings, curves, and why it was kept or thrown out."""
    info = service.store.search(ref)
    search_id = info.id
    found = service.queries.candidate(search_id, birth)
    row = found.candidate
    # Gain and step time follow from trainings of others, too.
    given = birth in service.store.stars(search_id)
    if unchanged(request, response, etag_of("candidate", search_id, birth, info.last_seq, given)):
        same: CandidateDetail = not_modified(response)
        return same
    curves = service.rest.curves(search_id, [one.seq for one in found.evaluations])
    facts = properties(row.graph)
    scale = service.pages.gains.of(search_id)
    gain = scale and scale.gain(birth, row.mean_score, row.seeds)
    seeds = scale.seeds(birth, row.seeds) if scale and gain else 0
    known = {"gain": gain and gain._asdict(), "starred": given, "gain_seeds": seeds,
             "step_time": step_time_of(service.store.engine, search_id, birth)}  # fmt: skip
    return CandidateDetail(
        **candidate_view(row_of(row, facts | known)).model_dump(exclude={"properties"}),
        graph=row.graph.to_json(), properties=facts | (row.properties or {}),
        latex=latex_of(row.graph),
        known_as=known_as(row.graph), verdict=verdict(row, seeds),
        parents=list(found.parents), children=list(found.children), repeats=found.repeats,
        checks=[CheckView.model_validate(one) for one in found.checks],
        evaluations=[
            EvaluationView.model_validate(one).model_copy(
                update={"curve": [_point(*p) for p in curves.get(one.seq, [])]}
            )
            for one in found.evaluations
        ],
    )  # fmt: skip


@router.put("/candidates/{birth}/star", status_code=204, response_class=Response, responses=FOUND)
def give_star(service: Here, ref: SearchRef, birth: Birth) -> Response:
    """Give a candidate a star: a reader's note, which changes nothing of the search."""
    service.store.star(service.store.search(ref).id, birth)
    return Response(status_code=204)


@router.delete(
    "/candidates/{birth}/star", status_code=204, response_class=Response, responses=FOUND
)
def take_star(service: Here, ref: SearchRef, birth: Birth) -> Response:
    """Take a candidate's star away."""
    service.store.star(service.store.search(ref).id, birth, False)
    return Response(status_code=204)


@router.get("/candidates/{birth}/lineage", responses=FOUND)
def show_lineage(
    service: Here, ref: SearchRef, birth: Birth, depth: Annotated[int, Query(ge=1, le=50)] = 10
) -> Lineage:
    """Ancestors and descendants of a candidate."""
    search_id = service.store.search(ref).id
    graph_of(service, search_id, birth)
    up = service.rest.lineage(search_id, birth, down=False, depth=depth)
    down = service.rest.lineage(search_id, birth, down=True, depth=depth)
    births = sorted({birth, *(one for link in (*up, *down) for one in link[:2])})
    known = service.rest.briefs(search_id, births)
    with service.ledgers.of(service.store.search(search_id)) as ledger:
        operators = ledger.operators_of(births)
    return Lineage(
        birth=birth,
        ancestors=[_link(*link) for link in up],
        descendants=[_link(*link) for link in down],
        candidates=[
            Relative(**known[one], operator=operators.get(one)) for one in births if one in known
        ],
        truncated=max(len(up), len(down)) >= LINEAGE_LIMIT or len(births) > len(known),
    )


@router.get(
    "/candidates/{birth}/export",
    response_class=Response,
    responses=FOUND | UNCHANGED | EXPORTED,
)
@aside
def export_candidate(
    service: Here, ref: SearchRef, birth: Birth, request: Request, response: Response,
    form: Annotated[Format, Query(alias="format")] = "python", channels: Channels = 64,
) -> Response:  # fmt: skip
    """The layer as a file; code is verified against the interpreter before it is sent."""
    search_id = service.store.search(ref).id
    graph = graph_of(service, search_id, birth)
    told = form in ("python", "bundle")  # these say scores, which change
    known, lines = told_of(service, search_id, birth) if told else ({}, [])
    tag = etag_of(graph.to_json_text(), form, channels, json.dumps(known, sort_keys=True))
    if unchanged(request, response, tag, forever=not told):
        same: Response = not_modified(response)
        return same
    media, ending = MEDIA.get(form, ("text/plain", form))
    name = file_name(f"layer-{search_id}-{birth}", form, ending)
    headers = dict(response.headers) | {"Content-Disposition": f'attachment; filename="{name}"'}
    data = rendered(service, graph, form, channels=channels, about=known, notes=lines)
    return Response(data, media_type=media, headers=headers)


def told_of(service: Service, search_id: str, birth: int) -> tuple[dict[str, object], list[str]]:
    """What a bundle says of a candidate, and the lines of a Python file's docstring."""
    row = service.queries.candidate(search_id, birth).candidate
    links = service.rest.lineage(search_id, birth, down=False, depth=50)
    parents: dict[int, list[int]] = {birth: []}
    for parent, child, _ in links:
        parents.setdefault(parent, [])
        parents.setdefault(child, []).append(parent)
    formulas = service.rest.formulas(search_id, list(parents))
    ancestors: list[dict[str, Any]] = [
        {"birth": one, "parents": parents[one], "formula": formulas.get(one)}
        for one in sorted(parents, reverse=True)
    ]
    config = service.store.search(search_id).config
    known = about(config, search_id, birth, row.scores, row.seeds, ancestors)
    return known, notes(known, config)


def file_name(stem: str, form: str, ending: str) -> str:
    """The name of a download; a Python file's can be imported."""
    return f"{stem.replace('-', '_') if form == 'python' else stem}.{ending}"


def rendered(service: Service, graph: Graph, form: str, **more: Any) -> bytes:
    """The layer in that format; made by the helper, for some need torch."""
    made = service.helper.ask("export", graph=graph.to_json(), form=form, **more)
    return base64.b64decode(made["base64"]) if "base64" in made else str(made["text"]).encode()


def graph_of(service: Service, search_id: str, birth: int) -> Graph:
    """The candidate's graph.

    Raises:
        NotFound: there is no such candidate.
    """
    text = service.rest.graph_text(search_id, birth)
    if text is None:
        raise NotFound("no such candidate", expected=f"a birth of search {search_id}",
                       got=str(birth))  # fmt: skip
    return Graph.from_json_text(text)


def latex_of(graph: Graph) -> str | None:
    """The formula as LaTeX; None where it would be too long."""
    from primitives.symbolic import to_latex

    try:
        return to_latex(graph)
    except EvosearchError:
        return None


def _link(parent: int, child: int, distance: int) -> Link:
    return Link(parent=parent, child=child, distance=distance)


def _point(step: float, loss: float) -> tuple[float, float | None]:
    known = isinstance(loss, (int, float)) and math.isfinite(loss)
    return step, loss if known else None


def _csv(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Lines of CSV; a cell that a spreadsheet would run as a formula gets a quote in front."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for number, row in enumerate(rows):
        writer.writerow([_cell(row[name]) for name in COLUMNS])
        if number % 200 == 199:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "@", "-"):
        return "'" + value
    return value
