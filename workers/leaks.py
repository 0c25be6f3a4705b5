"""Whether a network lets one row of a batch, or a later position, reach another: by trying it.

The input of the network is changed in one place, and outputs that must not know of it are compared.
What the user's code passes to its network is seen by hooks, so that nothing need be said about a
batch; where that does not do, the task has a method ``forward(model, batch)``. Nothing is proved
where nothing is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from primitives.placement import Row
from workers.layers import LayerFactory
from workers.own_batches import seeded
from workers.own_evaluator import OwnEvaluation
from workers.own_task import OwnTraining
from workers.training import Training, undisturbed

TOLERANCE = 1e-4
MOST_CALLS = 8


class NotedLayers(LayerFactory):
    """A factory that remembers the layers it has built, and what became of a finished model."""

    def __init__(self, made: LayerFactory, groups: int, slot: Any) -> None:
        super().__init__(None, made.baseline, groups, slot)
        self.built: list[nn.Module] = []
        self.placed: list[Row] = []

    def note_placement(self, rows: Sequence[Row]) -> None:
        """Where they went in a finished model."""
        self.placed += rows

    def __call__(self, num_features: int) -> nn.Module:
        self.built.append(super().__call__(num_features))
        return self.built[-1]


@dataclass(frozen=True, slots=True)
class Look:
    """What came of it. ``leaks``: None where it could not be tried; ``text`` says why."""

    leaks: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """Something to try: a function of a batch or of a network's arguments.

    ``by_position``: an output of as many positions as an input has is known to stand for them.
    """

    function: Callable[[Any], Any]
    given: Any
    module: nn.Module
    by_position: bool = True


def leaks_of(training: Training, axis: str, layout: str, layers: NotedLayers) -> Look:
    """Look into the network of a training.

    ``axis``: batch or positions. ``layout``: of what the layers are given.
    """
    if axis == "positions" and layout == "bchw":
        return _of_layers(layers)
    if not isinstance(training, OwnTraining):
        network = training.network.train()
        call = Call(lambda given: network(*given), (training.batch(0)[0],), network)
        found = _tried([call], axis, layout)
        return _of_layers(layers) if found.leaks is None and axis == "positions" else found
    network, batch = training.network.train(), training.own_batch(0)
    forward = getattr(training.instance, "forward", None)
    if callable(forward):
        call = Call(lambda given: forward(network.model, given), batch, network, by_position=False)
        return _tried([call], axis, layout)
    with _recorded(layers.built) as calls, torch.no_grad(), undisturbed(network), seeded(0):
        training.own_loss(network.model, batch)
    found = _tried([one for one in calls if one.module is network.model] or calls, axis, layout)
    if found.leaks is not None:
        return found
    return replace(found, text=f"{found.text}; add a method forward(self, model, batch) that "
                   f"returns the outputs as {_shape(layout)}")  # fmt: skip


def leaks_of_evaluator(work: OwnEvaluation, axis: str, layout: str, layers: NotedLayers) -> Look:
    """Look into the networks that a user's evaluator calls as it runs."""
    if axis == "positions" and layout == "bchw":
        return _of_layers(layers)
    with _recorded(layers.built) as calls:
        work.evaluate()
    found = _tried(calls, axis, layout)
    if found.leaks is not None:
        return found
    return replace(found, text=f"{found.text}; call the network as a module, with outputs "
                   f"as {_shape(layout)}")  # fmt: skip


def _shape(layout: str) -> str:
    return "(rows, channels, positions)" if layout == "bct" else "(rows, positions, ...)"


@contextmanager
def _recorded(layers: Sequence[nn.Module]) -> Iterator[list[Call]]:
    """Within it the first outermost call of each module that holds one of the layers is kept."""
    calls: list[Call] = []
    depth = 0

    def enter(module: nn.Module, given: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(module: nn.Module, given: Any, named: dict[str, Any], output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth or len(calls) >= MOST_CALLS or any(one.module is module for one in calls):
            return
        if any(part is layer for part in module.modules() for layer in layers):
            kept = _mapped((given, dict(named)), lambda one: one.detach().clone())
            calls.append(Call(lambda both: module(*both[0], **both[1]), kept, module))

    hooks = (
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave, with_kwargs=True, always_call=True),
    )
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
            # torch forgets this entry, and then calls modules the slow way, compiled ones with a
            # warning, for as long as the process lives.
            nn.modules.module._global_forward_hooks_with_kwargs.pop(hook.id, None)


def _tried(calls: Sequence[Call], axis: str, layout: str) -> Look:
    """The worst of the calls."""
    if not calls:
        return Look(None, "not looked at: no module that holds a layer was called")
    looks = [_try(one, axis, layout) for one in calls]
    for wanted in (True, None):
        found = [one for one in looks if one.leaks is wanted]
        if found:
            return found[0]
    return looks[0]


def _try(call: Call, axis: str, layout: str) -> Look:
    where = -1 if layout == "bct" and axis == "positions" else int(axis == "positions")
    before = _outputs(call, call.given)
    if before is None or before.ndim < 1 + (axis == "positions"):
        return Look(None, f"not looked at: the network's output has no {axis}")
    rows, count = len(before), before.shape[where]
    inputs = [one for one in _tensors(call.given) if _fits(one, rows, where, 0)]
    known = any(one.shape[where] == count for one in inputs)
    if axis == "positions" and call.by_position and not known:
        return Look(None, "not looked at: the network's output has no positions")
    reached = False
    for place in sorted({count - 1, count // 2} - {0}):
        change = partial(_changed_where_it_fits, rows=rows, where=where, place=place)
        after = _outputs(call, _mapped(call.given, change))
        if after is None or after.shape != before.shape:
            return Look(None, "not looked at: the output's shape depends on the values")
        ours, theirs = (one.float().movedim(where, 0) for one in (before, after))
        size = TOLERANCE * max(1.0, float(ours.abs().max()))
        if not float((ours - theirs)[:place].abs().max()) <= size:
            return Look(True, "a changed input reaches others")
        reached |= not float((ours - theirs)[place:].abs().max()) <= size
    if not reached:
        return Look(None, "not looked at: a changed input reaches no output at all")
    return Look(False, "none found")


def _changed_where_it_fits(tensor: Tensor, rows: int, where: int, place: int) -> Tensor:
    return _changed(tensor, where, place) if _fits(tensor, rows, where, place) else tensor


def _fits(tensor: Tensor, rows: int, where: int, place: int) -> bool:
    """Whether it has the batch's rows and that place; masks are left alone."""
    if tensor.dtype == torch.bool or not tensor.ndim or len(tensor) != rows:
        return False
    return tensor.ndim > max(where, 0) + (where < 0) and tensor.shape[where] > place


def _changed(x: Tensor, where: int, place: int) -> Tensor:
    """The input with other values of its own range in that place."""
    other = x.clone()
    there = other.movedim(where, 0)
    if x.is_floating_point():
        # Another value for each channel: a normalisation takes a common one away.
        shape, generator = there[place].shape, torch.Generator().manual_seed(place)
        noise = torch.randn(shape, generator=generator).to(x.device, x.dtype)
        there[place] = there[place] + noise * ((x.std() if x.numel() > 1 else 0.0) + 1.0)
    else:
        low, high = int(x.min()), int(x.max())
        there[place] = torch.where(there[place] < high, there[place] + 1, low)
    return other


def _outputs(call: Call, given: Any) -> Tensor | None:
    with torch.no_grad(), undisturbed(call.module), seeded(0):
        found = call.function(given)
    if isinstance(getattr(found, "logits", None), Tensor):
        found = found.logits
    return next(iter(_tensors(found)), None)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with each tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(one, change) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(one, change) for one in value))
    if type(value) in (list, tuple):
        return type(value)(_mapped(one, change) for one in value)
    return value


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(value, lambda one: found.append(one) or one)  # type: ignore[func-returns-value]
    return found


def _of_layers(layers: NotedLayers) -> Look:
    """Whether a layer lets the last position of an image reach others."""
    layer = LayerFactory.__call__(layers, 8).train()
    x = torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[..., -1, -1] += 2.0
    with torch.no_grad():
        before, after = (layer(one).flatten(2)[..., :-1] for one in (x, other))
    if not torch.allclose(before, after, atol=TOLERANCE):
        return Look(True, "the layers mix positions")
    return Look(False, "the layers mix none; what the network's own parts mix is not looked at")
