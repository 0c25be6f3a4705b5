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
from workers.finite import NowAndThen
from workers.inline import one_thread
from workers.own_batches import batch_order
from workers.training import Training


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


def test_non_finite_loss_ends_the_training_at_once(data):
    class Exploding(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return torch.exp(x * 1e3)

    training = make(data, Exploding)
    assert training.advance(24) == 1
    assert training.diverged
    assert training.advance(24) == 0


def test_the_end_of_a_stage_is_a_look_as_well(data):
    training = make(data)
    training._watch = NowAndThen(lambda flag: (flag, lambda: False))  # as on a GPU that is behind
    loss = training.loss
    training.loss = lambda logits, y: loss(logits, y) * torch.nan
    assert training.advance(2) == 2
    assert training.diverged


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


def test_adamw_equals_torchs_own(data):
    settings = {"steps": 3, "weight_decay": 0.01, "schedule": "constant", "second_momentum": 0.95}
    anchors = (Anchor(name="resnet", optimizer="adamw", rate_scale=0.01),)
    training, twin = make(data, anchors=anchors, **settings), make(data, steps=3)
    training.advance(3)
    kinds = (nn.Conv2d, nn.Linear)
    decayed = [m.weight for m in twin.network.modules() if isinstance(m, kinds)]
    chosen = {id(parameter) for parameter in decayed}
    rest = [p for p in twin.network.parameters() if id(p) not in chosen]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.002, betas=(0.9, 0.95), weight_decay=0.01)
    for step in range(3):
        x, y = twin.batch(step)
        optimizer.zero_grad(set_to_none=False)
        nn.functional.cross_entropy(twin.network(x), y).backward()
        optimizer.step()
    assert torch.allclose(parameters(training), parameters(twin), rtol=1e-3, atol=2e-5)


def test_warm_up_rises_to_the_rate(data):
    training = make(data, schedule="constant", warm_up_steps=4)
    rates = []
    for step in range(6):
        training.advance(step)
        rates.append(training._learning_rate())
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_crops_come_from_the_runs_seed_and_evaluation_sees_whole_images(data):
    from evosearch.config import Augmentation

    settings = {"augmentation": Augmentation(crop=6, flip=True)}
    training, again, other = make(data, **settings), make(data, **settings), make(data, seed=1)
    assert training.batch(3)[0].shape == (32, 1, 6, 6)
    assert torch.equal(training.batch(3)[0], again.batch(3)[0])
    assert other.batch(3)[0].shape == (32, 1, 8, 8)
    seen = []
    training.network.stem.register_forward_hook(lambda m, args, out: seen.append(args[0].shape[-1]))
    training.advance(1)
    training.score("select")
    assert seen == [6] * 11 + [8]  # a step, ten batches for the averages, select


def test_select_rows_scores_the_first_rows_only(data):
    training = make(data, select_rows=100)
    assert len(training.score("select").correct) == 100
    assert len(training.score("final").correct) == 697


def test_bfloat16_trains_as_well_as_float32_on_any_device(data):
    exact, rough = make(data, steps=60), make(data, steps=60, precision="bfloat16")
    kinds = set()
    rough.network.stem.register_forward_hook(lambda m, args, out: kinds.add(out.dtype))
    for training in (exact, rough):
        training.advance(60)
    assert kinds == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in rough.network.parameters())
    difference = exact.score("select").accuracy - rough.score("select").accuracy
    assert abs(difference) < 0.1
    assert not torch.equal(parameters(exact), parameters(rough))


def test_channels_last_and_scaled_gradients_train_the_same(data):
    from workers.optimizers import FlatParameters, Guarded, Sgd

    # A small rate, for rounding grows quickly under batch statistics at a large one.
    plain, other, still = (make(data, lr=0.002) for _ in range(3))
    flat = FlatParameters(other.network, 1e-4, scaled=True, channels_last=True)
    assert flat.scale is not None
    other.flat = flat
    other.optimizer = Guarded(Sgd(flat, momentum=0.9, nesterov=True), flat.scale)
    for training in (plain, other):
        training.advance(2)
    weight = other.network.body[0].conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(parameters(plain), parameters(other), rtol=1e-3, atol=1e-4)
    assert (parameters(plain) - parameters(still)).abs().max() > 2e-3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_whose_float16_gradient_overflows_is_left_out(data, optimizer):
    from workers import optimizers

    training = make(
        data, precision="float16", anchors=(Anchor(name="resnet", optimizer=optimizer),)
    )
    scale = training.flat.scale
    vectors = [one.clone() for one in training.optimizer.state[:-2]]
    gradient = training.flat.gradients
    gradient.fill_(1.0)[3] = torch.inf
    training.optimizer.apply(gradient, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(vectors, training.optimizer.state, strict=False))
    assert scale.value.item() == optimizers.FLOAT16_SCALE / 2
    for _ in range(optimizers.CLEAN_STEPS):
        training.optimizer.apply(gradient.fill_(1e-3), 1e-6)
    assert scale.value.item() == optimizers.FLOAT16_SCALE
    assert all(one.isfinite().all() for one in training.optimizer.state)
    assert not torch.equal(vectors[0], training.optimizer.state[0])
    again = make(data, precision="float16",
                 anchors=(Anchor(name="resnet", optimizer=optimizer),))  # fmt: skip
    again.restore(training.state())
    assert again.flat.scale.value.item() == optimizers.FLOAT16_SCALE


def test_text_is_scored_in_bits_per_character():
    from workers.datasets import Dataset, SplitData

    rows = (torch.arange(400 * 17) % 4).to(torch.uint8).view(400, 17)
    split = SplitData(rows[:, :-1], rows[:, 1:], torch.arange(400))
    text = Dataset("count", 4, split, split, split, kind="text")
    anchors = (Anchor(name="char-transformer", forbids=("batch", "positions")),)

    def layer(channels):
        return nn.GroupNorm(1, channels) if channels < 0 else nn.Identity()

    training = make(text, layer, anchor="char-transformer", anchors=anchors, steps=40, lr=0.4)
    assert training.worst == -2.0
    assert training.score("select").accuracy == pytest.approx(-2.0, abs=0.2)
    training.advance(40)
    assert -0.5 < training.score("select").accuracy < 0.0
    assert training.score("final").correct == ""


def test_anchor_and_data_must_fit(data):
    anchors = (Anchor(name="char-transformer", forbids=("batch", "positions")),)
    with pytest.raises(ConfigError, match="kind text"):
        make(data, anchor="char-transformer", anchors=anchors)
    from evosearch.config import Augmentation

    anchors = (Anchor(name="mixer", slot="norm"),)
    with pytest.raises(ConfigError, match="one size"):
        make(data, anchor="mixer", anchors=anchors, augmentation=Augmentation(crop=6))
