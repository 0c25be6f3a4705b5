"""Pre-activation ResNet with bottlenecks: layer, 1x1, layer, 3x3, layer, 1x1, plus skip.

Full size is ResNet-50: four stages of 3, 4, 6 and 3 blocks, output four times as wide as a block's
inside. Micro and small have three stages of ``depth`` blocks, output twice as wide.

Source: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016.
"""

from __future__ import annotations

from torch import Tensor, nn

from workers.anchors import SMALL_IMAGE, AnchorNetwork, HostNetwork, Layer, Spec, conv

EXPANSION, PUBLISHED_EXPANSION = 2, 4
STAGES, PUBLISHED_STAGES = (1, 1, 1), (3, 4, 6, 3)


class Bottleneck(nn.Module):
    """One block. A block that changes shape projects its skip, after the first layer.

    Shapes: (n, in_channels, h, w) -> (n, out_channels, h / stride, w / stride).
    """

    def __init__(
        self, layer: Layer, in_channels: int, inner: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
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


def build(layer: Layer, spec: Spec) -> HostNetwork:
    """The network around ``layer``; each stage but the first halves the image.

    At full size images above 64 pixels are first halved twice, as published.
    """
    full = spec.size == "full"
    stages = PUBLISHED_STAGES if full else STAGES
    expansion = PUBLISHED_EXPANSION if full else EXPANSION
    large = full and spec.image > SMALL_IMAGE
    stem = conv(spec.in_channels, spec.width, 7 if large else 3, 2 if large else 1)
    blocks: list[nn.Module] = [nn.MaxPool2d(3, 2, 1)] if large else []
    channels = spec.width
    for stage, repeats in enumerate(stages):
        inner = spec.width * 2**stage
        for block in range(repeats * spec.depth):
            stride = 2 if stage > 0 and block == 0 else 1
            blocks.append(Bottleneck(layer, channels, inner, expansion * inner, stride))
            channels = expansion * inner
    body = nn.Sequential(*blocks, layer(channels))
    return HostNetwork(stem, body, channels, spec.num_classes)


ENTRY = AnchorNetwork(build)
