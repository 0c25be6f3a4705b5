"""Anchor networks: one file an anchor; ``ENTRY`` is an `AnchorNetwork`.

An anchor is a host network built around a layer factory ``layer(num_features) -> nn.Module``. Its
slot says what of the network the layer stands for: ``norm_act``, a normalisation together with the
activation after it (where the published network has a normalisation without an activation, only
its per-channel affine stays, the paper's rule); ``norm``, the normalisations alone; ``act``, the
activations alone. Widths are even, so that a group never has fewer than two channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from evosearch.config import Anchor, Forbidden, Size, Slot
from evosearch.errors import ConfigError
from evosearch.own import REGISTER, OwnAnchor
from workers.registry import Registry

Layer = Callable[[int], nn.Module]
"""Number of channels -> the module that normalises and bends them."""

ADAMW_RATE_SCALE = 0.01
"""So that one learning rate of 0.1 to 0.4 in a config means 0.001 to 0.004 under AdamW."""
SMALL_IMAGE = 64
"""Images up to this size keep their resolution in the first layers (CIFAR strides)."""


class HostNetwork(nn.Module):
    """A network: features (n, c, h, w) or (n, tokens, c) -> (n, f), then a linear classifier.

    ``stem`` is the first map, a convolution or an embedding; its gradient is what the signal check
    looks at. ``layout``: whether the body speaks of images or of tokens.
    """

    def __init__(
        self,
        stem: nn.Conv2d | nn.Embedding,
        body: nn.Module,
        features: int,
        num_classes: int,
        layout: Literal["image", "token"] = "image",
    ) -> None:
        super().__init__()
        self.stem, self.body, self.layout = stem, body, layout
        self.classifier = nn.Linear(features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Shapes: (n, channels, h, w) -> (n, features), averaged over positions."""
        y = self.body(self.stem(x))
        features: Tensor = y.mean(dim=(2, 3)) if y.ndim == 4 else y
        return features

    def signal_parts(self, x: Tensor) -> tuple[Tensor, Tensor, nn.Parameter]:
        """Features, logits, and the weight whose gradient tells what arrives at the bottom."""
        features = self.forward_features(x)
        weight = self.stem.weight
        assert isinstance(weight, nn.Parameter)
        return features, self.classifier(features), weight

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (n, channels, h, w) -> (n, num_classes)."""
        logits: Tensor = self.classifier(self.forward_features(x))
        return logits


@dataclass(frozen=True, slots=True)
class Spec:
    """What a network is built for. ``image``: height of a training image, or length of a text."""

    in_channels: int
    num_classes: int
    width: int
    depth: int
    size: Size = "micro"
    slot: Slot = "norm_act"
    image: int = 32


@dataclass(frozen=True, slots=True)
class AnchorNetwork:
    """A way to build a host network, its slots, and the axes that no layer in it may mix.

    ``sizes``: size -> (width, depth). micro: 8x8 to 14x14 images on a CPU; small: minutes on a GPU;
    full: as published. ``slots``: the first one is the default. ``fixed_image``: training and
    evaluation images must have one size. ``optimizer``, ``rate_scale``: where the setting names
    none; the scale is a factor on the run's learning rate. ``own``: a user's own anchor, whose
    weights stay as the user's code drew them.
    """

    build: Callable[[Layer, Spec], nn.Module]
    sizes: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {"micro": (8, 1), "small": (16, 2), "full": (64, 1)}
    )
    slots: tuple[Slot, ...] = ("norm_act",)
    forbids: frozenset[Forbidden] = frozenset()
    kind: Literal["image", "text"] = "image"
    fixed_image: bool = False
    optimizer: Literal["sgd", "adamw"] = "sgd"
    rate_scale: float = 1.0
    own: OwnAnchor | None = None

    def spec(self, anchor: Anchor, in_channels: int, num_classes: int, image: int = 32) -> Spec:
        """The setting's anchor with what it leaves to the size and the anchor filled in.

        Raises:
            ConfigError: a slot that the anchor has not, or axes that it forbids and the setting
                does not.
        """
        slot = anchor.slot or self.slots[0]
        if slot not in self.slots:
            raise ConfigError(
                f"anchor {anchor.name} has no such slot", expected=", ".join(self.slots), got=slot
            )
        self.check_forbids(anchor)
        width, depth = self.sizes[anchor.size]
        width, depth = anchor.width or width, anchor.depth or depth
        check_size(width, depth)
        return Spec(in_channels, num_classes, width, depth, anchor.size, slot, image)

    def check_forbids(self, anchor: Anchor) -> None:
        """Refuse a setting under which the controller would let a leaking layer through.

        Raises:
            ConfigError: the anchor forbids an axis that the setting does not name.
        """
        missing = sorted(self.forbids - set(anchor.forbids))
        if missing:
            axes = ", ".join(f'"{axis}"' for axis in sorted(self.forbids))
            raise ConfigError(
                f"anchor {anchor.name} forbids mixing over {' and '.join(missing)}",
                expected=f"forbids = [{axes}] in its [[task.anchors]]",
                got=f"forbids = {list(anchor.forbids)}",
            )


class _Anchors(Registry[AnchorNetwork]):
    """The named networks, and what users registered of their own."""

    def names(self) -> tuple[str, ...]:
        own = {entry.name for entry in REGISTER.entries("anchor")}
        return tuple(sorted({*super().names(), *own}))

    def get(self, name: str) -> AnchorNetwork:
        entry = REGISTER.find("anchor", name)
        if entry is None:
            return super().get(name)
        from workers.own_network import network_of

        return network_of(entry.value)


ANCHORS: Registry[AnchorNetwork] = _Anchors("anchor", __name__)


def can_be_checked(name: str) -> bool:
    """Whether checks can look into that anchor: a user's evaluator hides its network."""
    own = ANCHORS.get(name).own
    return own is None or own.kind != "evaluator"


def even(width: float) -> int:
    """The nearest even number of channels, at least 2."""
    return max(2, 2 * round(width / 2))


def check_size(width: int, depth: int) -> None:
    """Refuse sizes that no anchor can be built with.

    Raises:
        ConfigError: width is odd or below 2, or depth is below 1.
    """
    if width < 2 or width % 2:
        raise ConfigError(
            "an anchor's width is even, so that each group has two channels",
            expected="2, 4, 6, ...",
            got=str(width),
        )
    if depth < 1:
        raise ConfigError("an anchor's depth is at least 1", expected="1 or more", got=str(depth))


class Affine(nn.Module):
    """Per-channel scale and shift of (n, c, h, w): what stays of a bare normalisation."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias.view(-1, 1, 1), x, self.weight.view(-1, 1, 1))


def conv(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )


EMBEDDING_SD = 0.02
"""Of embeddings and learned positions, as in the published transformers."""


def initialise(network: nn.Module, scheme: str, generator: torch.Generator) -> None:
    """Draw the weights of all convolutions and linear maps, in the order of the modules.

    ``he_fan_out``: convolutions normal with variance 2 / fan_out (a group's outputs count for
    its inputs only), biases 0, linear maps as torch draws them. ``torch``: all as torch draws
    them, uniform within 1 / sqrt(fan_in). The draws do not depend on the layers in between, so
    two layers with one seed start from the same weights. A classifier that shares the embedding's
    weights keeps those.
    """
    shared: set[int] = set()
    for module in network.modules():
        if isinstance(module, nn.Linear) and id(module.weight) in shared:
            continue
        if isinstance(module, nn.Conv2d) and scheme == "he_fan_out":
            area = module.kernel_size[0] * module.kernel_size[1]
            fan_out = area * module.out_channels // module.groups
            module.weight.data.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.data.normal_(0.0, EMBEDDING_SD, generator=generator)
            shared.add(id(module.weight))
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            module.weight.data.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-bound, bound, generator=generator)
