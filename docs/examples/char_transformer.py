"""A causal character transformer of a user's own: what may stand in the place of LayerNorm?

It learns Python from the sources of Python's own standard library. No layer may mix positions or
texts, so the search offers moments over the channels of a token alone.

    evosearch anchor check docs/examples/char_transformer.py:TinyGPT
    python docs/examples/char_transformer.py 60
"""

import argparse as first
import math
import statistics as second
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import evosearch as es

LENGTH, WIDTH, SYMBOLS = 32, 32, 128


@es.anchor(
    "tiny-gpt", slot="norm", layout="btc", forbid_axes="bt",
    baselines=["layernorm", "rmsnorm", "dyt"],
)  # fmt: skip
class TinyGPT:
    objectives = [es.Objective("bpc", "min", "bit/char", worst=math.log2(SYMBOLS))]

    def data(self, ctx):
        text = "".join(Path(one.__file__).read_text() for one in (first, second))
        codes = torch.tensor([min(ord(letter), SYMBOLS - 1) for letter in text])
        ends = {"train": (0.0, 0.8), "select": (0.8, 0.9), "final": (0.9, 1.0)}[ctx.split]
        part = codes[int(ends[0] * len(codes)) : int(ends[1] * len(codes))]
        return part[: len(part) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)

    def build(self, layer):
        return Network(layer)

    def loss(self, model, batch):
        logits = model(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    def evaluate(self, model, batches):
        bits = [(self.loss(model, batch) * len(batch), len(batch)) for batch in batches]
        return {"bpc": sum(b for b, _ in bits) / sum(n for _, n in bits) / math.log(2)}


class Network(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.norms = nn.ModuleList(layer(WIDTH) for _ in range(3))
        self.mix = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 128), nn.GELU(), nn.Linear(128, WIDTH))
        self.out = nn.Linear(WIDTH, SYMBOLS)

    def forward(self, x):
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y = self.symbols(x) + self.places[: x.shape[1]]
        z = self.norms[0](y)
        y = y + self.mix(z, z, z, attn_mask=later, need_weights=False)[0]
        y = y + self.mlp(self.norms[1](y))
        return self.out(self.norms[2](y))


if __name__ == "__main__":
    evaluations, steps = (int(one) for one in [*sys.argv[1:], "60", "200"][:2])
    run = es.search(
        [TinyGPT], where="causal_safe and live_nodes <= 8", start_from=["dyt", "x / rms_token(x)"],
        budget=evaluations, pool="inline", settings={"task.steps": steps},
    )  # fmt: skip
    print(run.table())
    print(run.verdict)
