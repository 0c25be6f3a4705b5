"""MLP-Mixer: patches, then blocks of an MLP over positions and an MLP over channels.

Full size is Mixer-S/16. The MLP over positions fixes their number, so images of training and
evaluation must have one size.

Source: Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS 2021.
"""

from __future__ import annotations

from torch import Tensor, nn

from workers.anchors import ADAMW_RATE_SCALE, AnchorNetwork, HostNetwork, Layer, Spec, even
from workers.anchors._tokens import Mlp, patch_size, slots


class _Block(nn.Module):
    """Shapes: (n, tokens, c) -> the same."""

    def __init__(self, norm: Layer, act: Layer, tokens: int, channels: int) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.over_tokens = Mlp(act, tokens, even(channels / 2))
        self.norm2 = norm(channels)
        self.over_channels = Mlp(act, channels, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        y: Tensor = x + self.over_channels(self.norm2(x))
        return y


class _Body(nn.Module):
    """Shapes: (n, c, rows, columns) -> (n, c), averaged over positions."""

    def __init__(self, norm: Layer, act: Layer, tokens: int, spec: Spec) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(_Block(norm, act, tokens, spec.width) for _ in range(spec.depth))
        )
        self.norm = norm(spec.width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.blocks(x.flatten(2).transpose(1, 2))).mean(dim=1)
        return y


def build(layer: Layer, spec: Spec) -> HostNetwork:
    """The network around ``layer``."""
    norm, act = slots(layer, spec)
    patch = patch_size(spec.image)
    stem = nn.Conv2d(spec.in_channels, spec.width, patch, patch)
    body = _Body(norm, act, (spec.image // patch) ** 2, spec)
    return HostNetwork(stem, body, spec.width, spec.num_classes, layout="token")


ENTRY = AnchorNetwork(
    build,
    sizes={"micro": (32, 2), "small": (128, 6), "full": (512, 8)},
    slots=("norm", "act"),
    optimizer="adamw",
    rate_scale=ADAMW_RATE_SCALE,
    fixed_image=True,
)
