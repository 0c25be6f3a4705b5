"""Training: resumable, repeatable from its seed alone, and scored without a trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from evosearch.config import Anchor, Task
from evosearch.errors import ConfigError
from evosearch.records import Run
from workers import datasets
from workers.inline import one_thread
from workers.training import Training, batch_order


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data():
    return datasets.load("polarity-digits")


def bn_relu(channels):
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def make(data, layer=bn_relu, *, anchor="resnet", seed=0, lr=0.2, **task):
    settings = {"anchors": (Anchor(name=anchor),), "steps": 24, "batch_size": 32, **task}
    return Training(Run(anchor=anchor, seed=seed, learning_rate=lr), Task(**settings), layer, data)


def parameters(training):
    return torch.cat([p.detach().flatten() for p in training.network.parameters()])


def test_same_seed_repeats_bit_for_bit_and_leaves_global_randomness_alone(data):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = make(data)
    first.advance(24)
    score = first.score("select")
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(6)
    second = make(data)
    second.advance(24)
    assert torch.equal(parameters(first), parameters(second))
    assert first.curve == second.curve
    assert score == second.score("select")
    other = make(data, seed=1)
    assert not torch.equal(parameters(make(data)), parameters(other))


def test_stopping_and_scoring_on_the_way_changes_nothing(data):
    whole = make(data)
    whole.advance(24)
    parts = make(data)
    done = []
    for step in (5, 5, 11, 24, 99):
        done.append(parts.advance(step))
        parts.score("select")
    assert done == [5, 0, 6, 13, 0]
    assert parts.step == 24
    assert torch.equal(parameters(whole), parameters(parts))
    assert whole.curve == parts.curve
    assert whole.score("select") == parts.score("select")


def test_every_layer_sees_the_same_weights_and_batches(data):
    one, other = make(data), make(data, lambda channels: nn.GroupNorm(2, channels))
    weights = [
        [m.weight for m in training.network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        for training in (one, other)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    for step in (0, 7, 23):
        assert torch.equal(one.batch(step)[0], other.batch(step)[0])
    assert not torch.equal(one.batch(0)[0], one.batch(1)[0])


def test_each_epoch_shows_every_row_once():
    order = batch_order(rows=10, batch_size=4, steps=5, seed=1)
    assert order.shape == (5, 4)
    epochs = order.flatten().view(2, 10)
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(10))] * 2
    assert not torch.equal(epochs[0], epochs[1])


def test_weight_decay_spares_layers_and_biases(data):
    class Vectors(nn.Module):
        """Two trainable vectors, one of them in broadcast shape."""

        def __init__(self, channels):
            super().__init__()
            self.v = nn.Parameter(torch.ones(1, channels, 1, 1))
            self.weight = nn.Parameter(torch.ones(channels))

        def forward(self, x):
            return torch.relu(x) * 0.0 + 0.0 * self.v + 0.0 * self.weight[:, None, None]

    # The layer's output is constant, so no gradient but the classifier's bias is left.
    training = make(data, Vectors, weight_decay=0.1, momentum=0.0, nesterov=False)
    stem = training.network.stem.weight.detach().clone()
    training.advance(3)
    for module in training.network.modules():
        if isinstance(module, Vectors):
            assert torch.equal(module.v, torch.ones_like(module.v))
            assert torch.equal(module.weight, torch.ones_like(module.weight))
    shrunk = (training.network.stem.weight / stem).detach()
    assert shrunk.max().item() < 0.999
    assert torch.allclose(shrunk, shrunk.flatten()[0].expand_as(shrunk), rtol=1e-5)


@pytest.mark.parametrize("momentum", [(0.9, True), (0.9, False), (0.0, False)])
def test_steps_equal_torchs_own_optimizer_with_cosine(data, momentum):
    settings = {"momentum": momentum[0], "nesterov": momentum[1]}
    training = make(data, steps=3, weight_decay=0.01, **settings)
    twin = make(data, steps=3)
    training.advance(3)
    decayed, rest = [], []
    kinds = (nn.Conv2d, nn.Linear)
    for module in twin.network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = name == "weight" and isinstance(module, kinds)
            (decayed if is_weight else rest).append(nn.Parameter(parameter.detach().clone()))
            setattr(module, name, (decayed if is_weight else rest)[-1])
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.01}, {"params": rest}], lr=1.0, **settings
    )
    for step, rate in enumerate((0.2, 0.15, 0.05)):  # .1 * (1 + cos(pi * step / 3))
        x, y = twin.batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin.network(x), y).backward()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    assert torch.allclose(parameters(training), parameters(twin), rtol=1e-4, atol=1e-5)


def test_constant_schedule_keeps_the_rate(data):
    training = make(data, schedule="constant")
    training.advance(20)
    assert training._learning_rate() == 0.2


def test_non_finite_loss_ends_the_training_at_the_next_look(data):
    class Exploding(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return torch.exp(x * 1e3)

    training = make(data, Exploding)
    assert training.advance(24) <= 3  # of 24 steps, the first look is after three
    assert training.diverged
    assert training.advance(24) == 0
    early = make(data, Exploding)
    assert early.advance(2) == 2
    assert early.diverged, "the end of a stage is a look as well"


def test_moving_averages_are_reestimated_over_training_batches(data):
    training = make(data, nn.BatchNorm2d)
    norm = training.network.body[0].layer1
    before = norm.running_mean.clone()
    seen = []
    norm.register_forward_hook(
        lambda m, args, out: None if m.training else seen.append(m.running_mean.clone())
    )
    training.score("select")
    stem = training.network.stem
    means = [stem(training.batch(step)[0]).mean(dim=(0, 2, 3)) for step in range(10)]
    expected = torch.stack(means).mean(dim=0)
    assert torch.allclose(seen[0], expected, atol=1e-5)
    assert torch.equal(norm.running_mean, before)
    assert norm.momentum == 0.1


def test_moving_statistics_are_used_as_they_stand(data):
    moving, anew = make(data, statistics="moving"), make(data)
    for training in (moving, anew):
        training.advance(6)
    # After 6 steps averages that started at 0 and 1 are far from what they average.
    assert moving.score("select").accuracy != anew.score("select").accuracy


def test_final_is_scored_image_by_image(data):
    training = make(data)
    training.advance(24)
    score = training.score("final")
    assert len(score.correct) == 697
    digits = [int(digit) for digit in score.correct]
    assert max(digits) <= 4
    assert sum(digits) / (4 * 697) == pytest.approx(score.accuracy)


def test_augmentation_draws_anew_for_each_step_and_repeats(data):
    def noise(x, generator):
        return x + torch.randn(x.shape, generator=generator)

    training = make(replace(data, augment=noise))
    again = make(replace(data, augment=noise))
    plain = make(data)
    assert torch.equal(training.batch(2)[0], again.batch(2)[0])
    first, second = (training.batch(step)[0] - plain.batch(step)[0] for step in (0, 1))
    assert not torch.allclose(first, second)


def test_curve_has_eight_points_that_average_the_loss(data):
    training = make(data)
    training.advance(24)
    assert [step for step, _ in training.curve] == list(range(3, 25, 3))
    mean = sum(loss for _, loss in training.curve) / 8
    assert mean == pytest.approx(training._losses.mean().item(), rel=1e-5)
    assert training.curve[-1][1] < training.curve[0][1]


def test_unknown_anchor_of_a_run_is_refused(data):
    task = Task(anchors=(Anchor(name="resnet"),))
    with pytest.raises(ConfigError, match="none of the task's"):
        Training(Run(anchor="vgg", seed=0, learning_rate=0.1), task, bn_relu, data)
