"""MobileNetV2: inverted residuals; 1x1, layer, depthwise, layer, 1x1, plus skip.

The published network has seven stages; this one has four of ``depth`` blocks for small images.

Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2", CVPR 2018.
"""

from __future__ import annotations

from workers.anchors import AnchorNetwork, HostNetwork, Layer
from workers.anchors._inverted import Stage, build_inverted

STAGES: tuple[Stage, ...] = ((1, 1.0, 1, 3), (4, 2.0, 2, 3), (4, 2.0, 1, 3), (4, 4.0, 2, 3))


def build(
    layer: Layer, *, in_channels: int, num_classes: int, width: int, depth: int
) -> HostNetwork:
    """The network around ``layer``; the image is halved twice."""
    return build_inverted(
        layer,
        STAGES,
        in_channels=in_channels,
        num_classes=num_classes,
        width=width,
        depth=depth,
        squeeze_excite=False,
        head=8.0,
    )


ENTRY = AnchorNetwork(build)
