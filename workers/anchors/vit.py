"""Vision transformer: patches, a class token, learned positions, pre-norm blocks.

Full size is ViT-S/16. Positions are interpolated where evaluation images have another size.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; the size from Touvron et
al., "Training data-efficient image transformers", ICML 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.anchors import ADAMW_RATE_SCALE, EMBEDDING_SD, AnchorNetwork, HostNetwork, Layer, Spec
from workers.anchors._tokens import TransformerBlock, patch_size, slots


class _Body(nn.Module):
    """Shapes: (n, c, rows, columns) -> (n, c), the class token after the last normalisation."""

    def __init__(self, norm: Layer, act: Layer, width: int, depth: int, side: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + side * side, width))
        nn.init.normal_(self.positions, std=EMBEDDING_SD)
        self.side = side
        self.blocks = nn.Sequential(
            *(TransformerBlock(norm, act, width, causal=False) for _ in range(depth))
        )
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)
        y: Tensor = self.norm(self.blocks(tokens + self.placed(x.shape[2], x.shape[3])))
        return y[:, 0]

    def placed(self, rows: int, columns: int) -> Tensor:
        """Positions of the class token and of a grid of that size."""
        if (rows, columns) == (self.side, self.side):
            return self.positions
        first, grid = self.positions[:, :1], self.positions[:, 1:]
        grid = torch.unflatten(grid.transpose(1, 2), 2, (self.side, self.side))
        grid = F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False)
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)


def build(layer: Layer, spec: Spec) -> HostNetwork:
    """The network around ``layer``."""
    norm, act = slots(layer, spec)
    patch = patch_size(spec.image)
    stem = nn.Conv2d(spec.in_channels, spec.width, patch, patch)
    body = _Body(norm, act, spec.width, spec.depth, max(1, spec.image // patch))
    return HostNetwork(stem, body, spec.width, spec.num_classes, layout="token")


ENTRY = AnchorNetwork(
    build,
    sizes={"micro": (32, 2), "small": (192, 6), "full": (384, 12)},
    slots=("norm", "act"),
    optimizer="adamw",
    rate_scale=ADAMW_RATE_SCALE,
)
