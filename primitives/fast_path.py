"""Turns off what torch's encoder layers compute without calling the layers inside them."""

from __future__ import annotations

from torch import nn

from primitives.model_scan import is_evolved


def leave_fast_path(model: nn.Module) -> None:
    """Keep torch's encoder layers from computing a LayerNorm of their own with a layer's weights.

    In evaluation mode they call one kernel for everything, which reads ``norm1.weight`` and never
    calls ``norm1``.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and _holds_evolved(module):
            module.activation_relu_or_gelu = 0  # "neither": what the kernel cannot do
        elif isinstance(module, nn.TransformerEncoder) and _holds_evolved(module):
            module.use_nested_tensor = False


def _holds_evolved(module: nn.Module) -> bool:
    return any(is_evolved(inner) for inner in module.modules())
