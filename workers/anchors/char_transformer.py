"""Causal character transformer: each position foretells the next character from those before it.

A layer that averages over positions or over the batch would show a position its own answer, so
this anchor forbids both axes. Full size is nanoGPT's for Shakespeare's characters: six blocks of
384 channels without biases, the classifier sharing the embedding's weights.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; the size from
github.com/karpathy/nanoGPT, config/train_shakespeare_char.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workers.anchors import ADAMW_RATE_SCALE, EMBEDDING_SD, AnchorNetwork, HostNetwork, Layer, Spec
from workers.anchors._tokens import TransformerBlock, slots

LONGEST = 256
"""Characters that a text may have (published block size)."""


class _Body(nn.Module):
    """Shapes: (n, tokens, c) -> the same."""

    def __init__(self, norm: Layer, act: Layer, width: int, depth: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(1, LONGEST, width))
        nn.init.normal_(self.positions, std=EMBEDDING_SD)
        self.blocks = nn.Sequential(
            *(TransformerBlock(norm, act, width, causal=True, bias=False) for _ in range(depth))
        )
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.blocks(x + self.positions[:, : x.shape[1]]))
        return y


def build(layer: Layer, spec: Spec) -> HostNetwork:
    """The network around ``layer``: symbols (n, tokens) -> logits (n, tokens, symbols)."""
    norm, act = slots(layer, spec)
    embedding = nn.Embedding(spec.num_classes, spec.width)
    body = _Body(norm, act, spec.width, spec.depth)
    network = HostNetwork(embedding, body, spec.width, spec.num_classes, layout="token")
    network.classifier = nn.Linear(spec.width, spec.num_classes, bias=False)
    network.classifier.weight = embedding.weight
    return network


ENTRY = AnchorNetwork(
    build,
    sizes={"micro": (32, 2), "small": (128, 4), "full": (384, 6)},
    slots=("norm", "act"),
    optimizer="adamw",
    rate_scale=ADAMW_RATE_SCALE,
    forbids=frozenset(("batch", "positions")),
    kind="text",
)
