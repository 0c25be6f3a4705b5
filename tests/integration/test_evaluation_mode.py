"""After training, evaluation mode scores within noise of batch statistics."""

from __future__ import annotations

import pytest
import torch

from evosearch.config import Anchor, Task
from evosearch.records import Job, Run, Subject
from primitives.catalog import entry
from workers import datasets
from workers.inline import one_thread
from workers.layers import layer_factory
from workers.training import Training, undisturbed

NOISE = 3 * 0.015
"""Three standard errors of an accuracy near .8 on 700 images."""


@pytest.mark.parametrize("statistics", ["moving", "reestimated"])
@pytest.mark.parametrize("name", ["bn-relu", "evonorm-b0"])
def test_moving_averages_score_as_batch_statistics_do(name: str, statistics: str) -> None:
    run = Run(anchor="resnet", seed=3, learning_rate=0.2)
    task = Task(anchors=(Anchor(name="resnet"),), steps=150, statistics=statistics)
    job = Job(
        id="c0",
        purpose="search",
        subject=Subject(birth=0),
        graph=entry(name).graph,
        runs=(run,),
        task=task,
    )
    data = datasets.load("polarity-digits", "cpu")
    with one_thread():
        training = Training(run, task, layer_factory(job, run.anchor), data)
        training.advance(150)
        evaluation = training.score("select").accuracy
        network = training.network.train()
        with torch.no_grad(), undisturbed(network):
            predicted = network(data.select.x).argmax(dim=1)
    batch = (predicted == data.select.y).double().mean().item()
    assert batch > 0.7, "the layer did not train, so nothing is compared"
    assert evaluation == pytest.approx(batch, abs=NOISE)
