"""What a layer is worth in a network that no search saw, beside BN-ReLU, each at its best rate.

A layer compared at one learning rate is not compared. So both are trained at several, the rate is
chosen by some seeds, and other seeds are reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import nn

import evosearch as es
from evosearch.config import Anchor, Task
from evosearch.records import EvaluationDone, Job, Run, Subject
from evosearch.streams import evaluation_seed
from primitives.graph import Graph
from workers.evaluate import Context, run_job
from workers.inline import one_thread

UNSEEN = "plain"
RATES = (0.1, 0.2, 0.4)
TUNE_SEEDS, REPORT_SEEDS = 3, 5
RIVAL = "bn-relu"


def plain_network(layer: Any, num_classes: int, in_channels: int) -> nn.Module:
    """A plain stack of convolutions without a shortcut, which no search of the study trains."""
    widths, parts, before = (8, 16, 16, 32), [], in_channels
    for number, width in enumerate(widths):
        stride = 2 if number % 2 else 1
        parts += [nn.Conv2d(before, width, 3, stride, 1, bias=False), layer(width)]
        before = width
    return nn.Sequential(
        *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes)
    )


es.anchor(UNSEEN, build=plain_network, slot="norm_act", baselines=[RIVAL])


def scores(
    graph: Graph | None, task: Task, anchors: Sequence[str], seeds: Iterable[int], context: Context,
    rate: float | None = None,
) -> list[list[float]]:  # fmt: skip
    """Scores (seeds, anchors) of the layer on ``select``; of BN-ReLU where there is no graph.

    ``rate``: of the training, by default the task's.
    """
    subject = Subject(birth=0) if graph is not None else Subject(baseline=RIVAL)
    rows = []
    for seed in seeds:
        runs = [Run(anchor=a, seed=seed, learning_rate=rate or task.learning_rate) for a in anchors]
        job = Job(
            id="s", purpose="confirm", subject=subject, graph=graph, runs=tuple(runs), task=task
        )
        with one_thread():
            messages = list(run_job(job, context))
        rows.append([m.evaluation.score for m in messages if isinstance(m, EvaluationDone)])
        assert len(rows[-1]) == len(anchors), messages[-1]
    return rows


def over_bn_relu(graph: Graph, task: Task, seed: int, context: Context) -> dict[str, Any]:
    """The layer's mean score over BN-ReLU's in the unseen network, each at its own best rate."""
    task = task.model_copy(update={"anchors": (Anchor(name=UNSEEN),)})
    tune, report = (
        [evaluation_seed(seed, purpose, index) for index in range(count)]
        for purpose, count in (("tune", TUNE_SEEDS), ("final", REPORT_SEEDS))
    )

    def at_best(layer: Graph | None) -> tuple[float, Any]:
        means = {
            rate: np.mean(scores(layer, task, [UNSEEN], tune, context, rate)) for rate in RATES
        }
        best = max(RATES, key=lambda rate: float(means[rate]))
        return best, np.array(scores(layer, task, [UNSEEN], report, context, best))

    (rate, ours), (their_rate, theirs) = at_best(graph), at_best(None)
    return {
        "unseen": round(float(ours.mean() - theirs.mean()), 4),
        "unseen_rate": rate, "unseen_rate_of_bn_relu": their_rate,
    }  # fmt: skip
