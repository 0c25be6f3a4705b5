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
_STYLE = (
    "text{font:13px sans-serif;fill:#111827;text-anchor:middle}"
    "rect{stroke:#1f2937;fill:#fff}.in rect{fill:#e0f2fe}.agg rect{fill:#fef3c7}"
    ".out rect{stroke-width:3}line{stroke:#4b5563}.side{font-size:10px;fill:#4b5563}"
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
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><style>{_STYLE}</style>'
    )
    parts = [head]
    if title is not None:
        shown = "".join(sign if sign.isprintable() else " " for sign in title)
        parts.append(f"<title>{escape(shown)}</title>")
    parts += _edges(live, places) + [_box(live, index, *place) for index, place in places.items()]
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


def _edges(graph: Graph, places: dict[int, tuple[float, float]]) -> list[str]:
    lines = []
    for index in graph.live_ops():
        inputs = graph.node(index).inputs
        for side, source in enumerate(inputs):
            # Two inputs end left and right of the middle, so that a - b reads in its order.
            shift = 0 if len(inputs) == 1 else (-20, 20)[side]
            (x1, y1), (x2, y2) = places[source], places[index]
            y1, y2 = y1 - _HEIGHT / 2, y2 + _HEIGHT / 2
            lines.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2 + shift:g}" y2="{y2:g}"/>')
            if len(inputs) == 2:
                lines.append(
                    f'<text class="side" x="{x2 + shift:g}" y="{y2 + 11:g}">{"LR"[side]}</text>'
                )
    return lines


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
