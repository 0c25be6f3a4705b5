"""The inverted residual block that MobileNetV2 and EfficientNet share.

It is a file of its own so that each anchor's file says only what is its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.anchors import SMALL_IMAGE, Affine, HostNetwork, Layer, Spec, conv, even


class Stage(NamedTuple):
    """Blocks of one width. ``factor``: output channels over the network's width; ``stride``: of
    the first block; ``repeats``: blocks at depth 1."""

    expansion: int
    factor: float
    stride: int
    kernel: int
    repeats: int = 1


class SqueezeExcite(nn.Module):
    """Gate each channel by a small network of all channels' means.

    Its own SiLU and sigmoid are no slot. Shapes: (n, c, h, w) -> the same.

    Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, squeezed)
        self.expand = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.expand(F.silu(self.reduce(x.mean(dim=(2, 3))))))
        return x * gate[:, :, None, None]


class InvertedResidual(nn.Module):
    """1x1, layer, depthwise, layer, (squeeze-excite,) 1x1, affine, plus skip.

    The skip is there where shape permits. The affine is what stays of the published block's
    last normalisation, which has no activation.
    """

    def __init__(
        self,
        layer: Layer,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        stride: int,
        kernel: int,
        squeeze_excite: bool,
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        steps: list[nn.Module] = []
        if expansion != 1:
            steps += [conv(in_channels, inner), layer(inner)]
        steps += [conv(inner, inner, kernel, stride, groups=inner), layer(inner)]
        if squeeze_excite:
            steps.append(SqueezeExcite(inner, max(1, in_channels // 4)))
        steps += [conv(inner, out_channels), Affine(out_channels)]
        self.steps = nn.Sequential(*steps)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.steps(x)
        return x + y if self.has_skip else y


def build_inverted(
    layer: Layer, spec: Spec, stages: tuple[Stage, ...], *, squeeze_excite: bool, head: float
) -> HostNetwork:
    """Stem, layer, stages of blocks, 1x1 to ``head`` x width channels, layer.

    At full size the stem and the stages halve the image five times, as published; small images
    keep their resolution up to the third stage (CIFAR strides).
    """
    width, full = spec.width, spec.size == "full"
    large = full and spec.image > SMALL_IMAGE
    blocks: list[nn.Module] = [layer(width)]
    channels = width
    for number, stage in enumerate(stages):
        out_channels = even(width * stage.factor)
        first_stride = 1 if full and not large and number == 1 else stage.stride
        for block in range(stage.repeats * spec.depth):
            blocks.append(
                InvertedResidual(
                    layer,
                    channels,
                    out_channels,
                    expansion=stage.expansion,
                    stride=first_stride if block == 0 else 1,
                    kernel=stage.kernel,
                    squeeze_excite=squeeze_excite,
                )
            )
            channels = out_channels
    features = even(width * head)
    body = nn.Sequential(*blocks, conv(channels, features), layer(features))
    stem = conv(spec.in_channels, width, 3, 2 if large else 1)
    return HostNetwork(stem, body, features, spec.num_classes)
