"""Full sizes as published, networks on tokens, slots, and a text network that sees no future."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from api.inspect_layer import cheap_checks
from evosearch.config import Anchor, Task
from evosearch.errors import ConfigError
from evosearch.presets import load_preset
from evosearch.records import Job, Run, Subject
from evosearch.screen import Screen
from primitives.formula import parse
from primitives.module import build_layer
from workers.anchors import ANCHORS, EMBEDDING_SD, initialise
from workers.checks import signal_statistics
from workers.evaluate import Context
from workers.inline import one_thread
from workers.layers import layer_factory
from workers.training import Training


def bn_relu(channels):
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def build(name, layer=bn_relu, *, channels=3, classes=10, image=32, **setting):
    anchor = ANCHORS.get(name)
    forbids = tuple(sorted(anchor.forbids))
    spec = anchor.spec(Anchor(name=name, forbids=forbids, **setting), channels, classes, image)
    return anchor.build(layer, spec)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "slot", "published"),
    [
        # torchvision's mobilenet_v2, efficientnet_b0 and convnext_tiny; timm's resnetv2_50,
        # vit_small_patch16_224 and mixer_s16_224, all for 1000 classes of 224x224 images.
        ("mobilenetv2", None, 3_504_872),
        ("efficientnet", None, 5_288_548),
        ("resnet", None, 25_549_352),
        ("convnext", "act", 28_589_128),
        ("vit", "act", 22_050_664),
        ("mixer", "act", 18_528_264),
    ],
)
def test_full_sizes_have_the_published_number_of_parameters(name, slot, published):
    layer = bn_relu if slot is None else lambda channels: nn.GELU()
    with torch.device("meta"):
        network = build(name, layer, classes=1000, image=224, size="full", slot=slot)
    assert count(network) == published


def test_full_character_transformer_has_nanogpts_number_of_parameters():
    """10.65 million: without positions, and without biases, which our layers' affine has."""
    with torch.device("meta"):
        network = build("char-transformer", classes=65, image=256, size="full", slot="act",
                        layer=lambda channels: nn.GELU())  # fmt: skip
    positions = network.body.positions.numel()
    biases = sum(m.bias.numel() for m in network.modules() if isinstance(m, nn.LayerNorm))
    assert count(network) - positions - biases == 10_646_784


def test_a_shared_embedding_keeps_the_weights_that_it_was_drawn():
    network = build("char-transformer", classes=65, image=32, slot="act",
                    layer=lambda channels: nn.GELU())  # fmt: skip
    initialise(network, "torch", torch.Generator().manual_seed(0))
    assert network.classifier.weight is network.stem.weight
    assert network.stem.weight.std().item() == pytest.approx(EMBEDDING_SD, rel=0.05)


@pytest.mark.parametrize("name", ["resnet", "mobilenetv2", "efficientnet"])
def test_full_size_on_small_images_keeps_resolution_as_cifar_networks_do(name):
    seen = []

    def layer(channels):
        module = nn.ReLU()
        module.register_forward_hook(lambda m, args, out: seen.append(out.shape[-1]))
        return module

    network = build(name, layer, size="full", width=8, image=32)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert (seen[0], seen[-1]) == (32, 4)
    seen.clear()
    large = build(name, layer, size="full", width=8, image=96)
    large(torch.randn(1, 3, 96, 96))
    assert seen[-1] == 3


@pytest.mark.parametrize("name", ["convnext", "vit", "mixer"])
@pytest.mark.parametrize("slot", ["norm", "act"])
@pytest.mark.parametrize("image", [8, 28, 32])
def test_other_families_take_the_layer_in_their_slot(name, slot, image):
    widths = []

    def layer(channels):
        widths.append(channels)
        return bn_relu(channels)

    network = build(name, layer, slot=slot, image=image, channels=1)
    assert network(torch.randn(3, 1, image, image)).shape == (3, 10)
    kinds = Counter(type(module).__name__ for module in network.modules())
    assert widths
    if slot == "norm":
        assert kinds["GELU"] > 0
        assert kinds["LayerNorm"] == (name == "convnext")  # its head alone
        assert kinds["ChannelNorm"] == 0
    else:
        assert kinds["GELU"] == 0
        assert kinds["LayerNorm"] + kinds["ChannelNorm"] > 0


def test_vit_takes_images_of_another_size_and_mixer_says_why_not():
    network = build("vit", image=24)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert ANCHORS.get("mixer").fixed_image


TOKEN_LAYER = "x / rms_token(x) * sigmoid(v1 * x)"
LEAKS = ["x / std_instance(x)", "x / rms_batch(x)", "x / rms_sample(x)", "x - mean_group(x)"]


def text_network(formula, slot):
    torch.manual_seed(0)
    graph = parse(formula)
    network = build("char-transformer", lambda c: build_layer(graph, c, groups=2), slot=slot,
                    classes=20, image=24)  # fmt: skip
    return network.double()


def seen_before(network, position):
    """How much the outputs before ``position`` change when the symbol there does."""
    text = torch.randint(0, 20, (3, 24), generator=torch.Generator().manual_seed(1))
    other = text.clone()
    other[0, position] = (other[0, position] + 7) % 20
    with torch.no_grad():
        difference = (network(text) - network(other)).abs()
    later = difference[0, position:].max().item()
    return max(difference[0, :position].max().item(), difference[1:].max().item()), later


@pytest.mark.parametrize("slot", ["norm", "act"])
def test_no_output_depends_on_a_later_symbol_or_another_text(slot):
    network = text_network(TOKEN_LAYER, slot)
    for position in (1, 9, 23):
        before, after = seen_before(network, position)
        assert before == 0.0
        assert after > 0.0


@pytest.mark.parametrize("formula", LEAKS)
def test_the_perturbation_finds_a_leak(formula):
    assert seen_before(text_network(formula, "norm"), 9)[0] > 0.0


TEXT = Anchor(name="char-transformer", forbids=("batch", "positions"))


def test_the_controller_rejects_leaking_layers():
    plain = load_preset("quickstart")
    config = plain.model_copy(update={"task": plain.task.model_copy(update={"anchors": (TEXT,)})})
    for formula in LEAKS:
        assert Screen(config).judge(parse(formula), {}, {}).code == "leaks_future"
        assert Screen(plain).judge(parse(formula), {}, {}).code is None
    assert Screen(config).judge(parse(TOKEN_LAYER), {}, {}).code is None
    assert Screen(config).judge(parse("x * sigmoid(x)"), {}, {}).code is None


def test_a_setting_that_does_not_forbid_is_refused():
    with pytest.raises(ConfigError, match=r'forbids = \["batch", "positions"\]'):
        ANCHORS.get("char-transformer").spec(Anchor(name="char-transformer"), 20, 20)
    with pytest.raises(ConfigError, match="no such slot"):
        ANCHORS.get("vit").spec(Anchor(name="vit", slot="norm_act"), 3, 10)


def job(graph=None, baseline=None, anchor=TEXT):
    subject = Subject(baseline=baseline) if baseline else Subject(birth=1)
    runs = (Run(anchor=anchor.name, seed=0, learning_rate=0.1),)
    return Job(id="j", purpose="search", subject=subject, graph=graph, runs=runs,
               task=Task(anchors=(anchor,)))  # fmt: skip


def test_the_worker_refuses_a_leak_as_well():
    for leaking in (job(parse(LEAKS[0])), job(baseline="bn-relu"), job(baseline="ln-relu")):
        with pytest.raises(ConfigError, match="forbids"):
            layer_factory(leaking, "char-transformer")
    assert layer_factory(job(parse(TOKEN_LAYER)), "char-transformer")(8)


def test_the_signal_reference_is_the_baselines_part_for_the_slot():
    setting = Anchor(name="convnext", slot="norm")
    task = Task(anchors=(setting,))
    asked = job(baseline="token_ln-gelu", anchor=setting).model_copy(update={"task": task})
    context, run = Context(device="cpu"), asked.runs[0]
    data = context.dataset(task.dataset)
    with one_thread():
        found = context.reference(run, task, "token_ln-gelu")
        norm = signal_statistics(Training(run, task, layer_factory(asked, "convnext"), data))
        both = signal_statistics(Training(run, task, layer_factory(asked), data))
    assert found == norm
    assert found != both


def test_a_leaking_layer_typed_by_hand_is_answered_not_trained():
    plain = load_preset("quickstart")
    config = plain.model_copy(update={"task": plain.task.model_copy(update={"anchors": (TEXT,)})})
    verdicts = dict(cheap_checks(parse(LEAKS[0]), config))
    assert verdicts["in the controller"].startswith("rejects: leaks_future")
    assert len(verdicts) == 1


def test_a_baseline_gives_its_part_for_the_slot():
    for slot, kinds in (("norm", ["TokenNorm"]), ("act", ["GELU"])):
        setting = TEXT.model_copy(update={"slot": slot})
        made = layer_factory(job(baseline="token_ln-gelu", anchor=setting), TEXT.name)(8)
        assert [type(m).__name__ for m in made.modules()] == kinds
    both = layer_factory(job(baseline="token_ln-gelu"))(8)
    assert [type(m).__name__ for m in both.children()] == ["TokenNorm", "GELU"]
