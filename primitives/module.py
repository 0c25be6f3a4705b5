"""Turns generated code into an ``nn.Module``: the only place that executes it.

The text comes from `codegen` alone, which lets no foreign text in; never give it other text. A
layer pickles as its graph and its state, never as code, so that a whole model can be saved.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import threading
from collections import OrderedDict
from types import ModuleType
from typing import Any

import torch
from torch import nn

from primitives.codegen import layer_source
from primitives.graph import Graph
from primitives.groups import exact_group_count, group_count

CLASS_NAME = "EvolvedLayer"
KEPT = 1024
"""Classes that are kept; one that was not asked for in so many others is forgotten."""

_classes: OrderedDict[str, type[nn.Module]] = OrderedDict()
_lock = threading.Lock()


def layer_class(graph: Graph) -> type[nn.Module]:
    """The generated class of the graph, made once per graph."""
    text = graph.to_json_text()
    with _lock:
        if text not in _classes:
            _classes[text] = _class_of(text)
            while len(_classes) > KEPT:
                _forget(_classes.popitem(last=False)[1].__module__)
        _classes.move_to_end(text)
        return _classes[text]


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


def _class_of(graph_text: str) -> type[nn.Module]:
    source = layer_source(Graph.from_json_text(graph_text), CLASS_NAME)
    name = "evolved_layer_" + hashlib.sha256(graph_text.encode()).hexdigest()[:12]
    file_name = f"<{name}>"
    # With its lines known here, a traceback into the layer shows them.
    linecache.cache[file_name] = (len(source), None, source.splitlines(True), file_name)
    # torch.compile looks the functions of the text up by their module's name.
    module = sys.modules[name] = ModuleType(name)
    exec(compile(source, file_name, "exec"), module.__dict__)
    generated = getattr(module, CLASS_NAME)
    assert isinstance(generated, type)
    assert issubclass(generated, nn.Module)
    return type(CLASS_NAME, (FromGraph, generated), {"graph_text": graph_text, "__module__": name})


def _forget(name: str) -> None:
    sys.modules.pop(name, None)
    linecache.cache.pop(f"<{name}>", None)


class FromGraph:
    """Base of the classes made here: says the graph, and pickles an instance as graph and state."""

    graph_text: str

    def __reduce__(self) -> tuple[Any, ...]:
        return new_layer, (self.graph_text,), self.__getstate__()


def new_layer(graph_text: str) -> nn.Module:
    """An instance without state, to which pickle gives back what it had."""
    kind = layer_class(Graph.from_json_text(graph_text))
    return kind.__new__(kind)
