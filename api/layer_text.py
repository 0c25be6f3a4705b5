"""A layer as people give it: formula, catalog name or graph JSON; nothing is run to read it."""

from __future__ import annotations

from collections.abc import Mapping

from api.problems import Refused
from primitives.catalog import CATALOG
from primitives.formula import parse
from primitives.graph import Graph


def read_layer(formula: str | None, graph: Mapping[str, object] | None) -> Graph:
    """The graph that is meant.

    Raises:
        Refused: both are given, or none.
        FormulaError: the formula cannot be read; its position is in the error.
        GraphError: the graph breaks a rule; the node is in the error.
    """
    if (formula is None) == (graph is None):
        raise Refused(422, "give a formula or a graph, one of them")
    if graph is not None:
        return Graph.from_json(dict(graph))
    text = str(formula)
    return CATALOG[text].graph if text in CATALOG else parse(text)
