"""Layers for libraries that take a function as their normalisation, and what to check afterwards.

timm's models accept a plain function ``norm_layer(num_features, ...)``; nothing here imports timm.
A model that is built so may still apply activations of its own after the new layers:
`activations_left` finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from primitives.errors import LayerError
from primitives.graph import Graph
from primitives.groups import group_count
from primitives.model_scan import is_activation, is_evolved, scan
from primitives.module import layer_class
from primitives.named import layer_graph
from primitives.placement import Placement, Row


def norm_act_function(
    layer: Graph | str, *, groups: int | None = None, recompute: bool = False
) -> Callable[..., nn.Module]:
    """A function ``make(num_features, apply_act=True, ...)`` for timm's ``norm_layer``.

    The function takes what timm's models hand over: ``eps``, ``momentum``, ``device``, ``dtype``
    are used, ``act_layer``, ``act_kwargs``, ``inplace``, ``drop_layer`` and ``affine`` are accepted
    and have no meaning here. With ``apply_act=False`` only the affine is left. The modules take
    (N, C, H, W), (N, H, W, C) and (B, tokens, C).

    Raises:
        FormulaError: the text is no layer.

    Example:
        >>> make = norm_act_function("evonorm-s0")
        >>> make(8, act_layer=nn.ReLU, inplace=True)(torch.ones(1, 8, 2, 2)).shape
        torch.Size([1, 8, 2, 2])
    """
    graph = layer if isinstance(layer, Graph) else layer_graph(layer)
    kind = _fitting(layer_class(graph))

    def make(
        num_features: int,
        apply_act: bool = True,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **accepted: object,
    ) -> nn.Module:
        return kind(
            num_features, groups=group_count(num_features) if groups is None else groups,
            eps=eps, momentum=momentum, apply_act=apply_act, recompute=recompute, device=device,
            dtype=dtype,
        )  # fmt: skip

    return make


def _fitting(kind: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The class, reading where the channels are off each input."""
    base: Any = kind

    class FittedLayer(base):  # type: ignore[misc]
        """A generated layer for inputs with channels first, channels last, or tokens."""

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.ndim == 3 and x.shape[-1] == self.num_features
            if tokens or (x.ndim > 3 and x.shape[1] != self.num_features):
                moved: Tensor = super().forward(x.movedim(-1, 1))
                return moved.movedim(1, -1)
            value: Tensor = super().forward(x)
            return value

    return FittedLayer


def activations_left(model: nn.Module) -> Placement:
    """The activations that a model applies directly to the output of a generated layer.

    Returns:
        A `Placement` with one row an activation: ``left`` with the layer's path. A model that
        cannot be traced gives a row for each of its activations, with that as the reason.

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
            if is_activation(module):
                why = f"perhaps after a generated layer: {found.reason}"
                placed.rows.append(Row(path, type(module).__name__, "left", why))
        return placed
    for name, node in found.activations():
        source = found.source(node)
        before = found.modules.get(str(source.target)) if source is not None else None
        evolved = before is not None and is_evolved(before) and getattr(before, "apply_act", False)
        if source is not None and evolved:
            why = f"applied to the generated layer {source.target}"
            placed.rows.append(Row(name, found.kind(name, node), "left", why))
    return placed


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
