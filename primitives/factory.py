"""Layers for libraries that take a function as their normalisation, and what to check afterwards.

timm's models accept a plain function ``norm_layer(num_features, ...)``; nothing here imports timm.
A model that is built so may still apply activations of its own after the new layers:
`activations_left` finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from primitives.errors import LayerError
from primitives.graph import Graph
from primitives.groups import group_count
from primitives.model_scan import Scan, is_activation, is_evolved, own_activation, scan
from primitives.module import layer_class
from primitives.named import layer_graph
from primitives.placement import Placement, Row


def norm_act_function(
    layer: Graph | str,
    *,
    groups: int | None = None,
    recompute: bool = False,
    layout: Literal["nchw", "nhwc", "btc"] | None = None,
) -> Callable[..., nn.Module]:
    """A function ``make(num_features, apply_act=True, ...)`` for timm's ``norm_layer``.

    The function takes what timm's models hand over: ``eps``, ``momentum``, ``device``, ``dtype``
    are used, ``act_layer``, ``act_kwargs``, ``inplace``, ``drop_layer`` and ``affine`` are accepted
    and have no meaning here. With ``apply_act=False`` only the affine is left.

    ``layout`` None: the modules take (N, C, *spatial), (N, *spatial, C) and (B, tokens, C), and
    tell them apart by the axis that has as many entries as the layer has channels. An input on
    which both have is refused: give the layout then, "nchw" for most convolutional networks,
    "nhwc" for channels last with any number of axes before them, tokens included.

    Raises:
        FormulaError: the text is no layer.

    Example:
        >>> make = norm_act_function("evonorm-s0")
        >>> make(8, act_layer=nn.ReLU, inplace=True)(torch.ones(1, 8, 2, 2)).shape
        torch.Size([1, 8, 2, 2])
    """
    graph = layer if isinstance(layer, Graph) else layer_graph(layer)
    kind = fitted_class(graph.to_json_text()) if layout is None else layer_class(graph)
    more = {} if layout is None else {"layout": layout}

    def make(
        num_features: int,
        apply_act: bool | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **accepted: object,
    ) -> nn.Module:
        made: Any = kind(
            num_features, groups=group_count(num_features) if groups is None else groups,
            eps=eps, momentum=momentum, apply_act=apply_act is not False, recompute=recompute,
            device=device, dtype=dtype, **more,
        )  # fmt: skip
        # Whoever speaks of an activation leaves it to the layer; `activations_left` asks.
        made.stands_for_both = apply_act is not None or bool(_OF_ACTIVATIONS & accepted.keys())
        return cast(nn.Module, made)

    return make


_OF_ACTIVATIONS = frozenset({"act_layer", "act_kwargs", "inplace", "drop_layer"})


@lru_cache(maxsize=1024)
def fitted_class(graph_text: str) -> Callable[..., nn.Module]:
    """The graph's class, reading where the channels are off each input."""
    base: Any = layer_class(Graph.from_json_text(graph_text))

    class FittedLayer(base):  # type: ignore[misc]
        """A generated layer for inputs with channels first, channels last, or tokens."""

        def forward(self, x: Tensor) -> Tensor:
            count = self.num_features
            first, last = (x.ndim > 1 and x.shape[axis] == count for axis in (1, -1))
            if x.ndim > 2 and first and last:
                raise ValueError(
                    f"both axis 1 and the last of {tuple(x.shape)} have {count} entries: are these "
                    "channels first or last? Say so: norm_act_function(..., layout='nchw' or "
                    "'nhwc')"
                )
            if x.ndim > 2 and last:
                moved: Tensor = super().forward(x.movedim(-1, 1))
                return moved.movedim(1, -1)
            value: Tensor = super().forward(x)
            return value

        def __reduce__(self) -> tuple[Any, ...]:
            return new_fitted, (graph_text,), self.__getstate__()

    return FittedLayer


def new_fitted(graph_text: str) -> nn.Module:
    """An instance without state, to which pickle gives back what it had."""
    kind: Any = fitted_class(graph_text)
    made: nn.Module = kind.__new__(kind)
    return made


def activations_left(model: nn.Module) -> Placement:
    """The activations that a model with generated layers applies by itself, and where that matters.

    Returns:
        A `Placement` with a row for each activation: ``left`` with what it is applied to. Where a
        model applies activations to its layers, as one built by ``norm_layer`` alone may do, there
        is also a row for each full layer that no activation follows: in its place only the affine
        belongs. A model that cannot be traced gives its activations with that as the reason.

    Example:
        >>> make = norm_act_function("evonorm-s0")
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), make(8), nn.ReLU())
        >>> [(row.module, row.why) for row in activations_left(net).rows]
        [('2', 'applied to the generated layer 1')]
    """
    found = scan(model)
    placed = Placement(model)
    if found.graph is None:
        for path, module in found.modules.items():
            holder = found.modules[path.rpartition(".")[0]]
            if is_activation(module) and own_activation(holder) is not module:
                why = f"perhaps after a generated layer: {found.reason}"
                placed.rows.append(Row(path, type(module).__name__, "left", why))
        return placed
    doubled = False
    for name, node in found.activations():
        source = found.source(node)
        before = found.modules.get(str(source.target)) if source is not None else None
        evolved = before is not None and is_evolved(before)
        full = evolved and bool(getattr(before, "apply_act", False))
        doubled |= full
        if source is None:
            why = "applied to an input"
        elif full:
            why = f"applied to the generated layer {source.target}"
        elif evolved:
            why = f"applied to the affine {source.target}"
        else:
            why = f"not after a layer: {source.name}"
        placed.rows.append(Row(name, found.kind(name, node), "left", why))
    if doubled:
        placed.rows += _affine_wanted(found)
    return placed


def _affine_wanted(found: Scan) -> list[Row]:
    """Full layers that no activation follows, of a model that has activations of its own."""
    rows, seen = [], set()
    for path, module in found.modules.items():
        full = is_evolved(module) and bool(getattr(module, "apply_act", False))
        if not full or getattr(module, "stands_for_both", False) or id(module) in seen:
            continue
        seen.add(id(module))
        users = [user for call in found.calls(path) for user in found.following(call)]
        if users and not any(found.is_activation(user) for user in users):
            why = "a full layer that no activation follows: an affine belongs here"
            rows.append(Row(path, type(module).__name__, "left", why))
    return rows


def synchronise_batch_statistics(model: nn.Module, process_group: Any = None) -> int:
    """Let generated layers take batch statistics over all processes, as SyncBatchNorm does.

    Call it before ``DistributedDataParallel``; ``process_group`` None is the default group.

    Returns:
        Number of layers that have batch statistics, all of them now synchronised.

    Raises:
        LayerError: torch.distributed is not initialised.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise LayerError(
            "no process group", expected="torch.distributed.init_process_group(...) before this",
            got="none",
        )  # fmt: skip
    layers: list[Any] = [m for m in model.modules() if is_evolved(m) and hasattr(m, "synchronise")]
    for layer in layers:
        layer.synchronise, layer.process_group = True, process_group
    return len(layers)
