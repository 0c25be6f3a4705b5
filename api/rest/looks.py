"""One candidate as its page shows it.

Under ``/api/v1/searches/{ref}/candidates/{birth}``:

- ``/about`` -> ``{"formula", "mathml", "drawing": {"nodes": [{"id", "label", "kind", "live",
  "level", "column", "shape"}], "edges": [..]}, "behaviour", "verdict", "gain", "anchors",
  "scores": [{"purpose", "anchor", "scores", "mean"}], "usage": [{"format", "snippet"}]}``
- ``/response`` -> ``{"x": [..], "curves": [{"mean", "deviation", "output", "gradient"}]}``
- ``/trainings`` -> ``{"curves": [{"label", "baseline", "anchor", "steps", "losses", "score"}]}``
- ``/family?children=20`` -> ``{"parents": [{"birth", "before": [{"text", "changed"}], "after",
  "changes": [{"node", "before", "after"}]}], "children": [..]}``
- ``/cost`` -> ``{"forward": 1.9, "forward_backward": 1.5, "saved_bytes": 2.0, ..}``; slow, once
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from api.aside import aside
from api.charts.measure import objectives_of
from api.charts.standing import standing_of, step_times, title_of
from api.charts.verdict import anchor_gains, gain_view
from api.layer_difference import node_changes, text_difference
from api.layer_drawing import drawing_of
from api.layer_usage import usage
from api.rest.candidates import graph_of
from api.rest.chart_schemas import AnchorGain, GainView
from api.rest.layer_schemas import (
    Behaviour,
    CandidateAbout,
    CostMeasured,
    Drawing,
    FamilyMember,
    FamilyView,
    LayerLook,
    NodeChange,
    ResponseView,
    SeedScores,
    TextPart,
    TrainingCurve,
    TrainingsView,
    Usage,
)
from api.rest.types import (
    FOUND,
    UNCHANGED,
    Birth,
    Here,
    SearchRef,
    etag_of,
    not_modified,
    unchanged,
)
from api.rest.views import verdict
from api.service import Service
from db.queries_rest import printed
from db.views import CandidateRow, EvaluationRow
from evosearch.ports import SearchInfo
from evosearch.report import formula_of, known_as
from evosearch.stats import mean_interval
from primitives.errors import EvosearchError
from primitives.graph import Graph
from primitives.ops import INDEX_SETS

router = APIRouter(prefix="/searches/{ref}/candidates/{birth}", tags=["candidates"])
AXES = {"b": "batch", "c": "channels", "s": "positions"}
_INDEXED = re.compile(rf"<mi>([a-z0-9]+)_({'|'.join(INDEX_SETS)})</mi>")
MAX_CURVES = 60
CURVE_POINTS = 200
LEVEL = 0.95
COST_SHAPE, COST_RUNS = (16, 32, 16, 16), 7


@router.get("/about", responses=FOUND | UNCHANGED)
def about(
    service: Here, ref: SearchRef, birth: Birth, request: Request, response: Response
) -> CandidateAbout:
    """Formula, drawing, properties, scores with intervals, verdict, and how exports are used."""
    info = service.store.search(ref)
    found = service.queries.candidate(info.id, birth)
    row = found.candidate
    if unchanged(request, response, etag_of("about", info.id, birth, info.last_seq)):
        same: CandidateAbout = not_modified(response)
        return same
    look = look_of(row.graph)
    name = f"layer-{info.id}-{birth}"
    stands = _standing(service, info, row)
    return CandidateAbout(
        **look.model_dump(), birth=birth, state=row.state, origin=row.origin,
        verdict=verdict(row, stands["gain_seeds"]), scores=seed_scores(found.evaluations),
        objectives=objectives_of(info.config),
        usage=[Usage.model_validate(one) for one in usage(name, look.formula)],
        **stands,
    )  # fmt: skip


@router.get("/response", responses=FOUND | UNCHANGED)
@aside
def show_response(
    service: Here, ref: SearchRef, birth: Birth, request: Request, response: Response
) -> ResponseView:
    """Output and gradient against input, in batches of several means and deviations."""
    graph = graph_of(service, service.store.search(ref).id, birth)
    if unchanged(request, response, etag_of("response", graph.to_json_text()), forever=True):
        same: ResponseView = not_modified(response)
        return same
    return curves_of(service, graph)


@router.get("/trainings", responses=FOUND)
def show_trainings(service: Here, ref: SearchRef, birth: Birth) -> TrainingsView:
    """Training curves of the candidate, and one of each baseline on each anchor."""
    info = service.store.search(ref)
    mine = service.queries.candidate(info.id, birth).evaluations
    theirs = [one for one in service.queries.baselines(info.id) if one.purpose == "baseline"]
    firsts = {(one.baseline, one.anchor): one for one in reversed(theirs)}
    kept = [*mine[:MAX_CURVES], *list(firsts.values())[:MAX_CURVES]]
    curves = service.rest.curves(info.id, [one.seq for one in kept])
    return TrainingsView(
        anchors=list(info.config.anchor_names),
        curves=[_training(one, curves.get(one.seq, [])) for one in kept],
        left_out=max(0, len(mine) - MAX_CURVES),
    )


@router.get("/family", responses=FOUND)
def show_family(
    service: Here, ref: SearchRef, birth: Birth,
    children: Annotated[int, Query(ge=0, le=50)] = 20,
) -> FamilyView:  # fmt: skip
    """Parents and the best children, with what changed from parent to child."""
    info = service.store.search(ref)
    found = service.queries.candidate(info.id, birth)
    graph = found.candidate.graph
    rows = service.rest.relatives(info.id, [*found.parents, *found.children])
    with service.ledgers.of(info) as ledger:
        standing = standing_of(ledger)
        better = None if standing is None else float(standing.baseline.means.mean())
        # Where fresh seeds were trained they alone count, as on the candidate's own page.
        for one, means in ledger.samples.confirmed().items():
            if one in rows:
                rows[one]["mean_score"] = float(np.mean(means))
    best = sorted(
        (rows[one] for one in found.children if one in rows),
        key=lambda row: (-(row["mean_score"] if row["mean_score"] is not None else -1e9),
                         row["birth"]),
    )[:children]  # fmt: skip
    return FamilyView(
        birth=birth,
        parents=[
            _relative(rows[one], Graph.from_json_text(rows[one]["graph"]), graph, better)
            for one in dict.fromkeys(found.parents) if one in rows
        ],
        children=[
            _relative(row, graph, Graph.from_json_text(row["graph"]), better) for row in best
        ],
        children_total=len(found.children),
    )  # fmt: skip


@router.get("/cost", responses=FOUND | UNCHANGED)
@aside
def show_cost(
    service: Here, ref: SearchRef, birth: Birth, request: Request, response: Response
) -> CostMeasured:
    """Time and saved bytes against BN-ReLU, measured on the service's machine when asked."""
    graph = graph_of(service, service.store.search(ref).id, birth)
    tag = etag_of("cost", graph.to_json_text(), datetime.now(UTC).date())
    if unchanged(request, response, tag, forever=True):
        same: CostMeasured = not_modified(response)
        return same
    found = service.helper.ask(
        "cost", graph=graph.to_json(), shape=list(COST_SHAPE), runs=COST_RUNS
    )
    return CostMeasured(
        **found, shape=list(COST_SHAPE), runs=COST_RUNS, measured_at=datetime.now(UTC)
    )


def look_of(graph: Graph) -> LayerLook:
    """The layer as text, MathML, drawing and properties; nothing of a search."""
    return LayerLook(
        formula=formula_of(graph), mathml=mathml_of(graph), known_as=known_as(graph),
        drawing=Drawing.model_validate(drawing_of(graph)), behaviour=behaviour_of(graph),
    )  # fmt: skip


def behaviour_of(graph: Graph) -> Behaviour:
    """What the layer does on a small probe, and what it costs by count; in milliseconds."""
    from primitives.properties import properties
    from primitives.structure import analyse

    structure, found = analyse(graph), properties(graph)
    return Behaviour(
        live_nodes=structure.live_nodes,
        axes_mixed=[word for axis, word in AXES.items() if axis in structure.mixes],
        batch_independent=structure.batch_independent, causal_safe=structure.causal_safe,
        pointwise=structure.pointwise,
        **{name: getattr(found, name) for name in found.__dataclass_fields__},
    )  # fmt: skip


def curves_of(service: Service, graph: Graph) -> ResponseView:
    """Response curves, computed by the helper within its time limit."""
    return ResponseView.model_validate(service.helper.ask("curves", graph=graph.to_json()))


def mathml_of(graph: Graph) -> str | None:
    """The formula as MathML, index sets as subscripts; None where it would be too long."""
    from primitives.symbolic import to_mathml

    try:
        return _INDEXED.sub(r"<msub><mi>\1</mi><mi>\2</mi></msub>", to_mathml(graph))
    except EvosearchError:
        return None


def seed_scores(rows: list[EvaluationRow]) -> list[SeedScores]:
    """Scores by purpose, split, anchor and learning rate, in the order of the log."""
    groups: dict[tuple[str, str, str, float], list[EvaluationRow]] = {}
    for row in rows:
        key = (row.purpose, row.split, row.anchor, row.learning_rate)
        groups.setdefault(key, []).append(row)
    return [
        SeedScores(
            purpose=key[0], split=key[1], anchor=key[2], learning_rate=key[3],
            scores=[one.score for one in group], seeds=[one.seed for one in group],
            mean=_mean([one.score for one in group]),
        )
        for key, group in groups.items()
    ]  # fmt: skip


def _mean(scores: list[float]) -> GainView:
    if len(scores) < 2:
        return GainView(value=scores[0], low=None, high=None)
    return GainView(**mean_interval(np.array(scores), level=LEVEL, seed=0)._asdict())


def _standing(service: Service, info: SearchInfo, row: CandidateRow) -> dict[str, Any]:
    """Gain, rank and step time of the candidate within its search."""
    gain: GainView | None = None
    anchors: list[AnchorGain] = []
    rank = time = None
    seeds = 0
    with service.ledgers.of(info) as ledger:
        standing = standing_of(ledger)
        place = ledger.rows.get(row.birth)
        if place is not None:
            known = float(step_times(ledger)[place])
            time = known if np.isfinite(known) else None
        if standing is not None and place is not None and row.state == "evaluated":
            here = standing.place_of(place)
            gain, anchors = gain_view(standing.gain(here)), anchor_gains(ledger, standing, here)
            seeds = int(standing.seeds[here])
            rank = 1 + int((standing.mean > standing.mean[here]).sum())
        return {
            "gain": gain, "gain_seeds": seeds, "anchors": anchors, "rank": rank, "step_time": time,
            "evaluated": ledger.evaluated,
        }  # fmt: skip


def _training(row: EvaluationRow, points: list[list[float]]) -> TrainingCurve:
    every = max(1, -(-len(points) // CURVE_POINTS))
    kept = points[::every]
    if kept and kept[-1] is not points[-1]:
        kept[-1] = points[-1]
    known = [loss if isinstance(loss, (int, float)) and np.isfinite(loss) else None
             for _, loss in kept]  # fmt: skip
    label = title_of(row.baseline) if row.baseline else f"candidate {row.birth}"
    return TrainingCurve(
        label=label, baseline=row.baseline is not None,
        anchor=row.anchor, purpose=row.purpose, seed=row.seed, learning_rate=row.learning_rate,
        split=row.split, score=row.score, diverged=row.diverged,
        steps=[step for step, _ in kept], losses=known,
    )  # fmt: skip


def _relative(
    row: dict[str, object], before: Graph, after: Graph, better: float | None
) -> FamilyMember:
    old, new = text_difference(formula_of(before), formula_of(after))
    score = row["mean_score"]
    fields = {name: row[name] for name in ("birth", "state", "origin", "live_nodes", "on_front")}
    return FamilyMember.model_validate(fields | {
        "formula": row["formula"] or printed(str(row["graph"])), "mean_score": score,
        "gain": score - better if isinstance(score, float) and better is not None else None,
        "before": [TextPart(text=text, changed=changed) for text, changed in old],
        "after": [TextPart(text=text, changed=changed) for text, changed in new],
        "changes": [
            NodeChange(node=node, before=one, after=other)
            for node, one, other in node_changes(before, after)
        ],
    })  # fmt: skip
