"""Measures a generated layer against BatchNorm2d + ReLU on this machine: time, and saved bytes.

A look, not a benchmark: few runs, one shape, whatever else the machine is doing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from primitives.graph import Graph
from primitives.module import build_layer, layer_class


@dataclass(frozen=True, slots=True)
class Cost:
    """Ratios to BatchNorm2d + ReLU: medians of seconds, bytes that autograd keeps."""

    forward: float
    backward: float
    both: float
    saved: float
    saved_recompute: float


def against_bn_relu(graph: Graph, shape: tuple[int, int, int, int], runs: int) -> Cost:
    """The layer's cost at that shape (N, C, H, W), float32, training mode, taking turns."""
    channels = shape[1]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mine = build_layer(graph, channels)
    reference = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
    seconds = [(_seconds(mine, x), _seconds(reference, x)) for _ in range(runs + 2)][2:]
    forward, backward, both = (
        statistics.median(a[part] for a, _ in seconds)
        / statistics.median(b[part] for _, b in seconds)
        for part in (0, 1, 2)
    )
    baseline = saved_bytes(reference, x)
    frugal = layer_class(graph)(channels, recompute=True)
    saved, frugally = (saved_bytes(layer, x) / baseline for layer in (mine, frugal))
    return Cost(forward, backward, both, saved, frugally)


def _seconds(layer: nn.Module, x: Tensor) -> tuple[float, float, float]:
    """Seconds of forward, of backward, and of both."""
    x.grad = None
    begin = perf_counter()
    value = layer(x)
    middle = perf_counter()
    value.backward(x.detach())
    end = perf_counter()
    return middle - begin, end - middle, end - begin


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps of the layer's forward pass."""
    return kept_bytes(lambda: layer(x))


def kept_bytes(forward: Callable[[], Tensor], but: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps for backward; a storage that is kept twice counts once.

    ``but``: tensors that are there anyway, such as weights.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in but}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = forward()
    # While the value lives, nothing that was kept can be freed and counted for another.
    return sum(kept.values()) if value.requires_grad else 0
