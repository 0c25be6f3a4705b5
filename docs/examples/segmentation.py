"""Segmentation of a user's own: a small U-Net, a loss of two parts, and intersection over union.

Noisy images hold bright and dark discs; the mask is where any disc is, whatever its sign.

    evosearch anchor check docs/examples/segmentation.py:Discs
    python docs/examples/segmentation.py 60
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

import evosearch as es

SIZE = 16


@es.anchor("discs", slot="norm_act", layout="bchw", baselines=["bn-relu", "gn-silu"])
class Discs:
    objectives = [es.Objective("iou", "max", "%", worst=0.0)]

    def data(self, ctx):
        rows = 512 if ctx.split == "train" else 256
        draw = lambda *shape: torch.rand(*shape, generator=ctx.generator)  # noqa: E731
        grid = torch.arange(SIZE).float()
        centre, radius = SIZE * draw(rows, 2, 2), 2 + 2 * draw(rows, 2, 1, 1)
        far = (grid[:, None] - centre[..., :1, None]) ** 2 + (grid - centre[..., 1:, None]) ** 2
        discs = far < radius**2  # (rows, 2, SIZE, SIZE)
        sign = 2.0 * (draw(rows, 2, 1, 1) < 0.5) - 1.0
        x = (sign * discs).sum(1, keepdim=True)
        noise = torch.randn(x.shape, generator=ctx.generator)
        return x + 0.6 * noise, discs.any(1, keepdim=True).float()

    def build(self, layer):
        return UNet(layer, 8)

    def loss(self, model, batch):
        x, mask = batch
        logits = model(x)
        found = torch.sigmoid(logits)
        overlap = 2 * (found * mask).sum() / (found.sum() + mask.sum() + 1.0)
        return F.binary_cross_entropy_with_logits(logits, mask) + 1 - overlap

    def evaluate(self, model, batches):
        both = either = 0.0
        for x, mask in batches:
            found = model(x) > 0
            both += (found & (mask > 0)).sum().item()
            either += (found | (mask > 0)).sum().item()
        return {"iou": 100 * both / max(1.0, either)}


class UNet(nn.Module):
    def __init__(self, layer, width):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1), layer(width))
        self.inner = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), layer(2 * width),
            nn.Conv2d(2 * width, width, 3, 1, 1), layer(width), nn.Upsample(scale_factor=2),
        )  # fmt: skip
        self.up = nn.Conv2d(2 * width, 1, 3, 1, 1)

    def forward(self, x):
        y = self.down(x)
        return self.up(torch.cat([y, self.inner(y)], 1))


if __name__ == "__main__":
    evaluations, steps = (int(one) for one in [*sys.argv[1:], "60", "100"][:2])
    run = es.search([Discs], budget=evaluations, pool="inline", settings={"task.steps": steps})
    print(run.table())
    print(run.verdict)
