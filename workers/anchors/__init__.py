"""Anchor networks: one file an anchor; ``ENTRY`` is an `AnchorNetwork`.

An anchor is a host network built around a layer factory ``layer(num_features) -> nn.Module``. In
the slot ``norm_act`` a layer stands for a normalisation together with the activation after it;
where the published network has a normalisation without an activation, only its per-channel affine
stays (the paper's rule). Widths are even, so that a group never has fewer than two channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from evosearch.errors import ConfigError
from workers.registry import Registry

Layer = Callable[[int], nn.Module]
"""Number of channels -> the module that normalises and bends them."""


class HostNetwork(nn.Module):
    """A convolutional network: features (n, c, h, w) -> (n, f), then a linear classifier.

    ``stem`` is the first convolution; its gradient is what the signal check looks at.
    """

    def __init__(self, stem: nn.Conv2d, body: nn.Module, features: int, num_classes: int) -> None:
        super().__init__()
        self.stem, self.body = stem, body
        self.classifier = nn.Linear(features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Shapes: (n, channels, h, w) -> (n, features), averaged over positions."""
        features: Tensor = self.body(self.stem(x)).mean(dim=(2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (n, channels, h, w) -> (n, num_classes)."""
        logits: Tensor = self.classifier(self.forward_features(x))
        return logits


class Build(Protocol):
    def __call__(
        self, layer: Layer, *, in_channels: int, num_classes: int, width: int, depth: int
    ) -> HostNetwork: ...


@dataclass(frozen=True, slots=True)
class AnchorNetwork:
    """A way to build a host network, its slot, and the axes that no layer in it may mix.

    ``micro``: (width, depth) for 8x8 to 14x14 images on a CPU.
    """

    build: Build
    slot: Literal["norm_act", "norm", "act"] = "norm_act"
    forbids: frozenset[str] = frozenset()
    micro: tuple[int, int] = (8, 1)


ANCHORS: Registry[AnchorNetwork] = Registry("anchor", __name__)


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


def initialise(network: nn.Module, scheme: str, generator: torch.Generator) -> None:
    """Draw the weights of all convolutions and linear maps, in the order of the modules.

    ``he_fan_out``: convolutions normal with variance 2 / fan_out (a group's outputs count for
    its inputs only), biases 0, linear maps as torch draws them. ``torch``: all as torch draws
    them, uniform within 1 / sqrt(fan_in). The draws do not depend on the layers in between, so
    two layers with one seed start from the same weights.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and scheme == "he_fan_out":
            area = module.kernel_size[0] * module.kernel_size[1]
            fan_out = area * module.out_channels // module.groups
            module.weight.data.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            module.weight.data.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-bound, bound, generator=generator)
