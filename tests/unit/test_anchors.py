"""Anchor networks: placement of the layer, sizes, and initial weights that no layer changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from evosearch.config import Anchor
from evosearch.errors import ConfigError, NotFound
from evosearch.own import REGISTER
from workers.anchors import ANCHORS, Affine, HostNetwork, initialise

NAMES = ("efficientnet", "mobilenetv2", "resnet")
OTHERS = ("char-transformer", "convnext", "mixer", "vit")


class Marked(nn.Module):
    """Stands for the layer and remembers its number of channels."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.scale = nn.Parameter(torch.ones(num_features))

    def forward(self, x):
        assert x.shape[1] == self.num_features
        return torch.relu(x * self.scale[:, None, None])


def build(name, layer=Marked, width=8, depth=1, in_channels=1) -> HostNetwork:
    anchor = ANCHORS.get(name)
    return anchor.build(
        layer, anchor.spec(Anchor(name=name, width=width, depth=depth), in_channels, 10)
    )


def order_of_calls(network, x):
    """Modules without children in the order in which they run."""
    calls = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in network.modules()
        if not list(module.children())
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return calls


def kind(module):
    if isinstance(module, nn.Conv2d):
        size = module.kernel_size[0]
        return f"depthwise{size}" if module.groups > 1 else f"conv{size}"
    return {Marked: "layer", Affine: "affine", nn.Linear: "linear", nn.Identity: "id"}[type(module)]


def test_all_three_are_listed():
    own = {entry.name for entry in REGISTER.entries("anchor")}  # of plug-ins that tests have loaded
    names = ANCHORS.names()
    assert names == tuple(sorted(names))
    assert set(names) - own == {*NAMES, *OTHERS}
    with pytest.raises(NotFound, match="did you mean resnet"):
        ANCHORS.get("resnets")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [8, 14, 1])
def test_shapes_and_even_widths(name, size):
    widths = []

    def layer(channels):
        widths.append(channels)
        return Marked(channels)

    network = build(name, layer, width=6, depth=2, in_channels=3)
    x = torch.randn(2, 3, size, size)
    assert network(x).shape == (2, 10)
    assert network.forward_features(x).shape == (2, network.classifier.in_features)
    assert widths
    assert all(width % 2 == 0 and width >= 4 for width in widths)


def test_resnet_places_the_layer_before_each_convolution():
    calls = [kind(m) for m in order_of_calls(build("resnet"), torch.randn(2, 1, 8, 8))]
    first_block = ["layer", "conv1", "conv1", "layer", "conv3", "layer", "conv1"]
    assert calls[0] == "conv3"
    assert calls[1:8] == first_block  # the second conv1 projects the skip
    assert calls[-2:] == ["layer", "linear"]


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet"])
def test_inverted_residual_places_the_layer_twice_and_ends_linear(name):
    calls = [kind(m) for m in order_of_calls(build(name), torch.randn(2, 1, 8, 8))]
    excite = ["linear", "linear"] if name == "efficientnet" else []
    block = ["conv1", "layer", "depthwise3", "layer", *excite, "conv1", "affine"]
    assert calls[:2] == ["conv3", "layer"]
    assert "".join(block) in "".join(calls)
    assert calls[-3:] == ["conv1", "layer", "linear"]


@pytest.mark.parametrize("name", NAMES)
def test_no_normalisation_but_the_layer(name):
    network = build(name)
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    assert not [m for m in network.modules() if isinstance(m, norms)]


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_do_not_depend_on_the_layer(name):
    def bare(channels):
        return nn.Sequential(nn.BatchNorm2d(channels), nn.SiLU())

    weights = []
    for layer in (Marked, bare):
        network = build(name, layer)
        initialise(network, "he_fan_out", torch.Generator().manual_seed(3))
        weights.append(
            [m.weight for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        )
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_he_fan_out_and_torch_schemes_have_their_spreads():
    conv, depthwise = nn.Conv2d(64, 128, 3, bias=False), nn.Conv2d(512, 512, 3, groups=512)
    linear = nn.Linear(400, 300)
    network = nn.Sequential(conv, depthwise, linear)
    initialise(network, "he_fan_out", torch.Generator().manual_seed(0))
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert depthwise.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    assert depthwise.bias.abs().max().item() == 0
    assert linear.weight.abs().max().item() == pytest.approx(1 / 20, rel=0.01)
    initialise(network, "torch", torch.Generator().manual_seed(0))
    assert conv.weight.abs().max().item() == pytest.approx(1 / 24, rel=0.01)
    assert conv.weight.std().item() == pytest.approx(1 / 24 / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("sizes", [(7, 1), (1, 1), (9, 2)])
def test_odd_widths_are_refused(sizes):
    with pytest.raises(ConfigError, match="width is even"):
        build("resnet", width=sizes[0], depth=sizes[1])
