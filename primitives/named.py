"""Reads a layer that somebody names: a catalog name or formula text; it must not import torch."""

from __future__ import annotations

from primitives.catalog import CATALOG
from primitives.formula import parse
from primitives.graph import Graph


def layer_graph(text: str) -> Graph:
    """The graph of a formula or of a catalog layer's name.

    Raises:
        FormulaError: it is neither.

    Example:
        >>> layer_graph("EvoNorm-S1") == layer_graph("x * sigmoid(x) / std_group(x)")
        True
    """
    known = CATALOG.get(text.strip().lower()) if isinstance(text, str) else None
    return known.graph if known is not None else parse(text)
