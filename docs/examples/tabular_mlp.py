"""A multilayer perceptron on a table of a user's own: Friedman's regression, scored by its error.

The layer stands for normalisation and activation together; rows of a table have no positions, so
the layout is batch and channels.

    evosearch anchor check docs/examples/tabular_mlp.py:Table
    python docs/examples/tabular_mlp.py 80
"""

import sys

import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.nn import functional as F

import evosearch as es


@es.anchor("table", slot="norm_act", layout="bc", baselines=["bn-relu", "ln-relu", "bn-silu"])
class Table:
    objectives = [es.Objective("rmse", "min")]

    def data(self, ctx):
        rows = 800 if ctx.split == "train" else 1000
        x, y = make_friedman1(rows, noise=0.5, random_state=int(ctx.rng.integers(2**31)))
        x, y = torch.tensor(x).float(), torch.tensor(y).float()
        return 4 * (x - 0.5), (y - 14.4) / 5  # about mean 0 and deviation 1

    def build(self, layer):
        return nn.Sequential(
            nn.Linear(10, 32), layer(32), nn.Linear(32, 32), layer(32), nn.Linear(32, 1)
        )

    def loss(self, model, batch):
        x, y = batch
        return F.mse_loss(model(x)[:, 0], y)

    def evaluate(self, model, batches):
        errors = torch.cat([(model(x)[:, 0] - y).square() for x, y in batches])
        return {"rmse": errors.mean().sqrt()}


if __name__ == "__main__":
    evaluations, steps = (int(one) for one in [*sys.argv[1:], "80", "150"][:2])
    run = es.search([Table], budget=evaluations, pool="inline", settings={"task.steps": steps})
    print(run.table())
    print(run.verdict)
