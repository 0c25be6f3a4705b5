"""Records what users of exported layers keep: ``python -m tests.golden.make_layer_states``.

Keys and shapes of every layer's ``state_dict``, its constructor, and for two layers weights with
what they compute. Saved models hold these keys, so the command adds layers that are new and refuses
to change one that is recorded; only ``--break`` does, with a changelog line for users.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from primitives.artefacts import artefact
from primitives.catalog import CATALOG

FILE = Path(__file__).parent / "layer_states.json"
CHANNELS = 8
WITH_WEIGHTS = ("evonorm-b0", "evonorm-s0")


def exported(name: str) -> Any:
    """The class in the exported Python file of a layer of the catalog."""
    space: dict[str, Any] = {"__name__": "layer"}
    exec(compile(artefact(CATALOG[name].graph, "python"), "layer.py", "exec"), space)
    return space["EvolvedLayer"]


def recorded(name: str) -> dict[str, Any]:
    """Constructor and state of a layer: key -> [type, *shape], in order."""
    kind = exported(name)
    state = kind(CHANNELS).state_dict()
    return {
        "constructor": str(inspect.signature(kind)),
        "state": {
            key: [str(value.dtype).removeprefix("torch."), *value.shape]
            for key, value in state.items()
        },
    }


def computed(layer: nn.Module, x: torch.Tensor) -> dict[str, Any]:
    """What a layer gives in evaluation mode, then in training mode."""
    with torch.no_grad():
        return {"evaluation": layer.eval()(x).tolist(), "training": layer.train()(x).tolist()}


def with_weights(name: str) -> dict[str, Any]:
    """A state that is not the initial one, an input, and what comes of them."""
    rng = torch.Generator().manual_seed(11)
    layer: nn.Module = exported(name)(CHANNELS, groups=2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
        for _ in range(3):
            layer(2 * torch.randn(4, CHANNELS, 3, 3, generator=rng) + 0.5)
    state = {key: value.tolist() for key, value in layer.state_dict().items()}
    x = 2 * torch.randn(2, CHANNELS, 2, 3, generator=rng) + 0.5
    return {"state": state, "input": x.tolist(), **computed(layer, x)}


def main() -> int:
    """Adds what is new; says what differs."""
    old: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    new: dict[str, Any] = {
        "layers": {name: recorded(name) for name in CATALOG},
        "weights": {name: with_weights(name) for name in WITH_WEIGHTS},
    }
    changed = [
        name for name, one in old.get("layers", {}).items() if new["layers"].get(name) != one
    ]
    if changed and "--break" not in sys.argv[1:]:
        print(f"changed, and saved models hold the old keys: {', '.join(changed)}; --break records")
        return 1
    if old and "--break" not in sys.argv[1:]:
        new["weights"] = old["weights"]
    parts = []
    for part, entries in new.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in entries.items()]
        parts.append(f" {json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n }")
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
