"""From a search to a network that trains on with the layer that was found.

Run it: ``python docs/examples/adopt_a_layer.py [EVALUATIONS [STEPS]]``. A small search finds a
layer, which is written as a file, put into a network that was trained with BatchNorm and ReLU, and
trained on. The search is kept in ``evosearch.db`` of the folder at hand.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import util
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import evosearch as es


def network(layer=None):
    """Two convolutions as somebody may have them; ``layer`` stands for BatchNorm and ReLU."""
    pair = layer or (lambda width: nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), pair(16), nn.Conv2d(16, 16, 3, 2, 1), pair(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


def images(rows, generator=None):
    """Noise with a bright or a dark square somewhere, or nothing: is there a square?"""
    label = torch.randint(2, (rows,), generator=generator)
    x = 0.5 * torch.randn(rows, 1, 8, 8, generator=generator)
    sign = 2.0 * torch.randint(2, (rows, 1, 1), generator=generator) - 1
    x[:, 0, 2:6, 2:6] += 1.5 * sign * label.view(-1, 1, 1)
    return x, label


@es.anchor("squares", slot="norm_act", layout="bchw", baselines=["bn-relu", "gn-silu"])
class Squares:
    objectives = [es.Objective("accuracy", "max")]

    def data(self, ctx):
        return images(512 if ctx.split == "train" else 256, ctx.generator)

    def build(self, layer):
        return network(layer)

    def loss(self, model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model, batches):
        right = torch.cat([model(x).argmax(1) == label for x, label in batches])
        return {"accuracy": right.float().mean()}


def train(model, steps):
    """Mean loss of the last ten steps."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model((batch := images(32))[0]), batch[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def main(evaluations="20", steps="60"):
    # 1. Search, in the network that the layer is for. `run.leader` is what it recommends.
    settings = {"task.steps": int(steps)}
    run = es.search([Squares], budget=int(evaluations), pool="inline", settings=settings)
    print(f"leader: {run.leader.formula}")

    # 2. Export: a file that needs torch only, checked against the interpreter before it is written.
    with tempfile.TemporaryDirectory() as folder:
        path = run.leader.export(Path(folder) / "layer.py")
        spec = util.spec_from_file_location("layer", path)
        taken_home = util.module_from_spec(spec)
        spec.loader.exec_module(taken_home)
        print(taken_home.__doc__)
        print(taken_home.EvolvedLayer(16))

    # 3. Replace: a network that was trained with BatchNorm and ReLU takes the layer.
    torch.manual_seed(0)
    model = nn.Sequential(network())
    before = train(model, 60)
    placed = es.replace_norm_act(model, run.leader.graph)

    # 4. Train on: weights, scales, shifts and running statistics are still there.
    after = train(placed.model, 60)
    print(f"loss before {before:.3f}, after training on with the layer {after:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
