"""The three depths in one plug-in file: a network, a task, an evaluator; and others."""

import torch
from torch import nn

import evosearch as es


def small(layer, num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, 2, 1),
        layer(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, num_classes),
    )


def finished(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, 2, 1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, num_classes),
    )


es.anchor("my-net", build=small)
es.anchor("my-model", model=finished)


@es.anchor("tiny-seq", slot="norm", layout="btc", forbid_axes="bt", baselines=["layernorm", "dyt"])
class TinySeq:
    objectives = [es.Objective("bpc", "min", "bit/char")]

    def data(self, ctx):
        x = torch.randn(64, 5, 4, generator=ctx.generator)
        return x, x.cumsum(1)

    def build(self, layer):
        return nn.Sequential(nn.Linear(4, 8), layer(8), nn.Linear(8, 4))

    def loss(self, model, batch):
        x, y = batch
        return (model(x) - y).square().mean()

    def evaluate(self, model, batches):
        return {"bpc": torch.cat([(model(x) - y).square() for x, y in batches]).mean()}


@es.evaluator(objectives=[es.Objective("miou", "max", "%")], baselines=["bn-relu"])
def my_eval(layer, ctx):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), layer(4))
    x = torch.randn(4, 1, 6, 6, generator=ctx.generator)
    value = 0.0
    for step in range(ctx.steps):
        value = 100 * float(torch.sigmoid(net(x).mean().detach() + 0.01 * step))
        ctx.report(step, miou=value)
    return {"miou": value}


@es.objective("width", "min", "channels")
def width(model):
    return max(one.numel() for one in model.parameters())


@es.check("no-exp")
def no_exp(graph):
    return "exp is live" if any(graph.node(i).op == "exp" for i in graph.live_ops()) else None
