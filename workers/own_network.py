"""A user's own network as an anchor: layers by layout, arguments by name, places found or given.

The network is the user's and stays as it is; this file only hands it layers and reads off it what
the checks look at. Errors of the user's code pass through: who catches them names the line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evosearch.errors import LayerError, PluginError
from evosearch.own import ORIGINAL, OwnAnchor, line_of, wanted_arguments
from workers.anchors import ADAMW_RATE_SCALE, AnchorNetwork, Layer, Spec

OWN_SIZES = {"micro": (8, 1), "small": (16, 2), "full": (64, 1)}


@dataclass(frozen=True, slots=True)
class Placed:
    """One layer as it stands in the user's network."""

    module: str
    channels: str
    what: str


class InLayout(nn.Module):
    """A layer for images within a network whose axes are named otherwise.

    Shapes: btc (n, tokens, c), bct (n, c, positions), bc (n, c) -> the same.
    """

    def __init__(self, layer: nn.Module, layout: str) -> None:
        super().__init__()
        self.layer, self.layout = layer, layout

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != len(self.layout):
            raise PluginError(
                f"a layer of layout {self.layout} was given {x.ndim} axes",
                expected=", ".join(self.layout), got=f"shape {tuple(x.shape)}",
            )  # fmt: skip
        if self.layout == "btc":
            y: Tensor = self.layer(x.transpose(1, 2).unsqueeze(-1))
            return y.squeeze(-1).transpose(1, 2)
        if self.layout == "bct":
            y = self.layer(x.unsqueeze(-1))
            return y.squeeze(-1)
        y = self.layer(x[:, :, None, None])
        return y[:, :, 0, 0]


def in_layout(layer: Layer, layout: str) -> Layer:
    """The factory whose layers take what the user's network gives them."""
    if layout == "bchw":
        return layer
    return lambda channels: InLayout(layer(channels), layout)


class OwnNetwork(nn.Module):
    """A user's network with what the checks read: its logits and its first weight."""

    layout = "token"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y

    def signal_parts(self, x: Tensor) -> tuple[Tensor, Tensor, nn.Parameter]:
        """Logits in the place of features too: what comes before them is not known."""
        logits = self(x)
        return logits, logits, first_weight(self)


def first_weight(model: nn.Module) -> nn.Parameter:
    """The first weight with two axes or more: what arrives there has passed all layers.

    Raises:
        PluginError: there is none to train.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.ndim >= 2:
            return parameter
    raise PluginError("the network has no weights to train")


def network_of(own: OwnAnchor) -> AnchorNetwork:
    """The entry that stands for a user's anchor among the built-in ones."""

    def build(layer: Layer, spec: Spec) -> nn.Module:
        offered = {
            "num_classes": spec.num_classes, "in_channels": spec.in_channels,
            "image": spec.image, "width": spec.width, "depth": spec.depth,
        }  # fmt: skip
        return OwnNetwork(build_model(own, own.made_by, layer, offered))

    return AnchorNetwork(
        build,
        sizes=OWN_SIZES,
        slots=(own.slot,),
        forbids=frozenset(own.forbids),
        optimizer=own.optimizer,
        rate_scale=ADAMW_RATE_SCALE if own.optimizer == "adamw" else 1.0,
        own=own,
    )


def build_model(
    own: OwnAnchor, build: Callable[..., Any], layer: Layer, offered: dict[str, Any]
) -> nn.Module:
    """The user's network around the layer.

    Raises:
        PluginError: it is no network, or the layer was placed nowhere.
    """
    if own.kind == "model":
        return placed_model(own, layer, offered)
    made: list[int] = []

    def counted(channels: int) -> nn.Module:
        made.append(channels)
        if not isinstance(channels, int) or channels < 1:
            raise PluginError(
                "layer(num_features) takes a number of channels", where=line_of(build, own.where),
                expected="an int of at least 1", got=repr(channels)[:60],
            )  # fmt: skip
        return in_layout(layer, own.layout)(channels)

    model = build(counted, **wanted_arguments(build, offered))
    if not isinstance(model, nn.Module):
        raise PluginError(
            "build returns no network", where=line_of(build, own.where), expected="an nn.Module",
            got=type(model).__name__,
        )  # fmt: skip
    if not made:
        raise PluginError(
            "the layer is placed nowhere", where=line_of(build, own.where),
            expected="build calls layer(num_features) where it wants one",
        )  # fmt: skip
    return model


def placed_model(own: OwnAnchor, layer: Layer, offered: dict[str, Any]) -> nn.Module:
    """A finished model with the layer in every place of the slot, or as it came.

    Raises:
        PluginError: it is no model, or has no place for a layer.
    """
    from primitives.placement import replace_norm_act

    model = own.made_by(**wanted_arguments(own.made_by, offered))
    if not isinstance(model, nn.Module):
        raise PluginError(
            "no finished model", where=own.line(), expected="an nn.Module",
            got=type(model).__name__,
        )  # fmt: skip
    if getattr(layer, "baseline", None) == ORIGINAL:
        return model
    graph = getattr(layer, "graph", None)
    if graph is None:
        raise PluginError(
            "a finished model takes layers that are formulas", where=own.where,
            got=str(getattr(layer, "baseline", layer)),
            hint=f'use the baseline "{ORIGINAL}", the model as it came',
        )  # fmt: skip
    groups = getattr(layer, "group_count", None)
    try:
        placed = replace_norm_act(model, graph, own.slot, groups=groups, report=None)
    except LayerError as err:
        raise PluginError(
            f"no layer of slot {own.slot} fits into the finished model: {err.what}",
            where=own.line(), expected=err.expected, got=err.got, hint=err.hint,
        ) from err  # fmt: skip
    note = getattr(layer, "note_placement", None)
    if note is not None:
        note(placed.rows)
    return placed.model


def placement(model: nn.Module, layers: list[nn.Module]) -> list[Placed]:
    """Where the layers ended up in the network; a layer that is in no place is said to be so."""
    paths = {id(module): path for path, module in model.named_modules()}
    rows = []
    for layer in layers:
        channels = str(getattr(layer, "num_features", "") or _channels(layer))
        path = paths.get(id(layer))
        rows.append(Placed(path or "-", channels, "placed" if path else "built and not used"))
    return rows


def _channels(layer: nn.Module) -> str:
    for parameter in layer.parameters():
        return str(parameter.numel())
    return ""


def finite(value: Tensor) -> bool:
    """Whether all its numbers are finite."""
    return bool(torch.isfinite(value).all())
