"""Draws a graph as SVG with a small layered layout of its own; no outside program, no torch.

Every node stands one layer above the highest of its inputs; within a layer nodes are ordered by the
average place of what they use. Text is escaped: a title can hold anything.
"""

from __future__ import annotations

from html import escape

from primitives.graph import FIRST_OP, Graph
from primitives.ops import INITIAL_NODES, OPS, typed_name
from primitives.rewrite import live_form

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 120, 34, 24, 46, 16
_LANE = 7
"""Between edges that go around the same boxes."""
_STYLE = (
    "text{font:13px sans-serif;fill:#111827;text-anchor:middle}"
    "rect{stroke:#1f2937;fill:#fff}.in rect{fill:#e0f2fe}.agg rect{fill:#fef3c7}"
    ".out rect{stroke-width:3}path{stroke:#4b5563;fill:none}.side{font-size:10px;fill:#4b5563}"
)


def to_svg(graph: Graph, title: str | None = None) -> str:
    """SVG text of the live graph, inputs at the bottom, output on top.

    Example:
        >>> from primitives.graph import Node
        >>> to_svg(Graph((Node("tanh", (0,)),))).count("<rect")
        2
    """
    live = live_form(graph)
    rows = _rows(live)
    widest = max(len(row) for row in rows)
    width = widest * (_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    height = len(rows) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    places: dict[int, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        start = (width - len(row) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for position, index in enumerate(row):
            x = start + position * (_WIDTH + _GAP_X) + _WIDTH / 2
            places[index] = (x, height - _MARGIN - _HEIGHT / 2 - level * (_HEIGHT + _GAP_Y))
    edges, left, right = _edges(live, places)
    left, right = min(0.0, left - _MARGIN), max(float(width), right + _MARGIN)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:g} 0 {right - left:g} {height}" '
        f'width="{right - left:g}" height="{height}"><style>{_STYLE}</style>'
    )
    parts = [head]
    if title is not None:
        shown = "".join(sign if sign.isprintable() else " " for sign in title)
        parts.append(f"<title>{escape(shown)}</title>")
    parts += edges + [_box(live, index, *place) for index, place in places.items()]
    return "\n".join([*parts, "</svg>", ""])


def _rows(graph: Graph) -> list[list[int]]:
    """Node indices by level, each level in its drawing order."""
    levels: dict[int, int] = {}
    for index in graph.live():
        if index < FIRST_OP:
            levels[index] = 0
        else:
            above = [levels[source] + 1 for source in graph.node(index).inputs]
            levels[index] = max(above, default=0)
    rows: list[list[int]] = [[] for _ in range(max(levels.values()) + 1)]
    for index, level in levels.items():
        rows[level].append(index)
    places: dict[int, float] = {}
    for level, row in enumerate(rows):
        if level:
            row.sort(key=lambda index: _middle(graph, index, places))
        for position, index in enumerate(row):
            places[index] = position - (len(row) - 1) / 2
    return rows


def _middle(graph: Graph, index: int, places: dict[int, float]) -> float:
    inputs = graph.node(index).inputs
    return sum(places[source] for source in inputs) / max(1, len(inputs))


def _edges(graph: Graph, places: dict[int, tuple[float, float]]) -> tuple[list[str], float, float]:
    """The edges, and how far left and right they reach.

    One that would cross a box goes around, in a lane of its own: an edge into the left of a node to
    the left, one into the right to the right.
    """
    lines: list[str] = []
    lanes, left, right = [0, 0], float(_MARGIN), float(_MARGIN)
    for index in graph.live_ops():
        inputs = graph.node(index).inputs
        for side, source in enumerate(inputs):
            # Two inputs end left and right of the middle, so that a - b reads in its order.
            shift = 0 if len(inputs) == 1 else (-20, 20)[side]
            (x1, y1), (x2, y2) = places[source], places[index]
            y1, y2, x2 = y1 - _HEIGHT / 2, y2 + _HEIGHT / 2, x2 + shift
            path = f"M{x1:g} {y1:g}L{x2:g} {y2:g}"
            crossed = _crossed(places, (x1, y1), (x2, y2))
            if crossed:
                lane = _lane(places, crossed, (y2, y1), (-1, 1)[side], _LANE * lanes[side])
                lanes[side] += 1
                left, right = min(left, lane), max(right, lane)
                turn = _GAP_Y / 2
                path = (
                    f"M{x1:g} {y1:g}C{x1:g} {y1 - turn:g} {lane:g} {y1:g} {lane:g} "
                    f"{y1 - _GAP_Y:g}L{lane:g} {y2 + _GAP_Y:g}C{lane:g} {y2 + turn:g} {x2:g} "
                    f"{y2 + turn:g} {x2:g} {y2:g}"
                )
            lines.append(f'<path d="{path}"/>')
            if len(inputs) == 2:
                lines.append(
                    f'<text class="side" x="{x2 + (-9, 9)[side]:g}" y="{y2 + 11:g}">'
                    f"{'LR'[side]}</text>"
                )
    return lines, left, right


def _crossed(
    places: dict[int, tuple[float, float]], begin: tuple[float, float], end: tuple[float, float]
) -> list[float]:
    """Middles of the boxes that a straight line from below to above would come near."""
    (x1, y1), (x2, y2) = begin, end
    slope, room = (x2 - x1) / (y1 - y2), _WIDTH / 2 + 6

    def near(x: float, y: float) -> bool:
        ends = [x1 + slope * (y1 - y - side * _HEIGHT / 2) for side in (-1, 1)]
        return y2 < y < y1 and min(ends) < x + room and max(ends) > x - room

    return [x for x, y in places.values() if near(x, y)]


def _lane(
    places: dict[int, tuple[float, float]], crossed: list[float], ys: tuple[float, float],
    way: int, beyond: float,
) -> float:  # fmt: skip
    """Where an edge between those heights goes up beside all boxes: to the left (-1) or right."""
    between = [x for x, y in places.values() if ys[0] < y < ys[1]]
    away = way * (_WIDTH / 2 + 12 + beyond)
    lane = max(way * x for x in crossed) * way + away
    while near := [x for x in between if abs(x - lane) < _WIDTH / 2 + 6]:
        lane = max(way * x for x in near) * way + away
    return lane


def _box(graph: Graph, index: int, x: float, y: float) -> str:
    if index < FIRST_OP:
        kind, label = "in", INITIAL_NODES[index]
    else:
        node = graph.node(index)
        kind, label = ("agg" if node.over else "op"), typed_name(node.op, node.over)
        if not node.inputs:
            kind, label = "in", OPS[node.op].text
    if index == graph.output:
        kind += " out"
    corner = f'x="{x - _WIDTH / 2:g}" y="{y - _HEIGHT / 2:g}"'
    return (
        f'<g class="{kind}"><rect {corner} width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f'<text x="{x:g}" y="{y + 5:g}">{escape(label)}</text></g>'
    )
