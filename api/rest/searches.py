"""Searches: make one, look at it, write notes on it, delete it, clone it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field, model_validator

from api.charts.measure import objectives_of
from api.estimate import estimate
from api.problems import Refused, documented
from api.rest.own import name_objectives, with_offered_plugins
from api.rest.schemas import Estimate, LimitsView, SearchDetail, SearchList, SearchView, Status
from api.rest.steer import NewBudget, send
from api.rest.types import (
    CHANGED,
    COMMON,
    FOUND,
    MAX_INT,
    UNCHANGED,
    Body,
    Cursor,
    Here,
    Limit,
    SearchRef,
    Tag,
    Text,
    Title,
    etag_of,
    not_modified,
    unchanged,
)
from api.rest.views import baseline_means, search_view
from api.service import Service
from api.wiring import front_layers, new_id
from db.queries_rest import Notes
from evosearch.config import SearchConfig
from evosearch.errors import NotFound, StateConflict
from evosearch.events import Created
from evosearch.plugins import rows_to_load
from evosearch.ports import Extend
from evosearch.presets import config_from, preset_data, set_overrides

router = APIRouter(prefix="/searches", tags=["searches"])
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=100, pattern=r"^[!-~]+$",
           description="A retry with the same key returns the first search."),
]  # fmt: skip

REPORTS = {"html": "text/html", "md": "text/markdown"}
"""Kind of report -> its media type."""
MAX_REPORTED = 200_000
"""Events of a search whose report the web process still writes: seconds of one thread."""


class NewSearch(Body):
    """A search to be: a preset with overrides, or a whole config."""

    preset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] | None = None
    config: SearchConfig | None = None
    overrides: dict[str, Any] = Field(
        {}, max_length=100, description="dotted key -> value, such as task.steps: 150"
    )
    seed: Annotated[int, Field(ge=0, le=MAX_INT)] | None = None
    title: Title | None = None
    tags: Annotated[list[Tag], Field(max_length=20)] = []
    notes: Annotated[Text, Field(max_length=20_000)] = ""
    priority: Annotated[int, Field(ge=1, le=100)] = 10
    warm_start: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None, description="a search's id, or its first letters: begin with its front's layers"
    )

    @model_validator(mode="after")
    def _one_source(self) -> NewSearch:
        if (self.preset is None) == (self.config is None):
            raise ValueError("give a preset or a config, one of them")
        if self.config is not None and self.overrides:
            raise ValueError("overrides go with a preset, not with a config")
        return self


class ChangedSearch(Body):
    """What may be changed of a search; what is missing stays."""

    title: Title | None = None
    tags: Annotated[list[Tag], Field(max_length=20)] | None = None
    notes: Annotated[Text, Field(max_length=20_000)] | None = None
    budget: Annotated[int, Field(ge=1, le=10**9)] | NewBudget | None = Field(
        None, description="evaluations in all, or the limits that change; null clears a limit"
    )
    priority: Annotated[int, Field(ge=1, le=100)] | None = None
    starred: bool | None = None
    archived: bool | None = None
    pinned: bool | None = None


class Clone(Body):
    """A copy of a search as it stood after an event; it begins paused."""

    at_event: Annotated[int, Field(ge=1, le=MAX_INT)]
    title: Title | None = None


@router.get("", responses=COMMON)
def list_searches(
    service: Here,
    status: Annotated[list[Status] | None, Query(max_length=5)] = None,
    tag: Annotated[str | None, Query(max_length=40)] = None,
    archived: bool | None = None,
    limit: Limit = 500,
    cursor: Cursor = None,
) -> SearchList:
    """Searches, the newest first."""
    rows, following = service.queries.searches_page(
        min(limit, service.settings.max_page), cursor, statuses=status or (), tag=tag,
        archived=archived,
    )  # fmt: skip
    known = service.rest.notes([row.id for row in rows])
    views = [search_view(row, known.get(row.id, Notes())) for row in rows]
    return SearchList(searches=views, next=following)


@router.post(
    "", status_code=201, response_model=SearchView,
    responses=CHANGED | {200: {"model": SearchView, "description": "The key's first search"}},
)  # fmt: skip
def create_search(
    service: Here, request: Request, response: Response, body: NewSearch, key: Key = None
) -> Any:
    """Create a search; a controller picks it up within seconds."""
    config = config_of(service, body)
    caller = request.state.caller.id if request.state.caller else ""
    about = Notes(tuple(body.tags), body.notes, body.priority)
    title = body.title or f"{config.preset}, seed {config.seed}"
    fresh = new_id()
    asked = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    created = Created(config=config, versions=service.offers()["versions"])
    found = None if key is None else service.writes.known(caller, key, asked)
    if found is None:
        first = () if body.warm_start is None else front_layers(service.store, body.warm_start)
        found = service.writes.create(
            fresh, title, created, about, first=first, caller=caller, key=key, request=asked
        )
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/api/v1/searches/{found}"
    response.status_code = 201 if found == fresh else 200
    return view_of(service, found)


@router.post("/dry-run", responses=CHANGED)
def dry_run(service: Here, body: NewSearch) -> Estimate:
    """What such a search would take: evaluations, hours, GPU-hours, disk. Nothing is written."""
    return estimate(service, config_of(service, body))


@router.get("/{ref}", responses=FOUND | UNCHANGED)
def show_search(
    service: Here, ref: SearchRef, request: Request, response: Response
) -> SearchDetail:
    """A search with its config and report."""
    info = service.store.search(ref)
    view = view_of(service, info.id)
    if unchanged(request, response, etag_of(view.model_dump_json())):
        found: SearchDetail = not_modified(response)
        return found
    report = service.queries.last_event(info.id, "reported")
    return SearchDetail(
        **view.model_dump(), config=info.config.model_dump(mode="json"),
        anchors=list(info.config.anchor_names), objectives=objectives_of(info.config),
        limits=LimitsView(**limits_of(service, info.id, info.config)),
        report=None if report is None else report.payload["report"],
        baselines=baseline_means(service.queries.baselines(info.id)),
    )  # fmt: skip


@router.get(
    "/{ref}/config.toml", response_class=Response,
    responses=FOUND | {200: {"content": {"application/toml": {"schema": {"type": "string"}}}}},
)  # fmt: skip
def config_toml(service: Here, ref: SearchRef) -> Response:
    """The config that reproduces the search."""
    from evosearch.presets import to_toml

    info = service.store.search(ref)
    name = f'attachment; filename="search-{info.id}.toml"'
    headers = {"Content-Disposition": name}
    return Response(to_toml(info.config), media_type="application/toml", headers=headers)


@router.get(
    "/{ref}/report.{form}", response_class=Response,
    responses=FOUND | UNCHANGED | documented(409) | {200: {"content": {
        media: {"schema": {"type": "string"}} for media in REPORTS.values()
    }}},
)  # fmt: skip
def report(
    service: Here, ref: SearchRef, form: Literal["html", "md"], request: Request, response: Response
) -> Response:
    """The whole report as one page without script, or as Markdown; a large search takes long."""
    from api.reporting.contents import document
    from api.reporting.gather import gather
    from api.reporting.render import to_html, to_markdown

    info = service.store.search(ref)
    tag = etag_of("report", form, info.id, info.last_seq)
    if unchanged(request, response, tag):
        same: Response = not_modified(response)
        return same
    config = info.config
    own_rows = config.space.primitives or rows_to_load(config.task.plugins)
    if info.last_seq > MAX_REPORTED or own_rows:
        why = (
            "a service runs no primitives of a plug-in for a report" if own_rows
            else f"this search's report takes too long for a service, of {info.last_seq:,} events"
        )  # fmt: skip
        raise StateConflict(why, hint=f"on its machine: evosearch report {info.id}")
    made = document(gather(service.store, info.id))
    text = to_html(made) if form == "html" else to_markdown(made)
    headers = {name: value for name, value in response.headers.items() if name == "etag"}
    return Response(text, media_type=REPORTS[form], headers=headers)


@router.patch("/{ref}", responses=CHANGED)
def change_search(service: Here, ref: SearchRef, body: ChangedSearch) -> SearchView:
    """Change title, tags, notes, priority, marks; a new budget goes to the controller.

    That is a number of evaluations in all, or an object of the limits that change.
    """
    search_id = service.store.search(ref).id
    given = body.model_dump(exclude_none=True, exclude={"title", "budget", "notes"})
    if body.notes is not None:
        given["text"] = body.notes
    if body.budget is not None:
        new = body.budget
        send(service, search_id, Extend(evaluations=new) if isinstance(new, int) else new.command())
    service.writes.annotate(search_id, body.title, **given)
    return view_of(service, search_id)


@router.delete("/{ref}", status_code=204, response_class=Response, responses=FOUND)
def delete_search(service: Here, ref: SearchRef) -> Response:
    """Delete a search and everything about it; its controller lets go of it."""
    info = service.store.search(ref)
    if info.id != ref:
        raise NotFound("a search is deleted by its whole id only", expected=info.id, got=ref)
    service.writes.delete(info.id)
    service.ledgers.forget(info.id)
    return Response(status_code=204)


@router.post("/{ref}/clone", status_code=201, responses=CHANGED)
def clone_search(service: Here, ref: SearchRef, body: Clone) -> SearchView:
    """Copy a search as it stood after an event; it begins paused, and goes on when resumed."""
    info = service.store.search(ref)
    about = service.rest.notes([info.id]).get(info.id, Notes())
    target = new_id()
    title = body.title or f"{info.title} (from event {body.at_event})"[:200]
    service.writes.clone(info.id, target, title, body.at_event, about)
    return view_of(service, target)


def view_of(service: Service, search_id: str) -> SearchView:
    """The search as lists show it."""
    row = service.queries.search_row(search_id)
    return search_view(row, service.rest.notes([search_id]).get(search_id, Notes()))


def limits_of(service: Service, search_id: str, config: SearchConfig) -> dict[str, Any]:
    """The budget's limits beside its evaluations that hold now: name -> limit or None."""
    begun = config.budget.model_dump(exclude={"evaluations"})
    return begun | service.rest.changed_limits(search_id)


def config_of(service: Service, body: NewSearch) -> SearchConfig:
    """The config that the request asks for, with names that can be trained here.

    Raises:
        ConfigError: a key or value is wrong.
        NotFound: the preset is unknown.
    """
    if body.config is not None:
        config = body.config
    else:
        data = preset_data(str(body.preset))
        set_overrides(data, body.overrides)
        if "objectives" in data.get("task", {}):
            name_objectives(service.offers(), data)
        config = config_from(data, where=str(body.preset))
    if body.seed is not None:
        config = config.model_copy(update={"seed": body.seed})
    config = with_offered_plugins(service.offers(), config)
    check_offered(service, config)
    return config


def check_offered(service: Service, config: SearchConfig) -> None:
    """Refuse names that nobody here can train.

    Raises:
        Refused: an anchor, the data set or a baseline is unknown.
    """
    from primitives.catalog import CATALOG

    offers = service.offers()
    asked = [("anchor", name, offers["anchors"]) for name in config.anchor_names]
    asked.append(("data set", config.task.dataset, offers["datasets"]))
    baselines = (*config.baselines, *config.confirmation.rivals)
    layers = [*CATALOG, *offers.get("baselines", ())]
    asked += [("baseline", name, layers) for name in baselines]
    for kind, name, known in asked:
        if name not in known:
            told = f"unknown {kind}; expected one of {', '.join(known)}, got {name[:60]!r}"
            raise Refused(422, told)
    text = json.dumps(config.preset)
    if len(text) > 102 or "\\" in text:
        raise Refused(422, "the config's preset is no plain name of at most 100 characters")
