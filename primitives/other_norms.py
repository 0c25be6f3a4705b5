"""Recognises normalisations that are no classes of torch by what they compute, never by their name.

A module called RMSNorm may add one to its weight, or work on another axis; a layer in its place
would silently start from wrong scales. So the module is run on a small probe.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from primitives.model_scan import Layout, channels_of, own_activation

KNOWN = "LayerNorm, RMSNorm or x / deviation over the channels"


def layout_by_probe(norm: nn.Module) -> Layout | None:
    """Where the channels are, if the module is a plain normalisation of them; else None.

    Plain: ``unit * weight + bias`` with its own 1-D tensors, and its own activation after that.
    """
    channels = channels_of(norm)
    if channels is None or channels < 2:
        return None
    like = next(
        (t for t in (*norm.parameters(), *norm.buffers()) if t.is_floating_point()), torch.empty(0)
    )
    generator = torch.Generator().manual_seed(4)
    last = 2 * torch.randn(2, channels + 1, channels + 2, channels, generator=generator) + 0.5
    last = last.to(like.device, like.dtype)
    before = [(module, module.training) for module in norm.modules()]
    try:
        norm.eval()
        for layout in ("nhwc", "nchw"):
            if _is_plain(norm, last, layout == "nchw"):
                return layout
    finally:
        for module, mode in before:
            module.training = mode
    return None


def why_left(norm: nn.Module) -> str:
    """The reason for people why such a module stays."""
    if isinstance(getattr(norm, "running_mean", None), Tensor):
        return "its statistics are its own: turn it into a BatchNorm first"
    return f"computes something else than {KNOWN}"


def _is_plain(norm: nn.Module, last: Tensor, first: bool) -> bool:
    given = last.movedim(-1, 1).contiguous() if first else last
    with torch.no_grad():
        try:
            got = norm.forward(given)
        except Exception:  # somebody's own code, on an input that it may not take
            return False
        if not isinstance(got, Tensor) or got.shape != given.shape:
            return False
        got = (got.movedim(1, -1) if first else got).float()
        act = own_activation(norm) or nn.Identity()
        tolerance = 1e-3 if last.dtype in (torch.float32, torch.float64) else 3e-2
        weight, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
        for unit in _units(last.float()):
            meant = unit if weight is None else unit * weight.float()
            meant = act(meant if bias is None else meant + bias.float())
            if torch.allclose(got, meant, rtol=tolerance, atol=tolerance):
                return True
    return False


def _units(x: Tensor) -> Iterator[Tensor]:
    """What known normalisations make of the last axis."""
    mean = x.mean(-1, keepdim=True)
    for correction in (0, 1):
        deviation = x.std(-1, correction=correction, keepdim=True)
        yield (x - mean) / deviation
        yield x / deviation
    yield x / x.square().mean(-1, keepdim=True).sqrt()
