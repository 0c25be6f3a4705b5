"""Layers in timm's model families: placed, affine-only, left; forward, backward, evaluation."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from primitives.factory import activations_left, norm_act_function
from primitives.model_scan import is_evolved
from primitives.placement import replace_norm_act
from tests.support.timm_models import timm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)

SMALL: dict[str, Any] = {"num_classes": 5}
TINY_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}

CASES = [
    # name, options, slot, replaced, affine
    ("resnet18", {}, "norm_act", 18, 11),
    ("resnetv2_50", {"layers": (1, 1, 1, 1)}, "norm_act", 13, 0),
    ("mobilenetv2_050", {}, "norm_act", 35, 17),
    ("mobilenetv3_small_050", {}, "norm_act", 23, 11),
    ("efficientnet_b0", {}, "norm_act", 33, 16),
    ("densenet121", {"block_config": (2, 2, 2, 2)}, "norm_act", None, 0),
    ("regnetx_002", {}, "norm_act", 27, 17),
    ("vgg11_bn", {}, "norm_act", 16, 0),
    ("dla34", {}, "norm_act", None, None),
    ("ghostnet_050", {}, "norm_act", None, None),
    ("mnasnet_small", {}, "norm_act", None, None),
    ("hardcorenas_a", {}, "norm_act", None, None),
    ("lcnet_035", {}, "norm_act", None, None),
    ("tinynet_e", {}, "norm_act", None, None),
    ("convnext_atto", {"depths": (1, 1, 1, 1)}, "norm", None, 0),
    ("vit_tiny_patch16_224", TINY_VIT, "norm", 5, 0),
    (
        "mixer_s32_224",
        {"img_size": 32},
        "norm",
        17,
        0,
    ),
]


@pytest.mark.parametrize(("name", "options", "slot", "replaced", "affine"), CASES)
def test_families(
    name: str, options: dict[str, Any], slot: Any, replaced: int | None, affine: int | None
) -> None:
    torch.manual_seed(0)
    model = timm().create_model(name, **SMALL, **options)
    names = [path for path, _ in model.named_parameters()]
    placed = replace_norm_act(model, "evonorm-s0", slot, report=None)
    assert placed.count("replaced") == replaced or replaced is None
    assert placed.count("affine") == affine or affine is None
    layers = [module for module in placed.model.modules() if is_evolved(module)]
    assert len(layers) >= placed.count("affine")
    x = torch.randn(2, 3, 32, 32)
    placed.model.train()
    placed.model(x).square().mean().backward()
    assert all(p.grad is not None for layer in layers for p in layer.parameters())
    placed.model.eval()
    with torch.no_grad():
        assert torch.equal(placed.model(x), placed.model(x))
    assert set(names) & {path for path, _ in placed.model.named_parameters()}
    if slot == "norm_act":
        assert not activations_left(placed.model).rows or name == "vgg11_bn"


def test_a_resnet_built_by_norm_layer_alone_keeps_its_activations_and_that_is_said() -> None:
    make = norm_act_function("evonorm-s0")
    model = timm().create_model("resnet50", norm_layer=make, layers=(1, 1, 1, 1), **SMALL)
    rows = activations_left(model).rows
    # The stem and the first two of each block; the third comes after an addition.
    assert len(rows) == 1 + 2 * 4
    assert all(row.why.startswith("applied to the generated layer") for row in rows)
    model(torch.randn(2, 3, 32, 32)).sum().backward()


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnetv2_50", "regnetx_002"])
def test_models_that_take_a_norm_act_function(name: str) -> None:
    make = norm_act_function("evonorm-s0")
    options = {"layers": (1, 1, 1, 1)} if name == "resnetv2_50" else {}
    model = timm().create_model(name, norm_layer=make, **SMALL, **options)
    layers = [module for module in model.modules() if is_evolved(module)]
    assert len(layers) > 10
    assert not any(
        isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules()
    )
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    model.eval()(torch.randn(1, 3, 32, 32))
