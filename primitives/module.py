"""Turns generated code into an ``nn.Module``: the only place that executes it.

The text comes from `codegen` alone, which lets no foreign text in; never give it other text. A
layer pickles as its graph and its state, never as code, so that a whole model can be saved.
"""

from __future__ import annotations

import hashlib
import linecache
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from primitives.codegen import layer_source
from primitives.graph import Graph
from primitives.groups import exact_group_count, group_count

CLASS_NAME = "EvolvedLayer"


def layer_class(graph: Graph) -> type[nn.Module]:
    """The generated class of the graph, made once per graph."""
    return _class_of(graph.to_json_text())


def build_layer(
    graph: Graph,
    num_features: int,
    *,
    groups: int | None = None,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The layer of a graph for inputs of shape (N, num_features, *spatial), in training mode.

    ``groups=None`` is the rule for anchors, `group_count`; a number is used exactly as given.

    Raises:
        LayerError: the groups do not divide the channels.
    """
    count = group_count(num_features) if groups is None else exact_group_count(num_features, groups)
    settings: dict[str, Any] = {"eps": eps, "momentum": momentum, "affine": affine}
    return layer_class(graph)(num_features, groups=count, device=device, dtype=dtype, **settings)


@lru_cache(maxsize=1024)
def _class_of(graph_text: str) -> type[nn.Module]:
    source = layer_source(Graph.from_json_text(graph_text), CLASS_NAME)
    name = "evolved_layer_" + hashlib.sha256(graph_text.encode()).hexdigest()[:12]
    file_name = f"<{name}>"
    # With its lines known here, a traceback into the layer shows them.
    linecache.cache[file_name] = (len(source), None, source.splitlines(True), file_name)
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(source, file_name, "exec"), namespace)
    generated = namespace[CLASS_NAME]
    assert isinstance(generated, type)
    assert issubclass(generated, nn.Module)
    return type(CLASS_NAME, (FromGraph, generated), {"graph_text": graph_text, "__module__": name})


class FromGraph:
    """Base of the classes made here: says the graph, and pickles an instance as graph and state."""

    graph_text: str

    def __reduce__(self) -> tuple[Any, ...]:
        return new_layer, (self.graph_text,), self.__getstate__()  # type: ignore[attr-defined]


def new_layer(graph_text: str) -> nn.Module:
    """An instance without state, to which pickle gives back what it had."""
    kind = layer_class(Graph.from_json_text(graph_text))
    return kind.__new__(kind)
