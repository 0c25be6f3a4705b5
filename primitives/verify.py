"""Checks what is given away against the interpreter: code text, and saved programs by their runs.

An artefact that fails is an error and no file. Nothing here writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from primitives.errors import LayerError
from primitives.graph import Graph
from primitives.interpret import batch_moments_of, interpret
from primitives.numbering import Numbering
from primitives.ops import OPS, V_INIT

CLASS_NAME = "EvolvedLayer"
CHANNELS = 8
GROUPS = 2
TOLERANCE = 1e-9
"""Largest relative difference of generated code to the interpreter, in float64."""

PROGRAM_TOLERANCE = 1e-4
"""The same for saved float32 programs."""

ROUNDING = 3e-7
"""Relative change of the inputs that a float32 program may answer to: a few times its rounding."""

SMALLEST = 1e-3
"""Elements below this are compared as if they were as large."""


VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    ", recompute": {"recompute": True},
    ", layout nhwc": {"layout": "nhwc"},
    ", layout btc": {"layout": "btc"},
}
"""What is said of a failure -> the constructor's options that are checked."""


def verify_source(source: str, graph: Graph) -> None:
    """Compare the text's class with the interpreter: both modes, gradients, layouts, recompute.

    Values are compared everywhere; gradients where the interpreter's own are steady, which they
    are not on a kink or beside a pole.

    Raises:
        LayerError: an output or a gradient differs.
    """
    namespace: dict[str, Any] = {"__name__": "evosearch_export_check"}
    exec(compile(source, "<export>", "exec"), namespace)
    generator = torch.Generator().manual_seed(20)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def made(**options: Any) -> Any:
        # With momentum 1 the moving averages are those of the last batch.
        return namespace[CLASS_NAME](
            CHANNELS, groups=GROUPS, momentum=1.0, dtype=torch.float64, **options
        )

    state = made().state_dict()
    for name, tensor in state.items():
        if name in ("weight", "bias", *V_INIT):
            tensor.add_(0.3 * normal(CHANNELS))
    first, second, cotangent = (normal(4, CHANNELS, 5, 6) for _ in range(3))
    own = {name: state.get(name, torch.zeros(CHANNELS).double()) for name in V_INIT}
    moments = batch_moments_of(
        graph, first, own["v0"], own["v1"], groups=GROUPS, vectors=own
    )  # fmt: skip
    for mode, x, known in (("training", first, None), ("evaluation", second, moments)):
        beside = x * (1 + 1e-9 * normal(*x.shape))
        meant, near = (
            _by_interpreter(graph, given, state, own, known, cotangent) for given in (x, beside)
        )
        for what, options in VARIANTS.items():
            layer = made(**options)
            layer.load_state_dict(state)
            if known is not None:
                layer(laid_out(first, layer.layout))
            layer.train(known is None)
            got = _by_layer(layer, x, cotangent)
            _compare_all(f"{mode} mode{what}", got, meant, near)


def _by_interpreter(
    graph: Graph,
    x: Tensor,
    state: dict[str, Tensor],
    own: dict[str, Tensor],
    moments: dict[int, Tensor] | None,
    cotangent: Tensor,
) -> dict[str, Tensor]:
    """Value, and gradients by name of what they are taken with respect to."""
    given = {"x": x} | own | {name: state[name] for name in ("weight", "bias")}
    given = {name: tensor.detach().clone().requires_grad_() for name, tensor in given.items()}
    value = interpret(
        graph, given["x"], given["v0"], given["v1"], groups=GROUPS, batch_moments=moments,
        vectors={name: given[name] for name in V_INIT},
    )  # fmt: skip
    shape = (1, CHANNELS, 1, 1)
    value = value * given["weight"].view(shape) + given["bias"].view(shape)
    return {"value": value.detach(), **_gradients(value, given, cotangent)}


def _by_layer(layer: nn.Module, x: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
    """The same of the text's layer, with channels on axis 1 whatever its layout."""
    x = x.detach().clone().requires_grad_()
    value: Tensor = layer(laid_out(x, str(layer.layout)))
    if layer.layout != "nchw":
        value = value.movedim(-1, 1).reshape(x.shape)
    given = {"x": x, **dict(layer.named_parameters())}
    return {"value": value.detach(), **_gradients(value, given, cotangent)}


def _gradients(
    value: Tensor, given: dict[str, Tensor], cotangent: Tensor
) -> dict[str, Tensor]:  # fmt: skip
    found = torch.autograd.grad(
        value, list(given.values()), cotangent, allow_unused=True, materialize_grads=True
    )
    return dict(zip(given, found, strict=True))


def laid_out(x: Tensor, layout: str) -> Tensor:
    """(N, C, *spatial) as a layer of that layout takes it."""
    if layout == "nchw":
        return x
    last = x.movedim(1, -1)
    return last.flatten(1, -2) if layout == "btc" else last


def _compare_all(
    where: str, got: dict[str, Tensor], meant: dict[str, Tensor], near: dict[str, Tensor]
) -> None:
    compare(where, got["value"], meant["value"], TOLERANCE, (near["value"],))
    floor = _least(meant["value"])
    for name, found in got.items():
        want = meant[name]
        # A gradient is measured against its own size, and a small one against the value's.
        size = want.abs() + max(_least(want), floor, 1e-12)
        steady = want.isfinite() & ((near[name] - want).abs() <= 1e-6 * size)
        kept = torch.where(steady, want, torch.zeros_like(want))
        compare(
            f"{where}, gradient of {name}" if name != "value" else where,
            torch.where(steady, found, kept) / size.clamp(max=torch.finfo(size.dtype).max),
            kept / size.clamp(max=torch.finfo(size.dtype).max), TOLERANCE, scale=1.0,
        )  # fmt: skip


def _least(values: Tensor) -> float:
    """The size below which differences do not count: small beside the largest and the usual."""
    known = values[values.isfinite()].abs()
    return min(1e-3 * float(known.max()), _usual(values)) if known.numel() else 0.0


def _usual(values: Tensor) -> float:
    """The median size of the elements that are finite and not zero; 0 where there are none."""
    known = values[values.isfinite() & (values != 0)].abs()
    return float(known.median()) if known.numel() else 0.0


def free_sizes(channels: int) -> list[tuple[int, int]]:
    """Two or more sizes of positions that, alone or multiplied, are no number of channels."""
    pairs = ((8, 9), (6, 10), (7, 11))
    return [(high, wide) for high, wide in pairs if channels not in (high, wide, high * wide)]


def verify_program(
    run: Callable[[Tensor], Tensor], layer: nn.Module, graph: Graph, what: str
) -> None:
    """Compare a saved program with the interpreter in evaluation mode, on three shapes.

    Raises:
        LayerError: an output differs by more than 1e-4, beyond what rounding explains.
    """
    channels, groups = int(layer.num_features), int(layer.groups or 1)  # type: ignore[arg-type]
    layout = str(layer.layout)
    generator = torch.Generator().manual_seed(21)
    size, other = free_sizes(channels)[:2]
    for shape in ((2, channels, *size), (5, channels, *size), (1, channels, *other)):
        x = torch.randn(shape, generator=generator)
        beside = [
            x * (1 + ROUNDING * torch.randn(x.shape, generator=generator)) for _ in range(3)
        ]  # fmt: skip
        meant, *near = (
            laid_out(meaning(graph, layer, one, groups), layout) for one in (x, *beside)
        )
        given = laid_out(x, layout).contiguous()
        got = run(given).detach()
        compare(f"{what}, input {tuple(given.shape)}", got, meant, PROGRAM_TOLERANCE, near)


def meaning(graph: Graph, layer: nn.Module, x: Tensor, groups: int) -> Tensor:
    """The interpreter's value of the graph with a layer's own parameters, eps, moving averages.

    Shapes: x (N, C, *spatial), whatever the layer's layout.
    """
    state = {name: value.detach() for name, value in layer.state_dict().items()}
    channels = x.shape[1]
    shape = (1, -1, *[1] * (x.ndim - 2))
    weight = state.get("weight", torch.ones(channels)).view(shape)
    bias = state.get("bias", torch.zeros(channels)).view(shape)
    if not layer.apply_act:
        affine: Tensor = x * weight + bias
        return affine
    eps = float(layer.eps)  # type: ignore[arg-type]
    vectors = {
        name: state.get(name, torch.full((channels,), start)) for name, start in V_INIT.items()
    }
    v0, v1 = vectors["v0"], vectors["v1"]
    own = batch_moments_of(graph, x, v0, v1, groups=groups, eps=eps, vectors=vectors)
    moments = {}
    numbering = Numbering(graph)  # nodes of one value share a step, and the step's buffer
    for index, batch in own.items():
        row = OPS[graph.node(index).op].moment
        assert row is not None
        step = numbering.steps[numbering.place[index]]
        kept = state.get(f"running_{row.name}_{step.node}")
        moments[index] = batch if kept is None else kept.view(shape)
    value = interpret(
        graph, x, v0, v1, groups=groups, eps=eps, batch_moments=moments, vectors=vectors
    )
    with_affine: Tensor = value * weight + bias
    return with_affine


def compare(
    where: str,
    got: Tensor,
    meant: Tensor,
    tolerance: float,
    near: Sequence[Tensor] = (),
    scale: float | None = None,
) -> None:
    """Nothing, if the tensors are equal element by element, within the tolerance.

    The tolerance is relative: to the element, or to ``scale`` where that is larger. Infinities and
    NaN must stand in the same places.

    ``near``: what is meant at inputs that rounding does not tell apart. An element that differs
    there may differ ten times as much, and one that is finite in some of them only may be anything.
    ``scale``: None is the usual size of what is meant, so that no large element excuses others.

    Raises:
        LayerError: they are not.
    """
    if got.shape != meant.shape:
        raise _differs(where, tolerance, f"shape {tuple(got.shape)}, not {tuple(meant.shape)}")
    floor = max(SMALLEST, _usual(meant)) if scale is None else scale
    allowed = tolerance * meant.abs().nan_to_num(0.0, posinf=0.0).clamp(min=floor)
    for other in near:
        allowed = allowed + 10 * _distance(other, meant)
    wrong = _distance(got, meant) > allowed
    if bool(wrong.any()):
        raise _differs(
            where, tolerance,
            f"{float(got[wrong][0]):.6g}, not {float(meant[wrong][0]):.6g}, in the first of "
            f"{int(wrong.sum())} of {wrong.numel()} elements",
        )  # fmt: skip


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """Absolute differences; equal infinities and two NaN differ by 0, other such by infinity."""
    alike = (one == other) | (one.isnan() & other.isnan())
    return (one - other).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill(alike, 0.0)


def _differs(where: str, tolerance: float, got: str) -> LayerError:
    return LayerError(
        "the export differs from what the graph means; no file was written",
        where=where,
        expected=f"equal within {tolerance:g}",
        got=got,
        hint="export it as json, and report this graph",
    )
