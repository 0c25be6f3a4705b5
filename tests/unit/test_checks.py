"""Worker-side checks: what they measure, whom they reject, and that they leave no trace."""

from __future__ import annotations

import copy
import json
import math
from itertools import count

import pytest
import torch
from torch import nn

from evosearch.config import Anchor, Bounds, Quality, Stability, Task
from evosearch.presets import load_preset
from evosearch.records import Run
from evosearch.signal import LOSSES
from tests.benchmarks.record import RESULTS
from workers import datasets
from workers.checks import (
    SIGNAL_STATISTICS,
    check_quality,
    check_signal,
    check_stability,
    signal_statistics,
)
from workers.inline import one_thread
from workers.training import Training


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


@pytest.fixture
def clock():
    ticks = count()
    return lambda: float(next(ticks))


def bn_relu(channels):
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


class Function(nn.Module):
    """A layer that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def of(function):
    return lambda channels: Function(function)


def make(layer=bn_relu, anchor="resnet", steps=40):
    task = Task(anchors=(Anchor(name=anchor),), steps=steps)
    run = Run(anchor=anchor, seed=0, learning_rate=0.2)
    return Training(run, task, layer, datasets.load("polarity-digits"))


UNIT = {name: float(name not in LOSSES) for name in SIGNAL_STATISTICS}
"""A reference that leaves the statistics as they are."""


def wide(**changed):
    bounds = {name: Bounds(low=-1e30, high=1e30) for name in SIGNAL_STATISTICS}
    return {**bounds, **changed}


def test_signal_statistics_are_what_their_names_say():
    training = make()
    found = signal_statistics(training)
    x, y = training.batch(0)
    network = training.network
    features = network.forward_features(x)
    logits = network(x)
    loss = nn.functional.cross_entropy(logits, y)
    loss.backward()
    stem = network.stem.weight
    spread = logits.std(dim=0, correction=0).mean().item()
    gradient = (stem.grad.norm() / stem.norm()).item()
    other = copy.deepcopy(network)
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in other.parameters() if p.ndim > 1], "weight_decay": 1e-4},
            {"params": [p for p in other.parameters() if p.ndim == 1]},
        ],
        lr=0.2, momentum=0.9, nesterov=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.task.steps)
    losses = []
    for step in range(3):
        images, classes = training.batch(step)
        given = other(images)
        losses.append(nn.functional.cross_entropy(given, classes))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        schedule.step()
    growth = given.std(dim=0, correction=0).mean().item() / spread
    expected = {
        "logit_std": spread,
        "feature_std": features.std(dim=0, correction=0).mean().item(),
        "loss": loss.item(),
        "grad_ratio": gradient,
        "grad_per_logit": gradient / spread,
        "grad_times_logit": gradient * spread,
        "second_loss": losses[1].item(),
        "third_loss": losses[2].item(),
        "logit_growth": growth,
        "growth_per_logit": growth / spread,
    }
    assert abs(expected["second_loss"] - expected["loss"]) > 0.02
    assert found == pytest.approx(expected, rel=1e-5)
    assert 1.5 < found["loss"] < 5  # untrained, about ln 10


def test_the_reference_layer_is_at_one_and_a_weak_signal_far_below(clock):
    reference = signal_statistics(make())
    same = check_signal(make(), {}, reference, clock).findings
    assert same == UNIT
    weak = check_signal(make(of(lambda x: 1e-3 * x)), {}, reference, clock).findings
    assert weak["logit_std"] < 0.01
    assert weak["grad_ratio"] < 0.01


def test_signal_leaves_no_trace(clock):
    looked, plain = make(steps=8), make(steps=8)
    check_signal(looked, wide(), UNIT, clock)
    for training in (looked, plain):
        training.advance(8)
    assert looked.curve == plain.curve
    for name, value in plain.network.state_dict().items():
        assert torch.equal(looked.network.state_dict()[name], value), name


def test_signal_passes_within_and_rejects_outside_its_bounds(clock):
    training = make()
    inside = check_signal(training, wide(), UNIT, clock)
    assert inside.rejection is None
    assert (inside.check, inside.anchor, inside.steps) == ("signal", "resnet", 0)
    assert inside.seconds == 1.0
    outside = check_signal(training, wide(loss=Bounds(low=0.0, high=0.5)), UNIT, clock)
    assert outside.rejection.code == "signal"
    assert "loss" in outside.rejection.detail
    assert "resnet" in outside.rejection.detail
    assert outside.findings == inside.findings
    assert check_signal(training, {}, UNIT, clock).rejection is None


@pytest.mark.parametrize("function", [lambda x: x / 0.0, lambda x: torch.exp(1e3 * x.square())])
def test_signal_rejects_what_is_not_finite_even_without_bounds(function, clock):
    result = check_signal(make(of(function)), {}, UNIT, clock)
    assert result.rejection.code == "not_finite"
    assert any(not math.isfinite(value) for value in result.findings.values())
    assert type(result).model_validate_json(result.model_dump_json()).rejection == result.rejection


def test_a_layer_that_bounds_nothing_is_thrown_off_by_its_first_steps(clock):
    reference = signal_statistics(make())
    linear, normalised = (
        check_signal(make(of(layer)), {}, reference, clock).findings
        for layer in (lambda x: x, lambda x: x / x.square().mean((1, 2, 3), True).sqrt())
    )
    assert linear["second_loss"] > 1.0
    assert normalised["second_loss"] < 0.5


def test_constant_layer_has_no_signal():
    found = signal_statistics(make(of(lambda x: x * 0.0 + 1.0)))
    assert found["grad_ratio"] == 0.0
    assert found["logit_std"] < 1e-6


def test_quality_passes_bn_relu_and_its_steps_are_the_trainings_own(clock):
    training = make(steps=60)
    result = check_quality(training, Quality(steps=40, accuracy=0.2), clock)
    assert result.rejection is None
    assert result.steps == training.step == 40
    assert result.findings["accuracy"] > 0.4
    again = check_quality(training, Quality(steps=40, accuracy=0.2), clock)
    assert again.steps == 0


def test_quality_rejects_a_constant_layer(clock):
    result = check_quality(make(of(lambda x: x * 0.0)), Quality(steps=10), clock)
    assert result.rejection.code == "quality"
    assert "resnet" in result.rejection.detail
    assert result.findings["accuracy"] < 0.2


def test_quality_rejects_a_training_that_blows_up(clock):
    result = check_quality(make(of(lambda x: x * x * x)), Quality(steps=40), clock)
    assert result.rejection.code == "not_finite"
    assert result.steps < 40


def test_quality_accepts_exactly_its_threshold(clock):
    training = make()
    reached = check_quality(training, Quality(steps=5, accuracy=0.0), clock).findings["accuracy"]
    same = check_quality(training, Quality(steps=5, accuracy=reached), clock)
    above = check_quality(training, Quality(steps=5, accuracy=min(1.0, reached + 1e-6)), clock)
    assert same.rejection is None
    assert above.rejection.code == "quality"


def test_stability_tells_bn_relu_from_relu_alone(clock):
    settings = Stability(steps=20, rate=1.0)
    good = check_stability(make(), settings, clock)
    assert good.rejection is None
    assert good.findings["ascent_steps"] == 20
    assert good.findings["gradient_norm"] < 1e3
    bad = check_stability(make(of(torch.relu)), settings, clock)
    assert bad.rejection.code == "stability"
    assert bad.findings["ascent_steps"] < 20
    assert good.steps == bad.steps == 0


def test_stability_rejects_nan(clock):
    result = check_stability(make(of(lambda x: x / 0.0)), Stability(steps=5), clock)
    assert result.rejection.code == "stability"
    assert result.findings["ascent_steps"] == 1


def test_stability_does_not_touch_the_training(clock):
    looked, plain = make(steps=6), make(steps=6)
    looked.advance(3)
    check_stability(looked, Stability(steps=3), clock)
    looked.advance(6)
    plain.advance(6)
    assert looked.curve == plain.curve


def test_the_quickstart_has_the_bounds_that_were_judged():
    judged = json.loads((RESULTS / "signal.json").read_text())
    bounds = load_preset("quickstart").checks.signal.bounds
    plain = {a: {n: b.model_dump() for n, b in by.items()} for a, by in bounds.items()}
    assert plain == judged["bounds"]
    assert all(set(by) == set(SIGNAL_STATISTICS) for by in plain.values())
    assert not {one["dataset"] for one in judged["fitted_on"]} & {
        one["dataset"] for one in judged["judged_on"]
    }
