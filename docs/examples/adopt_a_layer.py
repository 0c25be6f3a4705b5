"""From a search to a network that trains on with the layer it found.

Run it: ``python docs/examples/adopt_a_layer.py [FORMULA]``. Without one it takes a known layer
in the place of a search's leader, so that it ends in seconds; the comment in `main` shows how a
leader gets there.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import util
from pathlib import Path

import torch
from torch import nn

import evosearch


def small_network() -> nn.Module:
    """A network as somebody may have it: two blocks of convolution, BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


def train(network: nn.Module, steps: int) -> float:
    """Mean loss of the last ten steps: is the mean of a noisy image positive or negative?"""
    torch.manual_seed(0)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        label = torch.randint(2, (32,))
        images = 0.3 * (2.0 * label - 1).view(-1, 1, 1, 1) + torch.randn(32, 1, 8, 8)
        loss = nn.functional.cross_entropy(network(images), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def main(formula: str = "evonorm-b0") -> None:
    # 1. Search. On the command line: `evosearch search start quickstart`, then
    #    `evosearch export SEARCH --format formula` prints the leader's formula.
    # 2. Export: a file that needs torch only, checked against the interpreter before it is written.
    graph = evosearch.layer_graph(formula)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.py"
        path.write_bytes(evosearch.artefact(graph, "python"))
        spec = util.spec_from_file_location("layer", path)
        assert spec is not None
        assert spec.loader is not None
        taken_home = util.module_from_spec(spec)
        spec.loader.exec_module(taken_home)
        print(taken_home.EvolvedLayer(16))

    # 3. Replace: a network that was trained with BatchNorm and ReLU takes the layer.
    network = small_network()
    before = train(network, 60)
    placed = evosearch.replace_norm_act(network, formula)

    # 4. Train on: weights, scales, shifts and running statistics are still there.
    after = train(placed.model, 60)
    print(f"loss before {before:.3f}, after training on with the layer {after:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
