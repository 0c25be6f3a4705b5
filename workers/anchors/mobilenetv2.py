"""MobileNetV2: inverted residuals; 1x1, layer, depthwise, layer, 1x1, plus skip.

The published network has seven stages; micro and small have four of ``depth`` blocks.

Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2", CVPR 2018.
"""

from __future__ import annotations

from workers.anchors import AnchorNetwork, HostNetwork, Layer, Spec
from workers.anchors._inverted import Stage, build_inverted

STAGES = (Stage(1, 1.0, 1, 3), Stage(4, 2.0, 2, 3), Stage(4, 2.0, 1, 3), Stage(4, 4.0, 2, 3))
PUBLISHED = (
    Stage(1, 0.5, 1, 3, 1),
    Stage(6, 0.75, 2, 3, 2),
    Stage(6, 1.0, 2, 3, 3),
    Stage(6, 2.0, 2, 3, 4),
    Stage(6, 3.0, 1, 3, 3),
    Stage(6, 5.0, 2, 3, 3),
    Stage(6, 10.0, 1, 3, 1),
)


def build(layer: Layer, spec: Spec) -> HostNetwork:
    """The network around ``layer``; micro and small halve the image twice."""
    full = spec.size == "full"
    return build_inverted(
        layer,
        spec,
        PUBLISHED if full else STAGES,
        squeeze_excite=False,
        head=40.0 if full else 8.0,
    )


ENTRY = AnchorNetwork(build, sizes={"micro": (8, 1), "small": (16, 2), "full": (32, 1)})
