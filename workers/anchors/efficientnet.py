"""EfficientNet: MobileNetV2's block with squeeze-excite after the second layer, and 5x5 kernels.

The published B0 has seven stages; micro and small have four of ``depth`` blocks. The published
dropout and stochastic depth are left out.

Source: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019.
"""

from __future__ import annotations

from workers.anchors import AnchorNetwork, HostNetwork, Layer, Spec
from workers.anchors._inverted import Stage, build_inverted

STAGES = (Stage(1, 1.0, 1, 3), Stage(4, 2.0, 2, 3), Stage(4, 2.0, 1, 5), Stage(4, 4.0, 2, 3))
PUBLISHED = (
    Stage(1, 0.5, 1, 3, 1),
    Stage(6, 0.75, 2, 3, 2),
    Stage(6, 1.25, 2, 5, 2),
    Stage(6, 2.5, 2, 3, 3),
    Stage(6, 3.5, 1, 5, 3),
    Stage(6, 6.0, 2, 5, 4),
    Stage(6, 10.0, 1, 3, 1),
)


def build(layer: Layer, spec: Spec) -> HostNetwork:
    """The network around ``layer``; micro and small halve the image twice."""
    full = spec.size == "full"
    return build_inverted(
        layer,
        spec,
        PUBLISHED if full else STAGES,
        squeeze_excite=True,
        head=40.0 if full else 8.0,
    )


ENTRY = AnchorNetwork(build, sizes={"micro": (8, 1), "small": (16, 2), "full": (32, 1)})
