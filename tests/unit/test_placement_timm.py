"""Layers in timm's model families: placed, affine-only, left; forward, backward, evaluation."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from primitives.factory import activations_left, norm_act_function
from primitives.model_scan import is_evolved
from primitives.placement import replace_norm_act
from tests.support.timm_models import timm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)

SMALL: dict[str, Any] = {"num_classes": 5}
TINY_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}

SHORT: dict[str, Any] = {"layers": (1, 1, 1, 1)}

CASES = [
    # name, options, slot, replaced, affine, left over
    ("resnet18", {}, "norm_act", 18, 11, 8),
    ("resnetv2_50", SHORT, "norm_act", 13, 0, 0),
    ("mobilenetv2_050", {}, "norm_act", 35, 17, 0),
    ("mobilenetv3_small_050", {}, "norm_act", 23, 11, 10),
    ("efficientnet_b0", {}, "norm_act", 33, 16, 16),
    ("densenet121", {"block_config": (2, 2, 2, 2)}, "norm_act", 21, 0, 0),
    ("regnetx_002", {}, "norm_act", 27, 17, 13),
    ("vgg11_bn", {}, "norm_act", 16, 0, 2),
    ("dla34", {}, "norm_act", 42, 16, 12),
    ("ghostnet_050", {}, "norm_act", 67, 46, 8),
    ("mnasnet_small", {}, "norm_act", 31, 15, 10),
    ("hardcorenas_a", {}, "norm_act", 23, 11, 9),
    ("lcnet_035", {}, "norm_act", 27, 0, 3),
    ("tinynet_e", {}, "norm_act", 21, 10, 10),
    ("convnext_atto", {"depths": (1, 1, 1, 1)}, "norm", 9, 0, 4),
    ("vit_tiny_patch16_224", TINY_VIT, "norm", 5, 0, 2),
    ("mixer_s32_224", {"img_size": 32}, "norm", 17, 0, 16),
]


@pytest.mark.parametrize(("name", "options", "slot", "replaced", "affine", "left"), CASES)
def test_families(
    name: str, options: dict[str, Any], slot: Any, replaced: int, affine: int, left: int
) -> None:
    torch.manual_seed(0)
    model = timm().create_model(name, **SMALL, **options)
    names = [path for path, _ in model.named_parameters()]
    placed = replace_norm_act(model, "evonorm-s0", slot, report=None)
    counts = [placed.count(action) for action in ("replaced", "affine", "left")]  # type: ignore[arg-type]
    assert counts == [replaced, affine, left]
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
    # The same are found again, and none comes after a layer that has the activation in it.
    rows = activations_left(placed.model).rows
    assert len(rows) == left
    assert not any(row.why.startswith("applied to the generated") for row in rows)


BUILT = [
    # name, options, layout, full layers, affine only,
    # activations after a layer, layers in an affine's place, other activations, axes of inputs
    ("resnet50", {}, "nchw", 53, 0, 33, 20, 16, {4}),
    ("resnetv2_50", SHORT, "nchw", 13, 0, 0, 0, 0, {4}),
    ("efficientnet_b0", {}, "nchw", 33, 16, 0, 0, 16, {4}),
    ("mobilenetv2_050", {}, "nchw", 35, 17, 0, 0, 0, {4}),
    ("regnetx_002", {}, "nchw", 27, 17, 0, 0, 13, {4}),
    ("densenet121", {"block_config": (2, 2, 2, 2)}, "nchw", 21, 0, 0, 0, 0, {4}),
    ("cspresnet50", {}, "nchw", 38, 17, 0, 0, 13, {4}),
    ("convnext_atto", {"depths": (1, 1, 1, 1)}, "nchw", 9, 0, 0, 0, 4, {4}),
    ("xception41", {}, "nchw", 80, 4, 31, 48, 11, {4}),
    ("res2net50_26w_4s", SHORT, "nchw", 25, 0, 17, 8, 4, {4}),
    ("resnest14d", {}, "nchw", 23, 0, 15, 8, 4, {4}),
    ("ese_vovnet19b_dw", {}, "nchw", 23, 0, 0, 0, 0, {4}),
    ("skresnet18", {}, "nchw", 20, 8, 1, 3, 16, {4}),
    ("darknet53", {}, "nchw", 52, 0, 0, 0, 0, {4}),
    ("inception_next_atto", {}, "nchw", 16, 0, 0, 0, 13, {4}),
    ("vit_tiny_patch16_224", TINY_VIT, None, 5, 0, 0, 0, 2, {3}),
    ("beit_base_patch16_224", TINY_VIT, None, 5, 0, 0, 0, 2, {2, 3}),
    ("pvt_v2_b0", {"depths": (1, 1, 1, 1)}, None, 12, 0, 0, 0, 4, {3}),
    ("cait_xxs24_224", TINY_VIT, "nhwc", 9, 0, 0, 0, 4, {3}),
    ("twins_svt_small", {"depths": (1, 1, 1, 1)}, "nhwc", 9, 0, 0, 0, 0, {3}),
    ("swin_tiny_patch4_window7_224",
     {"img_size": 56, "depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 4, 8)},
     "nhwc", 13, 0, 0, 0, 4, {3, 4}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "layout", "full", "affine", "after", "wanted", "other", "axes"), BUILT
)
def test_families_built_by_the_function(
    name: str, options: dict[str, Any], layout: Any, full: int, affine: int, after: int,
    wanted: int, other: int, axes: set[int],
) -> None:  # fmt: skip
    torch.manual_seed(0)
    make = norm_act_function("evonorm-s0", layout=layout)
    model = timm().create_model(name, norm_layer=make, **SMALL, **options)
    layers: list[Any] = [module for module in model.modules() if is_evolved(module)]
    acting = sum(layer.apply_act for layer in layers)
    assert (acting, len(layers) - acting) == (full, affine)
    rows = activations_left(model).rows
    found = [row for row in rows if row.why.startswith("applied to the generated layer")]
    belongs = [row for row in rows if "an affine belongs here" in row.why]
    counts = (len(found), len(belongs), len(rows) - len(found) - len(belongs))
    assert counts == (after, wanted, other)
    seen: set[int] = set()
    for layer in layers:
        layer.register_forward_hook(lambda _, given, value: seen.add(given[0].ndim))
    x = torch.randn(2, 3, options.get("img_size", 32), options.get("img_size", 32))
    model(x).square().mean().backward()
    assert seen == axes
    assert all(p.grad is not None for layer in layers for p in layer.parameters())
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(x), model(x))


def test_a_resnet50_tells_all_49_activations_and_20_places_of_an_affine() -> None:
    model = timm().create_model("resnet50", norm_layer=norm_act_function("evonorm-s0"), **SMALL)
    rows = activations_left(model).rows
    names = [row.module for row in rows]
    assert len([row for row in rows if row.kind == "ReLU"]) == 49
    assert len([row for row in rows if row.why.startswith("not after a layer: add")]) == 16
    assert [name for name in names if name.endswith(".bn3")] == [
        f"layer{stage}.{block}.bn3"
        for stage, blocks in enumerate((3, 4, 6, 3), start=1)
        for block in range(blocks)
    ]
    assert [name for name in names if "downsample" in name] == [
        f"layer{stage}.0.downsample.1" for stage in (1, 2, 3, 4)
    ]
    assert len(rows) == 49 + 16 + 4


def test_models_that_assert_on_a_class_take_the_function_and_nothing_else() -> None:
    make = norm_act_function("evonorm-s0")

    class Maker:
        def __call__(self, *arguments: Any, **options: Any) -> nn.Module:
            return make(*arguments, **options)

    create = timm().create_model
    with pytest.raises(AssertionError):
        create("resnetv2_50", norm_layer=Maker(), **SMALL, **SHORT)
    create("resnetv2_50", norm_layer=make, **SMALL, **SHORT)


def test_timms_own_norms_are_replaced_by_what_they_compute() -> None:
    layers = timm().layers
    torch.manual_seed(0)

    def net() -> nn.Sequential:
        made = nn.Sequential(
            layers.RmsNorm2d(8), nn.Conv2d(8, 8, 1), layers.SimpleNorm2d(8), nn.Conv2d(8, 8, 1),
            layers.RmsNormAct2d(8), layers.FrozenBatchNormAct2d(8),
        )  # fmt: skip
        for norm in (made[0], made[2], made[4]):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
        return made

    whole = net()
    weights = [whole[place].weight.detach().clone() for place in (0, 2, 4)]
    frozen = "its statistics are its own: turn it into a BatchNorm first"
    placed = replace_norm_act(whole, "evonorm-s0", report=None)
    assert [(row.module, row.action, row.why) for row in placed.rows] == [
        ("0", "affine", "no activation follows"), ("2", "affine", "no activation follows"),
        ("4", "replaced", "with its own activation"), ("5", "left", frozen),
    ]  # fmt: skip
    for place, weight in zip((0, 2, 4), weights, strict=True):
        torch.testing.assert_close(whole[place].weight, weight)
    rows = replace_norm_act(net(), "rms-norm", "norm", report=None).rows
    assert [(row.module, row.action) for row in rows] == [
        ("0", "replaced"), ("2", "replaced"), ("4", "left"), ("4.act", "left"),
        ("5", "left"), ("5.act", "left"),
    ]  # fmt: skip
    last = nn.Sequential(nn.Linear(4, 8), layers.RmsNorm(8), nn.Linear(8, 6), layers.SimpleNorm(6))
    x = torch.randn(2, 5, 4)
    unit = last[1](last[0](x))
    replace_norm_act(last, "rms-norm", "norm", report=None)
    assert [last[place].layout for place in (1, 3)] == ["nhwc", "nhwc"]
    torch.testing.assert_close(last[1](last[0](x)), unit)
