"""What the token networks share: the layer on (n, tokens, c), attention, the pre-norm block.

In the slot ``norm`` a layer stands for every LayerNorm and GELU stays; in the slot ``act`` for
every GELU and LayerNorm stays.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workers.anchors import Layer, Spec

EPS = 1e-6


class OnTokens(nn.Module):
    """A layer for images, on tokens: the positions stand for the height, the width is 1.

    So every layer serves, torch's BatchNorm2d among them. Shapes: (n, tokens, c) -> the same.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.transpose(1, 2).unsqueeze(-1))
        return y.squeeze(-1).transpose(1, 2)


def slots(layer: Layer, spec: Spec) -> tuple[Layer, Layer]:
    """(normalisation, activation) by number of channels, for the spec's slot."""

    def wrapped(channels: int) -> nn.Module:
        return OnTokens(layer(channels))

    norm: Layer = wrapped if spec.slot == "norm" else lambda c: nn.LayerNorm(c, eps=EPS)
    act: Layer = wrapped if spec.slot == "act" else lambda c: nn.GELU()
    return norm, act


class Mlp(nn.Module):
    """Linear, activation, linear over the last axis. Shapes: (n, tokens, c) -> the same."""

    def __init__(self, act: Layer, channels: int, inner: int, *, bias: bool = True) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, inner, bias=bias)
        self.act = act(inner)
        self.reduce = nn.Linear(inner, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.reduce(self.act(self.expand(x)))
        return y


class Attention(nn.Module):
    """Softmax attention, written out so that the stability check can differentiate it twice.

    ``causal``: no position sees a later one. Shapes: (n, tokens, c) -> the same.
    """

    def __init__(self, channels: int, heads: int, *, causal: bool, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.project = nn.Linear(channels, 3 * channels, bias=bias)
        self.out = nn.Linear(channels, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        parts = self.project(x).view(batch, tokens, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = query @ key.transpose(-2, -1) / math.sqrt(channels // self.heads)
        if self.causal:
            later = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
            weights = weights.masked_fill(later, -math.inf)
        mixed = (weights.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, tokens, channels)
        y: Tensor = self.out(mixed)
        return y


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). Shapes: (n, tokens, c) -> the same."""

    def __init__(
        self, norm: Layer, act: Layer, channels: int, *, causal: bool, bias: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.attention = Attention(channels, head_count(channels), causal=causal, bias=bias)
        self.norm2 = norm(channels)
        self.mlp = Mlp(act, channels, 4 * channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


def head_count(channels: int) -> int:
    """One head for 64 channels, as published; narrow networks have two where they can."""
    most = max(2, channels // 64)
    return next(count for count in range(most, 0, -1) if channels % count == 0)


def patch_size(image: int) -> int:
    """Pixels of a patch's side: 16 as published, fewer for small images."""
    if image > 64:
        return 16
    return 4 if image > 16 else 2
