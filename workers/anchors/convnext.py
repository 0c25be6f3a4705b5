"""ConvNeXt: depthwise 7x7, normalisation, 1x1, activation, 1x1, scale, plus skip.

Full size is ConvNeXt-T without its stochastic depth; micro and small have three stages of
``depth`` blocks. In the slot ``norm`` a layer stands for every normalisation of feature maps, and
GELU stays; in the slot ``act`` for every GELU, and LayerNorm over channels stays.

Source: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s", CVPR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.anchors import ADAMW_RATE_SCALE, SMALL_IMAGE, AnchorNetwork, HostNetwork, Layer, Spec

STAGES, PUBLISHED_STAGES = (1, 1, 1), (3, 3, 9, 3)
SCALE_INIT = 1e-6
"""Published start of the residual scale; short trainings of small sizes start at 0.1."""


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position. Shapes: (n, c, h, w) -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, 1)


def channel_norm(channels: int) -> nn.Module:
    """What stands where normalisations are no slot."""
    return ChannelNorm(channels, eps=1e-6)


class Block(nn.Module):
    """One residual block. Shapes: (n, channels, h, w) -> the same."""

    def __init__(self, norm: Layer, act: Layer, channels: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels),
            norm(channels),
            nn.Conv2d(channels, 4 * channels, 1),
            act(4 * channels),
            nn.Conv2d(4 * channels, channels, 1),
        )
        self.scale = nn.Parameter(torch.full((channels, 1, 1), scale))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.steps(x)
        return torch.addcmul(x, y, self.scale)


class _Head(nn.Module):
    """Mean over positions, then LayerNorm. Shapes: (n, c, h, w) -> (n, c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.mean(dim=(2, 3)))
        return y


def build(layer: Layer, spec: Spec) -> HostNetwork:
    """The network around ``layer``; each stage but the first halves the image."""
    full = spec.size == "full"
    norm: Layer = layer if spec.slot == "norm" else channel_norm
    act: Layer = layer if spec.slot == "act" else lambda channels: nn.GELU()
    patch = (4 if spec.image > SMALL_IMAGE else 2) if spec.image > 16 else 1
    stem = nn.Conv2d(spec.in_channels, spec.width, patch, patch)
    blocks: list[nn.Module] = [norm(spec.width)]
    channels = spec.width
    for stage, repeats in enumerate(PUBLISHED_STAGES if full else STAGES):
        if stage > 0:
            blocks += [norm(channels), nn.Conv2d(channels, 2 * channels, 2, 2)]
            channels *= 2
        for _ in range(repeats * spec.depth):
            blocks.append(Block(norm, act, channels, 7 if full else 5, SCALE_INIT if full else 0.1))
    body = nn.Sequential(*blocks, _Head(channels))
    return HostNetwork(stem, body, channels, spec.num_classes)


ENTRY = AnchorNetwork(
    build,
    sizes={"micro": (12, 1), "small": (32, 2), "full": (96, 1)},
    slots=("norm", "act"),
    optimizer="adamw",
    rate_scale=ADAMW_RATE_SCALE,
)
