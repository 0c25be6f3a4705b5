"""What a replacement must not do in silence: lose an activation, fix a mode, misplace a scale."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from primitives.carry_over import inner_affine
from primitives.catalog import CATALOG
from primitives.errors import LayerError
from primitives.factory import norm_act_function
from primitives.model_scan import is_evolved
from primitives.placement import Placement, replace_norm_act


def actions(placed: Placement) -> dict[str, str]:
    return {row.module: row.action for row in placed.rows}


def test_an_activation_stays_where_its_norm_stays() -> None:
    class Wide(nn.Module):
        """A LayerNorm over several axes, which no layer can stand for, and one that it can."""

        def __init__(self) -> None:
            super().__init__()
            self.wide, self.bn, self.act = nn.LayerNorm([4, 5, 5]), nn.BatchNorm2d(4), nn.SiLU()

        def forward(self, x: Tensor) -> Tensor:
            return functional.relu(self.wide(x)) + self.act(self.bn(x))

    x = torch.randn(2, 4, 5, 5, generator=torch.manual_seed(0))
    net = Wide()
    placed = replace_norm_act(net, "evonorm-s0", report=None)
    rows = {row.module: (row.action, row.why) for row in placed.rows}
    assert rows["wide"] == ("left", "normalises more than one axis")
    assert rows["relu() [relu]"][0] == "left"
    torch.testing.assert_close(placed.model(x), net.wide(x).relu() + net.bn(x))


class Shared(nn.Module):
    """Cannot be traced; one activation is used in two places, and one norm too."""

    def __init__(self) -> None:
        super().__init__()
        act, norm = nn.ReLU(), nn.BatchNorm2d(4)
        self.one = nn.Sequential(nn.BatchNorm2d(4), act)
        self.two = nn.Sequential(nn.Conv2d(4, 4, 1), act)
        self.three = nn.Sequential(norm, nn.ReLU())
        self.four = nn.Sequential(norm, nn.Conv2d(4, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        return self.four(self.three(self.two(self.one(x))))


def test_a_shared_activation_goes_only_from_the_place_after_the_norm() -> None:
    torch.manual_seed(0)
    net = Shared()
    placed = replace_norm_act(net, "evonorm-s0", report=None)
    assert actions(placed) == {
        "one.0": "replaced", "one.1": "replaced", "two.1": "left",
        "three.0": "left", "three.1": "left",
    }  # fmt: skip
    x = torch.randn(2, 4, 3, 3)
    y = net.two[0](net.one[0](x)).relu()
    torch.testing.assert_close(net.two(net.one(x)), y)
    assert isinstance(net.three[0], nn.BatchNorm2d)
    assert net.three[0] is net.four[0]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_torchs_encoder_calls_the_layer_in_evaluation_mode_too(
    norm_first: bool, padded: bool
) -> None:
    torch.manual_seed(0)
    one = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    net = nn.TransformerEncoder(one, 2, enable_nested_tensor=not norm_first)
    replace_norm_act(net, "tanh(v1 * x) + v0", "norm", report=None)
    net.eval()
    x = 3 * torch.randn(2, 5, 8)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = padded
    with torch.no_grad():
        got = net(x, src_key_padding_mask=mask if padded else None)
        y = x
        for layer in net.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            assert is_evolved(layer.norm1)

            def attend(z: Tensor, layer: nn.TransformerEncoderLayer = layer) -> Tensor:
                return layer.self_attn(z, z, z, key_padding_mask=mask, need_weights=False)[0]

            def feed(z: Tensor, layer: nn.TransformerEncoderLayer = layer) -> Tensor:
                return layer.linear2(layer.linear1(z).relu())

            if norm_first:
                y = y + attend(layer.norm1(y))
                y = y + feed(layer.norm2(y))
            else:
                y = layer.norm1(y + attend(y))
                y = layer.norm2(y + feed(y))
    torch.testing.assert_close(got, y)


class Noisy(nn.Module):
    """What only happens in training: dropout as a function, and a branch of its own."""

    def __init__(self, branch: str) -> None:
        super().__init__()
        self.bn, self.drop, self.branch = nn.BatchNorm2d(4), Stochastic(), branch

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn(x))
        if self.branch == "dropout":
            return functional.dropout(y, 0.5, self.training)
        if self.branch == "number":
            return y * (2.0 if self.training else 1.0)
        if self.branch == "module":
            return self.drop(y)
        return y + 1 if self.training else y


class Stochastic(nn.Module):
    """Stochastic depth as it is usually written."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.5)
        return x * keep


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("branch", ["dropout", "number", "module"])
def test_a_traced_copy_goes_on_following_the_mode(branch: str, first: bool) -> None:
    net = Noisy(branch).train(first)
    net.bn.eval()  # frozen, as people have it for fine-tuning
    placed = replace_norm_act(net, "evonorm-s0", report=None)
    assert placed.traced
    assert not net.bn.training
    x = torch.randn(64, 4, 3, 3, generator=torch.manual_seed(0))
    copies = [placed.model, copy.deepcopy(placed.model), pickled(placed.model)]
    for model in copies:
        for mode in (True, False, True):
            model.train(mode)
            torch.manual_seed(3)
            got = model(x)
            y = model.get_submodule("bn")(x)
            if mode:
                torch.manual_seed(3)
                assert not torch.allclose(got, y)
                net.drop.train()
                y = {
                    "dropout": lambda y: functional.dropout(y, 0.5, True),
                    "number": lambda y: 2 * y,
                    "module": net.drop,
                }[branch](y)
            torch.testing.assert_close(got, y)


def test_a_forward_of_two_ways_is_left_and_said() -> None:
    net = Noisy("way")
    with pytest.raises(LayerError, match="does something else in evaluation mode"):
        replace_norm_act(net, "evonorm-s0", report=None)
    assert isinstance(net.bn, nn.BatchNorm2d)


def pickled(model: nn.Module) -> nn.Module:
    kept = io.BytesIO()
    torch.save(model, kept)
    kept.seek(0)
    loaded: nn.Module = torch.load(kept, weights_only=False)
    return loaded


@pytest.mark.parametrize("name", ["bn-relu", "evonorm-b0"])
def test_models_with_layers_are_saved_whole(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
    replace_norm_act(net, name, report=None)
    net.append(norm_act_function(name)(8))
    x = torch.randn(2, 3, 4, 6, generator=torch.manual_seed(0))
    net(x)
    again = pickled(net.eval())
    assert torch.equal(again(x), net(x))
    assert type(again[1]) is type(net[1])  # type: ignore[index]
    assert again[3].extra_repr() == net[3].extra_repr()  # type: ignore[index, operator, union-attr]
    assert again.state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "inner"),
    [("bn-relu", ("v1", "v0")), ("bn-gelu", ("v1", "v0")), ("frn-tlu", ("v1", "v0")),
     ("batch-channel-norm", ("v1", "v0")), ("rms-silu", ("v1",)),
     ("rep-bn", ()), ("dice", ()), ("crrelu", ()), ("derf", ()), ("dyt", ()), ("swish", ()),
     ("poly-relu", ()), ("poly-norm", ()), ("rms-norm", ()), ("evonorm-s0", ()),
     ("layer-norm", ("v1", "v0"))],
)  # fmt: skip
def test_scale_and_shift_go_inside_only_where_they_mean_that(
    name: str, inner: tuple[str, ...]
) -> None:
    assert inner_affine(CATALOG[name].graph) == inner


def test_rep_bn_keeps_the_shift_at_its_end() -> None:
    norm = nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            tensor.uniform_(0.5, 2.0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), norm).eval()
    x = torch.randn(2, 3, 3, 3, generator=torch.manual_seed(0))
    before = net(x)
    replace_norm_act(net, "rep-bn", "norm", report=None)
    torch.testing.assert_close(net(x), before)


def test_an_activations_own_slope_is_no_scale() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.PReLU(), nn.Conv2d(6, 6, 1), nn.PReLU(6))
    replace_norm_act(net, "swish", "act", report=None)
    for layer in (net[1], net[3]):
        assert layer.weight.tolist() == [1.0] * 6


class OwnRMSNorm(nn.Module):
    """RMSNorm as people write it; ``shift`` as in models whose weight starts at zero."""

    def __init__(self, width: int, shift: float = 0.0) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.rand(width)), 1e-6
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        unit = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return unit * (self.weight + self.shift)


class FrozenNorm2d(nn.Module):
    """Statistics that never move."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(width))
        self.eps = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return x * scale.view(1, -1, 1, 1) + (self.bias - self.running_mean * scale).view(
            1, -1, 1, 1
        )


def test_norms_that_are_no_classes_of_torch_are_replaced_where_that_is_safe() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.shifted = OwnRMSNorm(6), OwnRMSNorm(6, 1.0)
            self.frozen = FrozenNorm2d(6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.shifted(self.plain(x))
            y = functional.layer_norm(y, (6,))
            return self.frozen(y.movedim(-1, 1))

    net = Net()
    weight = net.plain.weight.detach().clone()
    placed = replace_norm_act(net, "rms-norm", "norm", report=None)
    rows = {row.module: (row.action, row.why) for row in placed.rows}
    assert rows["plain"] == ("replaced", "a normalisation")
    assert rows["shifted"][0] == "left"
    assert rows["shifted"][1].startswith("computes something else")
    assert rows["frozen"] == ("left", "its statistics are its own: turn it into a BatchNorm first")
    functional_row = rows["layer_norm() [layer_norm]"]
    assert functional_row == ("replaced", "a normalisation")
    layer = net.plain
    assert is_evolved(layer)
    assert (layer.layout, layer.eps) == ("nhwc", 1e-6)
    x = torch.randn(2, 3, 5, 6, generator=torch.manual_seed(0))
    unit = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(layer(x), unit * weight)


@pytest.mark.parametrize(
    "act",
    [nn.Tanh(), nn.Softsign(), nn.LogSigmoid(), nn.Softshrink(), nn.Hardshrink(), nn.Tanhshrink(),
     nn.Hardtanh(), nn.Threshold(0.1, 0.0), nn.CELU(), nn.PReLU()],
    ids=lambda act: type(act).__name__,
)  # fmt: skip
def test_every_activation_of_torch_goes_with_its_norm(act: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), act)
    placed = replace_norm_act(net, "evonorm-s0", report=None)
    assert actions(placed) == {"1": "replaced", "2": "replaced"}


class OwnActivation(nn.Module):
    """A leaky ReLU under a name of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.1 * x)


class Join(nn.Module):
    """Without parameters, and no activation: it has two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + 2 * y


class Followed(nn.Module):
    """A norm with an activation, and one with something else after it."""

    def __init__(self, after: Callable[..., Any]) -> None:
        super().__init__()
        self.known = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
        self.bn, self.after = nn.BatchNorm2d(4), after

    def forward(self, x: Tensor) -> Tensor:
        y = self.known(x)
        value: Tensor = (
            self.after(self.bn(y), y) if isinstance(self.after, Join) else self.after(self.bn(y))
        )
        return value


def beside(x: Tensor) -> Tensor:
    """An activation that is not all that follows."""
    return x + functional.relu(x)


@pytest.mark.parametrize(
    ("after", "why"),
    [(OwnActivation(), "may be its activation: after (OwnActivation)"),
     (nn.Sigmoid(), "may be its activation: after (Sigmoid)"),
     (nn.Softmax(1), "may be its activation: after (Softmax)"),
     (torch.sigmoid, "may be its activation: sigmoid()"),
     (beside, "besides others an activation follows")],
    ids=["own", "sigmoid", "softmax", "function", "beside"],
)  # fmt: skip
def test_a_norm_stays_where_what_follows_may_be_its_activation(
    after: Callable[..., Any], why: str
) -> None:
    placed = replace_norm_act(Followed(after), "evonorm-s0", report=None)
    assert actions(placed)["bn"] == "left"
    (row,) = (row for row in placed.rows if row.module == "bn")
    assert why in row.why


@pytest.mark.parametrize(
    "after",
    [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Dropout(), nn.Flatten(), nn.Conv2d(4, 4, 1),
     nn.ZeroPad2d(1), nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.GroupNorm(2, 4), Join()],
    ids=lambda after: type(after).__name__,
)  # fmt: skip
def test_a_norm_without_an_activation_keeps_its_affine(after: nn.Module) -> None:
    placed = replace_norm_act(Followed(after), "evonorm-s0", report=None)
    assert actions(placed)["bn"] == "affine"
