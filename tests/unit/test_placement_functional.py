"""Normalisations called as functions: replaced with what they hold, or left with a reason."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import batch_norm, layer_norm

from primitives.errors import LayerError
from primitives.model_scan import is_evolved
from primitives.placement import Placement, replace_norm_act


class Norm(nn.Module):
    """Vectors of four channels, none of them the initial ones, and a call that takes them."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(5)
        self.scale, self.shift = (nn.Parameter(torch.rand(4, generator=rng) + 0.5) for _ in "ab")
        self.register_buffer("mean", torch.rand(4, generator=rng))
        self.register_buffer("var", torch.rand(4, generator=rng) + 0.5)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


class Net(nn.Module):
    """Two convolutions with the call and an activation between them."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor], act: Any = functional.relu) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.norm, self.act = Norm(call), act

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.two(self.act(self.norm(self.one(x))))
        return value


def by_statistics(own: Any, x: Tensor) -> Tensor:
    return functional.batch_norm(
        x, own.mean, own.var, own.scale, own.shift, training=own.training, momentum=0.2, eps=1e-3
    )


def by_name(own: Any, x: Tensor) -> Tensor:
    return batch_norm(x, own.mean, own.var, own.scale, own.shift, own.training, 0.2, 1e-3)


def by_torch(own: Any, x: Tensor) -> Tensor:
    return torch.batch_norm(
        x, own.scale, own.shift, own.mean, own.var, own.training, 0.2, 1e-3, False
    )


def plain(own: Any, x: Tensor) -> Tensor:
    return batch_norm(x, own.mean, own.var, training=own.training, momentum=0.2, eps=1e-3)


def of_sample(own: Any, x: Tensor) -> Tensor:
    return functional.group_norm(x, 1, own.scale, own.shift, 1e-3)


def of_group(own: Any, x: Tensor) -> Tensor:
    return torch.group_norm(x, 2, own.scale, own.shift, 1e-3)


def of_instance(own: Any, x: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=own.scale, bias=own.shift, eps=1e-3)


def of_instance_bare(own: Any, x: Tensor) -> Tensor:
    return functional.instance_norm(x, eps=1e-3)


def of_token(own: Any, x: Tensor) -> Tensor:
    y = layer_norm(x.movedim(1, -1), own.scale.shape, own.scale, own.shift, 1e-3)
    return y.movedim(-1, 1)


def of_token_rms(own: Any, x: Tensor) -> Tensor:
    return functional.rms_norm(x.movedim(1, -1), [4], own.scale, eps=1e-3).movedim(-1, 1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def rows_of(placed: Placement) -> dict[str, tuple[str, str]]:
    return {row.module: (row.action, row.why) for row in placed.rows}


def stepped(net: nn.Module, x: Tensor) -> list[Tensor]:
    """The value in evaluation mode, then value and input's gradient in training mode."""
    x = x.clone().requires_grad_()
    evaluated = net.eval()(x).detach()
    value = net.train()(x)
    value.square().sum().backward()
    assert x.grad is not None
    return [evaluated, value.detach(), x.grad]


CASES: list[tuple[Callable[[Any, Tensor], Tensor], str, str, dict[str, Any]]] = [
    (by_statistics, "norm_act", "bn-relu", {}),
    (by_name, "norm_act", "bn-relu", {}),
    (by_torch, "norm_act", "bn-relu", {}),
    (plain, "norm_act", "bn-relu", {}),
    (of_sample, "norm_act", "ln-relu", {}),
    (of_group, "norm_act", "gn-relu", {"groups": 2}),
    (of_instance, "norm_act", "in-relu", {}),
    (of_instance_bare, "norm_act", "in-relu", {}),
    (of_token, "norm", "layer-norm", {}),
    (of_token_rms, "norm", "rms-norm", {}),
]


@pytest.mark.parametrize(("call", "slot", "layer", "more"), CASES, ids=lambda one: getattr(
    one, "__name__", None))  # fmt: skip
def test_a_layer_equal_to_the_call_computes_what_the_model_did(
    call: Callable[[Any, Tensor], Tensor], slot: Any, layer: str, more: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    net = Net(call)
    twin = copy.deepcopy(net)
    names = list(net.state_dict())
    placed = replace_norm_act(net, layer, slot, report=None, **more)
    assert placed.traced
    assert placed.count("replaced") == (2 if slot == "norm_act" else 1)
    assert list(net.state_dict()) == names
    (made,) = (one for one in placed.model.modules() if is_evolved(one))
    assert (made.num_features, made.eps) == (4, 1e-3)
    x = normal(3, 3, 4, 5)
    for got, meant in zip(stepped(placed.model, x), stepped(twin, x), strict=True):
        torch.testing.assert_close(got, meant, rtol=1e-4, atol=1e-5)
    # The model's own vectors went with the call: every parameter of the copy has a gradient.
    assert all(one.grad is not None for one in placed.model.parameters() if one is not made.weight)
    if "mean" in call.__code__.co_names:
        # torch's running variance is of a sample, ours of the batch: they part by this much.
        ours, theirs = made.state_dict(), twin.norm.state_dict()
        torch.testing.assert_close(ours["running_mean_4"], theirs["mean"])
        torch.testing.assert_close(ours["running_variance_7"], theirs["var"], rtol=0.02, atol=0)


def test_copies_pickles_and_states_keep_the_layer() -> None:
    placed = replace_norm_act(Net(by_statistics), "evonorm-b0", report=None)
    x = normal(3, 3, 4, 5)
    placed.model(x)
    twin = copy.deepcopy(placed.model)
    other = replace_norm_act(Net(by_statistics), "evonorm-b0", report=None).model
    assert not torch.allclose(other(x), placed.model.eval()(x))
    other.load_state_dict(placed.model.state_dict())
    for model in (twin, other):
        torch.testing.assert_close(model.eval()(x), placed.model(x), rtol=0, atol=0)
    assert set(placed.model.state_dict()) == {
        *(f"{conv}.{name}" for conv in ("one", "two") for name in ("weight", "bias")),
        *(f"evolved_norm_0.{name}" for name in (
            "weight", "bias", "v1", "running_variance_4", "num_batches_tracked")),
    }  # fmt: skip


def test_the_given_model_goes_on_as_it_was() -> None:
    net = Net(by_statistics, nn.ReLU())
    x = normal(3, 3, 4, 5)
    before = copy.deepcopy(net)(x)
    placed = replace_norm_act(net, "evonorm-s0", report=None)
    assert isinstance(net.act, nn.ReLU)
    torch.testing.assert_close(net(x), before)
    assert rows_of(placed)["act"] == ("replaced", "part of the layer before it")


def test_without_an_activation_the_affine_stays() -> None:
    torch.manual_seed(0)
    net = Net(by_statistics, lambda x: x)
    placed = replace_norm_act(
        nn.Sequential(net, nn.BatchNorm2d(2), nn.ReLU()), "evonorm-s0", report=None
    )
    (row,) = (row for row in placed.rows if row.kind == "function")
    assert (row.action, row.why) == ("affine", "no activation follows")
    layer = placed.model.evolved_norm_0
    assert not layer.apply_act  # type: ignore[union-attr]
    torch.testing.assert_close(layer.weight, net.norm.scale)  # type: ignore[union-attr]


class Twice(nn.Module):
    """One module with a functional norm, called twice; each time an activation follows, or not."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.norm, self.both = Norm(by_statistics), both

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.norm(x))
        y = self.norm(y + x)
        return functional.silu(y) if self.both else y.mean((2, 3))


def test_a_module_called_twice_becomes_one_layer() -> None:
    placed = replace_norm_act(Twice(True), "bn-silu", report=None)
    rows = rows_of(placed)
    assert rows["batch_norm() [batch_norm]"] == ("replaced", "with the activation after it")
    assert rows["batch_norm() [batch_norm_1]"] == (
        "replaced", "the layer of batch_norm() [batch_norm]",
    )  # fmt: skip
    assert sum(is_evolved(one) for one in placed.model.modules()) == 1
    x = normal(3, 4, 4, 5)
    for got, meant in zip(stepped(placed.model, x), stepped(Twice(True), x), strict=True):
        torch.testing.assert_close(got, meant, rtol=1e-3, atol=1e-4)
    with pytest.raises(LayerError, match="follows some of its calls only"):
        replace_norm_act(Twice(False), "bn-silu", report=None)


class Held(nn.Module):
    """Reads the vectors of a BatchNorm that is never called, or is called elsewhere too."""

    def __init__(self, called: bool) -> None:
        super().__init__()
        self.bn, self.called = nn.BatchNorm2d(4), called

    def forward(self, x: Tensor) -> Tensor:
        bn = self.bn
        y = functional.batch_norm(
            x, bn.running_mean, bn.running_var, bn.weight, bn.bias, self.training
        )
        return self.bn(y) if self.called else y


def test_vectors_of_a_held_module_go_with_the_call() -> None:
    x = normal(3, 4, 4, 5)
    net = Held(False)
    placed = replace_norm_act(net, "bn-relu", "norm", report=None)
    assert rows_of(placed) == {
        "bn": ("left", "its vectors are those of batch_norm() [batch_norm]"),
        "batch_norm() [batch_norm]": ("replaced", "a normalisation"),
    }
    torch.testing.assert_close(placed.model(x), Held(False)(x).relu())
    with pytest.raises(LayerError, match="all left"):
        replace_norm_act(Held(True), "bn-relu", "norm", report=None)


def frozen(own: Any, x: Tensor) -> Tensor:
    return batch_norm(x, own.mean, own.var, own.scale, own.shift)


def by_choice(own: Any, x: Tensor) -> Tensor:
    return batch_norm(x, own.mean, own.var, training=x.shape[0] > 1)


def conditional(own: Any, x: Tensor) -> Tensor:
    return batch_norm(x, own.mean, own.var, own.scale + 1, own.shift, own.training)


def moved(own: Any, x: Tensor) -> Tensor:
    return batch_norm(x, own.mean * 2, own.var, own.scale, own.shift, own.training)


def tied(own: Any, x: Tensor) -> Tensor:
    return by_name(own, x) * own.scale.view(1, -1, 1, 1)


def partly_tied(own: Any, x: Tensor) -> Tensor:
    return of_sample(own, by_name(own, x))


def wide(own: Any, x: Tensor) -> Tensor:
    return layer_norm(x, [4, 4, 5])


def unsaid(own: Any, x: Tensor) -> Tensor:
    return functional.instance_norm(x + 1)


def unsaid_last(own: Any, x: Tensor) -> Tensor:
    return layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


def packed(own: Any, x: Tensor) -> Tensor:
    return torch.ops.aten.group_norm(x, 2)  # type: ignore[no-any-return]


def ungraded(own: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return by_name(own, x)


def cast(own: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return by_name(own, x)


def uncast(own: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return by_name(own, x)


def two_ways(own: Any, x: Tensor) -> Tensor:
    return by_name(own, x) if own.training else by_name(own, x) + 1


@pytest.mark.parametrize(
    ("call", "why"),
    [(frozen, "its statistics never move"),
     (by_choice, "known only when it runs"),
     (conditional, "its weight is computed when it runs"),
     (moved, "its running_mean is computed when it runs"),
     (tied, "its weight (0.norm.scale) is used elsewhere too"),
     (partly_tied, "its weight (0.norm.scale) is used elsewhere too"),
     (wide, "normalises more than one axis"),
     (unsaid, "its number of channels is unknown"),
     (unsaid_last, "its number of channels is unknown"),
     (packed, "no function of torch.nn.functional"),
     (ungraded, "the forward of 0.norm switches gradients or autocast"),
     (cast, "the forward of 0.norm switches gradients or autocast"),
     (uncast, "the forward of 0.norm switches gradients or autocast"),
     (two_ways, "the forward of 0.norm does something else in evaluation mode")],
    ids=lambda one: getattr(one, "__name__", ""),
)  # fmt: skip
@pytest.mark.parametrize("slot", ["norm_act", "norm"])
def test_what_cannot_be_known_stays_and_is_said(
    call: Callable[[Any, Tensor], Tensor], why: str, slot: Any
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Net(call), nn.BatchNorm2d(2), nn.ReLU())
    twin = copy.deepcopy(net)
    placed = replace_norm_act(net, "bn-relu", slot, report=None)
    reasons = [row.why for row in placed.rows if "_norm() [" in row.module]
    assert reasons
    assert all(why in reason for reason in reasons)
    assert all(row.action == "left" for row in placed.rows if "norm() [" in row.module)
    x = normal(3, 3, 4, 5)
    meant = twin(x) if slot == "norm_act" else twin[1](twin[0](x)).relu()
    torch.testing.assert_close(placed.model(x), meant, rtol=1e-4, atol=1e-5)


def test_a_norm_that_always_takes_batch_statistics_says_what_changes() -> None:
    def always(own: Any, x: Tensor) -> Tensor:
        return batch_norm(x, own.mean, own.var, own.scale, own.shift, True)

    placed = replace_norm_act(Net(always), "bn-relu", report=None)
    (row,) = (row for row in placed.rows if row.module.startswith("batch_norm"))
    assert row.action == "replaced"
    assert row.why.endswith("; it took batch statistics in evaluation mode too")


def test_the_act_slot_leaves_functional_norms() -> None:
    net = nn.Sequential(Net(by_name), nn.ReLU())
    placed = replace_norm_act(net, "swish", "act", report=None)
    assert rows_of(placed)["batch_norm() [batch_norm]"] == (
        "left", "a normalisation: a norm or norm_act slot",
    )  # fmt: skip


def test_a_trace_counts_no_batches() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = Norm(by_name)
            self.register_buffer("count", torch.tensor(0))

        def forward(self, x: Tensor) -> Tensor:
            self.count.add_(1)  # type: ignore[union-attr, operator]
            return self.norm(x).relu()  # type: ignore[no-any-return]

    net = Counting()
    replace_norm_act(net, "evonorm-s0", report=None)
    assert net.count == 0


class Counted(nn.Module):
    """As torch's own module: without momentum the average of all batches."""

    def __init__(self, momentum: float | None, every: bool = False) -> None:
        super().__init__()
        self.momentum, self.every = momentum, every
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        share = 0.0 if self.momentum is None else self.momentum
        if self.training:
            count: Any = self.num_batches_tracked
            count.add_(1)
            if self.momentum is None or self.every:
                share = 1.0 / float(count)
        mean: Any = self.mean
        return batch_norm(x, mean, self.var, training=self.training, momentum=share).relu()  # type: ignore[arg-type]


@pytest.mark.parametrize("momentum", [0.3, None])
def test_averages_go_on_as_the_module_has_them(momentum: float | None) -> None:
    net = Counted(momentum)
    x = normal(20, 4, 3, 3).view(5, 4, 4, 3, 3)
    for batch in x[:3]:
        net(batch)
    placed = replace_norm_act(net, "bn-relu", report=None)
    for batch in x[3:]:
        net(batch)
        placed.model(batch)
    state = placed.model.state_dict()
    torch.testing.assert_close(state["evolved_norm_0.running_mean_4"], net.mean)
    if momentum is None:
        assert state["evolved_norm_0.num_batches_tracked"] == 5


def test_a_momentum_that_may_follow_a_count_stays() -> None:
    with pytest.raises(LayerError, match="its momentum may follow a count"):
        replace_norm_act(Counted(0.3, every=True), "bn-relu", report=None)


class Bare(nn.Module):
    """Token norms without vectors, whose shapes are asked of their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        y = functional.gelu(layer_norm(y, y.shape[-1:]))
        return functional.rms_norm(y, (y.size(-1),), eps=1e-5)


def test_channels_are_those_of_what_comes_before() -> None:
    torch.manual_seed(0)
    net = Bare()
    placed = replace_norm_act(net, "layer-norm", "norm", report=None)
    assert [row.action for row in placed.rows] == ["replaced", "replaced", "left"]
    assert len([one for one in placed.model.modules() if is_evolved(one)]) == 2
    x = normal(2, 5, 3)
    y = functional.gelu(layer_norm(net.linear(x), (6,)))
    torch.testing.assert_close(placed.model(x), layer_norm(y, (6,)), rtol=1e-4, atol=1e-5)


def test_a_frozen_part_stays_in_evaluation_mode() -> None:
    net = Net(by_name)
    net.norm.eval()
    placed = replace_norm_act(net, "bn-relu", report=None)
    assert placed.model.training
    assert not placed.model.evolved_norm_0.training  # type: ignore[union-attr]
