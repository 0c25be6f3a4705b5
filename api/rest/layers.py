"""Try a layer: what it is, and which check would reject it; nothing is kept."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from api.aside import aside
from api.export import Format
from api.layer_drawing import drawing_of
from api.layer_text import read_layer
from api.layer_usage import usage
from api.rest.candidates import EXPORTED, MEDIA, latex_of, rendered
from api.rest.layer_schemas import Drawing, LayerReport, Usage
from api.rest.looks import behaviour_of, curves_of, mathml_of
from api.rest.types import CHANGED, Body, Here
from api.rest.views import properties
from evosearch.presets import preset_data
from evosearch.report import formula_of, known_as
from primitives.digest import digest
from primitives.drawing import to_dot

router = APIRouter(prefix="/layers", tags=["layers"])


class Layer(Body):
    """A layer: a formula or name of the catalog, or a graph."""

    formula: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    graph: dict[str, object] | None = None


class LayerCheck(Layer):
    """A layer, and the preset whose checks are made."""

    preset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = "quickstart"
    checks: Annotated[bool, Field(description="false: nothing is run, which is instant")] = True
    curves: Annotated[bool, Field(description="whether response curves are wanted")] = False


class LayerExport(Layer):
    """A layer, and the format that it is wanted in."""

    format: Format = "python"
    channels: Annotated[
        int, Field(ge=1, le=4096, description="channels of torch-export and onnx programs")
    ] = 64


@router.post("/check", responses=CHANGED)
@aside
def check_layer(service: Here, body: LayerCheck) -> LayerReport:
    """Facts, properties, drawing, and the verdict of every cheap check."""
    preset_data(body.preset)
    graph = read_layer(body.formula, body.graph)
    found: dict[str, Any] = {"facts": {}, "checks": []}
    if body.checks:
        found = service.helper.ask("check", graph=graph.to_json(), preset=body.preset)
    return LayerReport(
        formula=formula_of(graph), graph=graph.to_json(), digest=digest(graph),
        properties=properties(graph), facts=found["facts"], checks=found["checks"],
        known_as=known_as(graph), latex=latex_of(graph), drawing=to_dot(graph),
        mathml=mathml_of(graph), picture=Drawing.model_validate(drawing_of(graph)),
        behaviour=behaviour_of(graph),
        usage=[Usage.model_validate(one) for one in usage("layer", formula_of(graph))],
        curves=curves_of(service, graph) if body.curves else None,
    )  # fmt: skip


@router.post(
    "/export",
    response_class=Response,
    responses=CHANGED | EXPORTED,
)
@aside
def export_layer(service: Here, body: LayerExport) -> Response:
    """The layer as a file, verified against the interpreter."""
    graph = read_layer(body.formula, body.graph)
    media, ending = MEDIA.get(body.format, ("text/plain", body.format))
    headers = {"Content-Disposition": f'attachment; filename="layer.{ending}"'}
    data = rendered(service, graph, body.format, channels=body.channels)
    return Response(data, media_type=media, headers=headers)
