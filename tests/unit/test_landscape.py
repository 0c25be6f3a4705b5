"""Polarity digits reward layers that normalise and bend, and neither alone: the task's purpose."""

from __future__ import annotations

import pytest
from sklearn.linear_model import LogisticRegression
from torch import nn

from evosearch.config import Anchor, Task
from evosearch.records import Run
from workers import datasets
from workers.inline import one_thread
from workers.training import Training

MARGIN = 0.15


def bn_relu(channels):
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def accuracy(layer, anchor):
    task = Task(anchors=(Anchor(name=anchor),), steps=100)
    run = Run(anchor=anchor, seed=0, learning_rate=0.2)
    training = Training(run, task, layer, datasets.load("polarity-digits"))
    training.advance(100)
    return training.score("select").accuracy


@pytest.mark.parametrize("anchor", ["resnet", "mobilenetv2"])
def test_no_linear_layer_comes_near_bn_relu(anchor):
    with one_thread():
        reached = accuracy(bn_relu, anchor)
        normalised = accuracy(nn.BatchNorm2d, anchor)
    data = datasets.load("polarity-digits")
    logistic = LogisticRegression(max_iter=2000).fit(
        data.train.x.flatten(1).numpy(), data.train.y.numpy()
    )
    linear = logistic.score(data.select.x.flatten(1).numpy(), data.select.y.numpy())
    assert reached > 0.65
    assert normalised < reached - MARGIN
    assert linear < reached - MARGIN
