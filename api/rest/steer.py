"""Commands to running searches: rows that the controller acts on within seconds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, model_validator

from api.code_change import Assent, change
from api.layer_text import read_layer
from api.problems import Refused
from api.rest.own import offered_instead
from api.rest.schemas import CommandSent
from api.rest.types import CHANGED, Birth, Body, Here, SearchRef, Text
from api.service import Service
from evosearch.errors import PluginError, StateConflict
from evosearch.ports import ChangeCode, Command, Enqueue, Extend, Pause, Remeasure, Resume, Stop
from evosearch.steering import refusal

router = APIRouter(prefix="/searches/{ref}", tags=["commands"])


class NewLayer(Body):
    """A layer to be evaluated: a formula or name of the catalog, or a graph."""

    formula: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    graph: dict[str, object] | None = None
    note: Annotated[Text, Field(max_length=1000)] = ""


Whole = Annotated[int, Field(ge=1, le=10**15)]
Hours = Annotated[float, Field(gt=0.0, le=1e9)]


class Resumed(Body):
    """How a search goes on."""

    accept_changed_code: bool = Field(
        False, description="though its plug-ins have other code now; the report says so"
    )


class NewBudget(Body):
    """What changes of the budget, each limit in all; what is missing stays, null clears a limit."""

    evaluations: Annotated[int, Field(ge=1, le=10**9)] = Field(
        1, description="candidates evaluated on every anchor; there is always such a limit"
    )
    train_steps: Whole | None = Field(None, description="training steps of all kinds")
    hours: Hours | None = Field(None, description="hours while a controller runs the search")
    gpu_hours: Hours | None = Field(None, description="hours of GPUs by what the workers took")
    no_gain: Whole | None = Field(None, description="evaluations without a confirmed gain")
    target: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        None, description="confirmed mean score that is enough"
    )

    @model_validator(mode="after")
    def _something(self) -> NewBudget:
        if not self.model_fields_set:
            raise ValueError("name at least one limit")
        return self

    def command(self) -> Extend:
        """The command that changes just this."""
        limits = self.model_dump(exclude_unset=True)
        return Extend(evaluations=limits.pop("evaluations", None), limits=limits)


class MoreSeeds(Body):
    """How many fresh seeds a candidate gets on every anchor."""

    seeds: Annotated[int, Field(ge=1, le=20)] = 1


def send(service: Service, search_id: str, command: Command) -> CommandSent:
    """Leave the command for whoever runs the search.

    Raises:
        StateConflict: the search is over and takes none, or this one comes too late for it.
    """
    info = service.store.search(search_id)
    if info.status not in ("running", "paused"):
        raise StateConflict(
            f"search {info.id} is {info.status} and takes no commands",
            hint="start another one, or clone it at an earlier event",
        )
    stands = service.rest.stands(info.id)
    why = None if stands is None else refusal(command, stands[1])
    if why is not None:
        raise StateConflict(why, hint="a clone at an earlier event takes it")
    number = service.store.send(info.id, command)
    return CommandSent(command_id=number, search=info.id, command=command.kind)


@router.post("/pause", status_code=202, responses=CHANGED)
def pause(service: Here, ref: SearchRef) -> CommandSent:
    """Pause; everything is kept."""
    return send(service, ref, Pause())


@router.post("/resume", status_code=202, responses=CHANGED)
def resume(service: Here, ref: SearchRef, body: Resumed | None = None) -> CommandSent:
    """Go on after a pause; with changed plug-ins only where that is accepted."""
    info = service.store.search(ref)
    before = info.config.task.plugins
    plugins = offered_instead(service.offers(), before) if before else before
    if plugins != before and info.status in ("running", "paused"):
        assent = Assent(body is not None and body.accept_changed_code, "accept_changed_code: true")
        try:
            assent.expect(info, plugins)
        except PluginError as err:
            raise Refused(409, str(err), where="accept_changed_code") from err
        send(service, info.id, ChangeCode(**change(info, plugins)))
    return send(service, ref, Resume())


@router.post("/stop", status_code=202, responses=CHANGED)
def stop(service: Here, ref: SearchRef) -> CommandSent:
    """End for good, without a confirmation."""
    return send(service, ref, Stop())


@router.post("/extend", status_code=202, responses=CHANGED)
def extend(service: Here, ref: SearchRef, body: NewBudget) -> CommandSent:
    """Change the budget: what is named, each limit in all."""
    return send(service, ref, body.command())


@router.post("/enqueue", status_code=202, responses=CHANGED)
def enqueue(service: Here, ref: SearchRef, body: NewLayer) -> CommandSent:
    """Have a layer evaluated before the next proposal."""
    graph = read_layer(body.formula, body.graph)
    return send(service, ref, Enqueue(graph=graph, note=body.note))


@router.post("/candidates/{birth}/remeasure", status_code=202, responses=CHANGED)
def remeasure(service: Here, ref: SearchRef, birth: Birth, body: MoreSeeds) -> CommandSent:
    """Give an evaluated candidate fresh seeds on every anchor."""
    search_id = service.store.search(ref).id
    row = service.queries.candidate(search_id, birth).candidate
    if row.state != "evaluated":
        raise StateConflict(
            f"candidate {birth} is {row.state}", expected="an evaluated candidate",
            hint="only what was trained on every anchor can be measured again",
        )  # fmt: skip
    return send(service, search_id, Remeasure(birth=birth, seeds=body.seeds))
