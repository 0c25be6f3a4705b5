"""Layers in other people's models: what is placed, what keeps its affine, what is left and said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn import functional

from primitives.catalog import CATALOG
from primitives.errors import LayerError
from primitives.factory import activations_left, norm_act_function, synchronise_batch_statistics
from primitives.model_scan import is_evolved
from primitives.module import build_layer
from primitives.placement import Placement, replace_norm_act


class Block(nn.Module):
    """A residual block as people write it: one shared ReLU, used functionally and as a module."""

    def __init__(self, functional_act: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.functional_act = nn.ReLU(), functional_act

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        y = functional.relu(y) if self.functional_act else self.relu(y)
        y = self.bn2(self.conv2(y)) + x
        return self.relu(y)


def actions(placed: Placement) -> dict[str, str]:
    return {row.module: row.action for row in placed.rows}


def test_shared_and_functional_activations_go_where_the_layer_took_their_part() -> None:
    x = torch.randn(2, 4, 5, 5, generator=torch.manual_seed(0))
    for functional_act in (False, True):
        torch.manual_seed(1)
        block = Block(functional_act)
        placed = replace_norm_act(block, "evonorm-s0", report=None)
        own = {"bn1": "replaced", "bn2": "affine"}
        assert own.items() <= actions(placed).items()
        # The same ReLU after the addition stays, so the copy is a traced one.
        assert placed.traced
        assert [row.action for row in placed.rows if "relu" in row.module].count("left") == 1
        assert isinstance(block.bn1, nn.Module)
        assert is_evolved(block.bn1)
        y = block.bn1(block.conv1(x))
        y = (block.bn2(block.conv2(y)) + x).relu()
        torch.testing.assert_close(placed.model(x), y)


def test_scale_shift_and_running_statistics_are_kept() -> None:
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            tensor.uniform_(0.5, 2.0)
    x = torch.randn(3, 4, 2, 2, generator=torch.manual_seed(0))
    net = nn.Sequential(norm, nn.ReLU()).eval()
    before = net(x)
    placed = replace_norm_act(net, "bn-relu", report=None)
    assert not placed.traced
    assert isinstance(net[1], nn.Identity)
    torch.testing.assert_close(net(x), before)
    assert not net[0].training
    other = nn.Sequential(norm, nn.ReLU())
    replace_norm_act(other, "evonorm-b0", report=None)
    state = other[0].state_dict()
    torch.testing.assert_close(state["weight"], norm.weight)
    torch.testing.assert_close(state["running_variance_4"], norm.running_var)
    squared = nn.Sequential(norm, nn.ReLU())
    replace_norm_act(squared, "x / rms_batch(x)", report=None)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean_square = norm.running_mean**2 + norm.running_var
    torch.testing.assert_close(squared[0].state_dict()["running_mean_square_4"], mean_square)


def test_averages_without_momentum_keep_their_weight() -> None:
    x = torch.randn(6, 5, 4, 3, 3, generator=torch.manual_seed(0))
    norm = nn.BatchNorm2d(4, momentum=None)
    for batch in x[:5]:
        norm(batch)
    net = nn.Sequential(norm, nn.ReLU())
    replace_norm_act(net, "bn-relu", report=None)
    assert norm.running_var is not None
    variance = (5 * norm.running_var + x[5].var((0, 2, 3), correction=0)) / 6
    net(x[5])
    norm(x[5])
    state = net[0].state_dict()
    assert state["num_batches_tracked"] == 6
    torch.testing.assert_close(state["running_mean_4"], norm.running_mean)
    torch.testing.assert_close(state["running_variance_7"], variance)
    # A moment of something else starts anew, and must not weigh as much.
    other = nn.Sequential(norm, nn.ReLU())
    replace_norm_act(other, "x / std_batch(x) + mean_batch(tanh(x))", report=None)
    assert other[0].state_dict()["num_batches_tracked"] == 0


@pytest.mark.parametrize("what", ["batch", "layer", "group", "with activation"])
def test_a_model_that_is_one_normalisation_becomes_the_layer(what: str) -> None:
    norm = {
        "batch": nn.BatchNorm2d(8), "layer": nn.LayerNorm(8), "group": nn.GroupNorm(2, 8),
        "with activation": NormAct(8),
    }[what]  # fmt: skip
    slot: Any = "norm_act" if what == "with activation" else "norm"
    placed = replace_norm_act(norm.eval(), "bn-relu", slot, report=None)
    assert [(row.module, row.action) for row in placed.rows] == [("", "replaced")]
    assert is_evolved(placed.model)
    assert not placed.model.training
    assert not placed.traced
    assert placed.model.layout == ("nhwc" if what == "layer" else "nchw")


def test_a_transformers_layer_norm_is_a_norm_slot() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU())
    with pytest.raises(LayerError, match=r"no place .* a LayerNorm is a norm slot"):
        replace_norm_act(net, "evonorm-s0", report=None)
    placed = replace_norm_act(net, "tanh(v1 * x) + v0", "norm", report=None)
    assert actions(placed) == {"1": "replaced", "3": "left"}
    assert net(torch.randn(2, 5, 3)).shape == (2, 5, 8)


def test_the_act_slot_takes_activations_whose_channels_are_known() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Flatten(), nn.ReLU())
    placed = replace_norm_act(net, "x * sigmoid(v1 * x)", "act", report=None)
    assert actions(placed) == {"1": "replaced", "3": "left"}
    assert net(torch.randn(2, 3, 2, 2)).shape == (2, 24)


class Functional(nn.Module):
    """Activations as calls: after a convolution, after a norm by keyword, and after a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.one(x), inplace=True)
        z = functional.gelu(input=self.norm(self.two(y)))
        return (z + 1).relu()


@pytest.mark.parametrize("layer", ["x * sigmoid(v1 * x)", "bn-gelu"])
def test_the_act_slot_takes_functional_activations_in_a_traced_copy(layer: str) -> None:
    torch.manual_seed(0)
    net = Functional()
    names = [name for name, _ in net.named_modules()]
    placed = replace_norm_act(net, layer, "act", report=None)
    assert [row.action for row in placed.rows] == ["replaced", "replaced", "left"]
    assert placed.traced
    assert [name for name, _ in net.named_modules()] == names
    made = [module for module in placed.model.modules() if is_evolved(module)]
    assert [module.num_features for module in made] == [6, 4]
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        for module in made:
            module.weight.mul_(1.5)  # type: ignore[union-attr, operator]
    y = made[0](net.one(x))
    expected = (made[1](net.norm(net.two(y))) + 1).relu()
    torch.testing.assert_close(placed.model(x), expected)
    placed.model(x).sum().backward()
    assert all(p.grad is not None for module in made for p in module.parameters())


class Branching(nn.Module):
    """Cannot be traced: its way depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.known = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
        self.unknown = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.unknown(self.known(x)).relu() if x.sum() > 0 else x


def test_what_cannot_be_traced_is_reported_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    placed = replace_norm_act(Branching(), "evonorm-s0")
    assert actions(placed) == {"known.0": "replaced", "unknown": "left", "known.1": "replaced"}
    table = capsys.readouterr().out
    assert "what follows is unknown" in table
    assert table.rstrip().endswith("2 replaced, 0 affine, 1 left")


def test_wrong_slots_and_models_without_a_place_are_refused() -> None:
    with pytest.raises(LayerError, match="expected norm_act, norm or act"):
        replace_norm_act(nn.Sequential(), "evonorm-s0", "both")  # type: ignore[arg-type]
    with pytest.raises(LayerError, match="no place"):
        replace_norm_act(nn.Linear(2, 2), "evonorm-s0", report=None)


def test_the_factory_takes_what_libraries_hand_over() -> None:
    make = norm_act_function("evonorm-s0", groups=2)
    layer = make(8, act_layer=nn.ReLU, act_kwargs={"inplace": True}, inplace=True, eps=1e-3)
    assert layer.eps == 1e-3
    assert type(make).__name__ == "function"
    x = torch.randn(2, 8, 3, 5, generator=torch.manual_seed(0))
    tokens = layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(x)
    torch.testing.assert_close(tokens, layer(x))
    torch.testing.assert_close(layer(x.movedim(1, -1)).movedim(-1, 1), layer(x))
    assert sorted(make(8, apply_act=False).state_dict()) == ["bias", "weight"]


def synchronised() -> nn.Module:
    """BN-ReLU in the place of a SyncBatchNorm."""
    net = nn.Sequential(nn.SyncBatchNorm(4), nn.ReLU()).double()
    placed = replace_norm_act(net, "bn-relu", report=None)
    assert "those of all processes" in placed.rows[0].why
    return net[0]


def test_a_sync_batch_norm_leaves_a_layer_that_synchronises() -> None:
    layer = synchronised()
    assert (layer.synchronise, layer.process_group) == (True, None)
    # With one process there is nothing to synchronise, and no process group is needed.
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64, generator=torch.manual_seed(0))
    plain = build_layer(CATALOG["bn-relu"].graph, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x))
    without = nn.Sequential(nn.SyncBatchNorm(4), nn.ReLU())
    placed = replace_norm_act(without, "evonorm-s0", report=None)
    assert "processes" not in placed.rows[0].why


def two_processes(rank: int, folder: str) -> None:
    """One of two: half of a batch each (three and one examples), then gradients as DDP gives."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    given = torch.load(f"{folder}/given.pt", weights_only=True)
    for name in ("evonorm-b0", "bn-relu", "relu-rms-batch"):
        if name == "bn-relu":  # a SyncBatchNorm's successor needs no more
            layer = synchronised()
        else:
            layer = build_layer(CATALOG[name].graph, 4, dtype=torch.float64)
            assert synchronise_batch_statistics(layer) == 1
        x = (given["x"][:3] if rank == 0 else given["x"][3:]).requires_grad_()
        model = nn.parallel.DistributedDataParallel(layer)
        value = model(x)
        (value * (given["g"][:3] if rank == 0 else given["g"][3:])).sum().backward()
        grads = {key: p.grad for key, p in layer.named_parameters()}
        state = {"y": value.detach(), "x": x.grad, "grads": grads, "state": layer.state_dict()}
        torch.save(state, f"{folder}/{name}{rank}.pt")
    torch.distributed.destroy_process_group()


def test_batch_statistics_are_those_of_all_processes(tmp_path: Path) -> None:
    rng = torch.manual_seed(3)
    x = torch.randn(4, 4, 3, 3, generator=rng, dtype=torch.float64)
    g = torch.randn(4, 4, 3, 3, generator=rng, dtype=torch.float64)
    torch.save({"x": x, "g": g}, tmp_path / "given.pt")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(two_processes, (str(tmp_path),), nprocs=2)
    for name in ("evonorm-b0", "bn-relu", "relu-rms-batch"):
        layer = build_layer(CATALOG[name].graph, 4, dtype=torch.float64)
        whole = x.clone().requires_grad_()
        value = layer(whole)
        (value * g).sum().backward()
        parts = [torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True) for rank in (0, 1)]
        torch.testing.assert_close(torch.cat([part["y"] for part in parts]), value.detach())
        torch.testing.assert_close(torch.cat([part["x"] for part in parts]), whole.grad)
        for part in parts:
            for key, parameter in layer.named_parameters():
                assert parameter.grad is not None
                # DDP averages over the processes what one process sums.
                torch.testing.assert_close(2 * part["grads"][key], parameter.grad)
            for key, tensor in layer.state_dict().items():
                torch.testing.assert_close(part["state"][key], tensor)


def test_synchronising_needs_a_process_group() -> None:
    with pytest.raises(LayerError, match="no process group"):
        synchronise_batch_statistics(nn.Sequential())


def test_activations_left_sees_functional_ones_and_tells_affines_apart() -> None:
    make = norm_act_function("evonorm-s0")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = make(4), make(4, apply_act=False), make(4)

        def forward(self, x: Tensor) -> Tensor:
            return (functional.silu(self.one(x)) + self.two(x).relu()).relu() + self.three(x)

    rows = activations_left(Net()).rows
    assert [(row.module, row.why) for row in rows] == [
        ("silu() [silu]", "applied to the generated layer one"),
        ("relu() [relu]", "applied to the affine two"),
        ("relu() [relu_1]", "not after a layer: add"),
        ("three", "a full layer that no activation follows: an affine belongs here"),
    ]


class NormAct(nn.BatchNorm2d):
    """A norm-act module, as some libraries have them."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


@pytest.mark.parametrize("slot", ["norm", "act"])
def test_an_activation_inside_a_norm_act_module_has_a_row(slot: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), NormAct(4), nn.BatchNorm2d(4), nn.Tanh(), nn.ReLU())
    net.append(nn.Conv2d(4, 4, 1)).append(nn.ReLU())
    placed = replace_norm_act(net, "swish", slot, report=None)
    rows = {row.module: (row.action, row.why) for row in placed.rows}
    assert rows["1.act"] == ("left", "inside a norm-act module: a norm_act slot")


def test_an_untraceable_norm_act_module_has_no_activation_left_over() -> None:
    net = Branching()
    net.unknown = NormAct(4)
    placed = replace_norm_act(net, "evonorm-s0", report=None)
    assert placed.count("left") == 0


def test_the_factory_refuses_what_has_channels_on_two_axes() -> None:
    for shape in ((2, 8, 8), (2, 8, 4, 8), (2, 8, 8, 8)):
        x = torch.randn(shape, generator=torch.manual_seed(0))
        with pytest.raises(ValueError, match=r"channels first or last\? .* layout='nchw'"):
            norm_act_function("evonorm-s0")(8)(x)
        first = norm_act_function("evonorm-s0", layout="nchw")(8)
        last = norm_act_function("evonorm-s0", layout="nhwc")(8)
        torch.testing.assert_close(last(x.movedim(1, -1)).movedim(-1, 1), first(x))
        assert first(x).shape == x.shape
