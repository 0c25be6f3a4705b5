"""Pre-activation ResNet with bottlenecks: layer, 1x1, layer, 3x3, layer, 1x1, plus skip.

The published network has four stages of 3, 4, 6 and 3 blocks; this one has three stages of
``depth`` blocks for small images, at widths ``width``, 2 ``width`` and 4 ``width``.

Source: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016.
"""

from __future__ import annotations

from torch import Tensor, nn

from workers.anchors import AnchorNetwork, HostNetwork, Layer, check_size, conv

EXPANSION = 2
"""Channels of a block's output over those inside it (published: 4; 2 at micro widths)."""


class Bottleneck(nn.Module):
    """One block. A block that changes shape projects its skip, after the first layer.

    Shapes: (n, in_channels, h, w) -> (n, EXPANSION * inner, h / stride, w / stride).
    """

    def __init__(self, layer: Layer, in_channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * inner
        self.layer1 = layer(in_channels)
        self.conv1 = conv(in_channels, inner)
        self.layer2 = layer(inner)
        self.conv2 = conv(inner, inner, 3, stride)
        self.layer3 = layer(inner)
        self.conv3 = conv(inner, out_channels)
        same = stride == 1 and in_channels == out_channels
        self.skip = None if same else conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        first = self.layer1(x)
        skip = x if self.skip is None else self.skip(first)
        y = self.conv2(self.layer2(self.conv1(first)))
        out: Tensor = self.conv3(self.layer3(y)) + skip
        return out


def build(
    layer: Layer, *, in_channels: int, num_classes: int, width: int, depth: int
) -> HostNetwork:
    """The network around ``layer``; three stages, the last two halve the image."""
    check_size(width, depth)
    stem = conv(in_channels, width, 3)
    blocks: list[nn.Module] = []
    channels = width
    for stage in range(3):
        for block in range(depth):
            inner = width * 2**stage
            stride = 2 if stage > 0 and block == 0 else 1
            blocks.append(Bottleneck(layer, channels, inner, stride))
            channels = EXPANSION * inner
    body = nn.Sequential(*blocks, layer(channels))
    return HostNetwork(stem, body, channels, num_classes)


ENTRY = AnchorNetwork(build)
