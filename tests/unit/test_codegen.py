"""Generated layers mean what the interpreter says: value, gradient, both modes, all shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import pytest
import torch
from known_graphs import V0, V1, ZERO, Build, X, viable_graphs
from torch import Tensor, nn

from primitives.catalog import CATALOG
from primitives.graph import FIRST_OP, Graph, Node
from primitives.groups import group_count
from primitives.interpret import batch_moments_of, interpret
from primitives.module import build_layer, layer_class
from primitives.ops import AGGREGATIONS, INDEX_SETS, INITIAL_NODES, OPS, V_INIT

PAPER = list(islice(viable_graphs(seed=11), 400))
EXTENDED = list(islice(viable_graphs(seed=12, op_set="extended+token"), 100))
RANDOM = [*PAPER, *EXTENDED]
SHAPES = [
    (4, 8, 5, 5), (1, 8, 3, 3), (3, 8, 1, 1), (1, 6, 1, 1), (2, 7, 3, 2), (2, 70, 2, 2),
    (2, 6, 5), (2, 6, 2, 3, 2), (2, 1, 3, 3),
]  # fmt: skip
"""One example, one position, channels that 32 does not divide, a single one, one and three axes."""


@contextmanager
def path(graph: Graph, plain: bool) -> Iterator[None]:
    """The layer's fast eager steps, or the plain expressions that other devices compute."""
    names: dict[str, Any] = layer_class(graph).forward.__globals__  # type: ignore[attr-defined]
    before = names.get("_eager")
    if plain and before is not None:
        names["_eager"] = lambda x: False
    try:
        yield
    finally:
        if before is not None:
            names["_eager"] = before


class Case(NamedTuple):
    """An input, every vector by name, and the moments of evaluation mode (None: training)."""

    x: Tensor
    cotangent: Tensor
    vectors: dict[str, Tensor]
    moments: dict[int, Tensor] | None

    def changed(self, change: Callable[[Tensor], Tensor]) -> Case:
        """The same with inputs, vectors and moments changed."""
        vectors = {name: change(vector) for name, vector in self.vectors.items()}
        moments = self.moments
        if moments is not None:
            moments = {index: change(moment) for index, moment in moments.items()}
        return Case(change(self.x), self.cotangent, vectors, moments)

    def to(self, dtype: torch.dtype) -> Case:
        changed = self.changed(lambda tensor: tensor.to(dtype))
        return changed._replace(cotangent=self.cotangent.to(dtype))

    def channels_last(self) -> Case:
        """The same numbers with the channels innermost in memory, where there are two positions."""
        if self.x.ndim != 4:
            return self
        x, cotangent = (
            tensor.to(memory_format=torch.channels_last) for tensor in (self.x, self.cotangent)
        )
        return self._replace(x=x, cotangent=cotangent)

    def nudged(self) -> Case:
        """The same with every number changed by a relative 1e-9."""
        rng = torch.Generator().manual_seed(5)

        def change(tensor: Tensor) -> Tensor:
            noise = torch.randn(tensor.shape, generator=rng, dtype=tensor.dtype)
            return tensor * (1 + 1e-9 * noise)

        return self.changed(change)


def case(graph: Graph, shape: tuple[int, ...], training: bool, seed: int = 0) -> Case:
    rng = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=rng, dtype=torch.float64)

    channels = shape[1]
    vectors = {name: start + 0.5 * normal(channels) for name, start in V_INIT.items()}
    other = normal(*shape)
    moments = None
    if not training:
        moments = batch_moments_of(
            graph, other, vectors["v0"], vectors["v1"], groups=group_count(channels),
            vectors=vectors,
        )  # fmt: skip
    return Case(normal(*shape), normal(*shape), vectors, moments)


def live_vectors(graph: Graph) -> list[str]:
    """Names of the trainable vectors that the layer's value depends on."""
    live = {graph.node(index).op for index in graph.live_ops()}
    live |= {INITIAL_NODES[index] for index in graph.live() if index < FIRST_OP}
    return [name for name in V_INIT if name in live]


def by_interpreter(graph: Graph, given: Case) -> list[Tensor]:
    """Value and gradients with respect to x and the live parameters."""
    x = given.x.detach().clone().requires_grad_()
    own = {name: vector.clone().requires_grad_() for name, vector in given.vectors.items()}
    value = interpret(
        graph, x, own["v0"], own["v1"], groups=group_count(x.shape[1]),
        batch_moments=given.moments, vectors=own,
    )  # fmt: skip
    wanted = [x, *(own[name] for name in live_vectors(graph))]
    gradients = torch.autograd.grad(
        value, wanted, given.cotangent, allow_unused=True, materialize_grads=True
    )
    return [value.detach(), *gradients]


def prepared(graph: Graph, given: Case) -> nn.Module:
    """The generated layer with the case's parameters and moving averages."""
    layer = build_layer(graph, given.x.shape[1], affine=False, dtype=given.x.dtype)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(given.vectors[name])
    if given.moments is not None:
        layer.eval()
        buffers = dict(layer.named_buffers())
        for index, moment in given.moments.items():
            kind = OPS[graph.node(index).op].moment
            assert kind is not None
            name = f"running_{kind.name}_{index}"
            if name in buffers:  # equal nodes share the first one's
                buffers[name].copy_(moment.flatten()[: len(buffers[name])])
    return layer


def by_layer(graph: Graph, given: Case) -> list[Tensor]:
    """The same of the generated layer; a parameter that was folded away has gradient zero."""
    layer = prepared(graph, given)
    x = given.x.detach().clone().requires_grad_()
    value = layer(x)
    own = dict(layer.named_parameters())
    unused = torch.zeros_like(given.vectors["v0"], requires_grad=True)
    wanted = [x, *(own.get(name, unused) for name in live_vectors(graph))]
    gradients = torch.autograd.grad(
        value, wanted, given.cotangent, allow_unused=True, materialize_grads=True
    )
    return [value.detach(), *gradients]


def largest(values: Tensor) -> float:
    """Largest finite magnitude, 0 if there is none."""
    return values.abs()[values.isfinite()].max().item() if values.isfinite().any() else 0.0


def worst_error(graph: Graph, given: Case) -> tuple[float, int, int]:
    """(largest relative error, points dropped, points) in float64.

    A point is dropped where the interpreter itself is no guide: it is not finite, or changing all
    inputs by a relative 1e-9 changes it by more than a relative 1e-6, so that it lies on a kink or
    close to a pole. What is smaller than 1e-3 of its array, or a gradient smaller than 1e-3 of the
    value, is measured against that size.
    """
    worst, dropped, points = 0.0, 0, 0
    expected, nudged = by_interpreter(graph, given), by_interpreter(graph, given.nudged())
    floor = 1e-3 * largest(expected[0])
    for want, near, got in zip(expected, nudged, by_layer(graph, given), strict=True):
        finite = want.isfinite()
        size = want.abs() + max(1e-3 * largest(want), floor)
        steady = finite & ((near - want).abs() <= 1e-6 * size)
        dropped += int((~steady).sum())
        points += want.numel()
        error = ((got - want).abs() / size.clamp(min=1e-300))[steady]
        assert not error.isnan().any()
        worst = max(worst, error.max().item() if error.numel() else 0.0)
    return worst, dropped, points


TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
PLAIN = pytest.mark.parametrize("plain", [False, True], ids=["eager", "plain"])


@PLAIN
@TRAINING
def test_500_random_layers_equal_the_interpreter_in_float64(training: bool, plain: bool) -> None:
    failures, dropped, points = [], 0, 0
    for number, graph in enumerate(RANDOM):
        with path(graph, plain):
            error, lost, total = worst_error(graph, case(graph, (3, 6, 4, 3), training, number))
        dropped, points = dropped + lost, points + total
        if error > 1e-10:
            failures.append((error, graph.to_json_text()))
    assert not failures
    assert dropped < 0.01 * points


@PLAIN
@TRAINING
def test_500_random_layers_equal_the_interpreter_on_other_shapes(
    training: bool, plain: bool
) -> None:
    """Each on one of the shapes, every other one in channels-last."""
    failures, dropped, points = [], 0, 0
    for number, graph in enumerate(RANDOM):
        given = case(graph, SHAPES[number % len(SHAPES)], training, number)
        given = given.channels_last() if number % 2 else given
        with path(graph, plain):
            error, lost, total = worst_error(graph, given)
        dropped, points = dropped + lost, points + total
        if error > 1e-10:
            failures.append((error, tuple(given.x.shape), graph.to_json_text()))
    assert not failures
    # With one position an instance's deviation is sqrt(eps), and x - mean is rounding or nothing.
    assert dropped < 0.1 * points


@PLAIN
@TRAINING
@pytest.mark.parametrize("name", CATALOG)
def test_known_layers_equal_the_interpreter_on_every_shape(
    name: str, training: bool, plain: bool
) -> None:
    graph = CATALOG[name].graph
    for number, shape in enumerate(SHAPES):
        given = case(graph, shape, training)
        if (number + plain) % 2:
            given = given.channels_last()
        with path(graph, plain):
            error, dropped, points = worst_error(graph, given)
        assert error < 1e-10, shape
        # With one element a channel the deviation is sqrt(eps) and x - mean is rounding or nothing.
        alone = training and shape[0] * torch.Size(shape[2:]).numel() == 1
        assert alone or dropped <= 0.02 * points, shape


def float32_errors(graph: Graph, given: Case) -> list[tuple[float, float]]:
    """(interpreter, layer): worst float32 error of each array relative to its largest value."""
    rounded, exact = given.to(torch.float32), given.to(torch.float32).to(torch.float64)
    reference, near = by_interpreter(graph, exact), by_interpreter(graph, exact.nudged())
    errors = []
    for want, moved, plain, got in zip(
        reference, near, by_interpreter(graph, rounded), by_layer(graph, rounded), strict=True
    ):
        scale = max(want.abs().max().item(), 1e-3 * largest(reference[0]))
        steady = (moved - want).abs() <= 1e-6 * (want.abs() + 1e-3 * scale)
        kept = torch.where(steady, want, torch.zeros_like(want))
        both = [torch.where(steady, value, kept) for value in (plain, got)]
        one, other = ((value - kept).abs().max().item() / scale for value in both)
        errors.append((one, other))
    return errors


@PLAIN
@TRAINING
def test_float32_rounds_at_most_100_times_the_interpreter(training: bool, plain: bool) -> None:
    """Rounding is a matter of luck, so each side shows its worst of three inputs."""
    failures, left_out = [], 0
    known = [entry.graph for entry in CATALOG.values()]
    for number, graph in enumerate([*known, *RANDOM[:: 4 if plain else 1]]):
        with path(graph, plain):
            runs = [
                float32_errors(graph, case(graph, (3, 6, 4, 3), training, 1000 * draw + number))
                for draw in range(3)
            ]
        for arrays in zip(*runs, strict=True):
            rounded, got = (max(side) for side in zip(*arrays, strict=True))
            if not rounded < float("inf"):  # float32 overflows in the interpreter too
                left_out += 1
            elif not got <= 100 * max(rounded, 2**-24):
                failures.append((rounded, got, graph.to_json_text()))
    assert not failures
    assert left_out < 10


def test_the_plain_path_is_another_than_the_eager_one() -> None:
    """The switch of these tests does switch."""
    graph = CATALOG["evonorm-b0"].graph
    given = case(graph, (2, 4, 3, 3), training=True)
    for plain in (False, True):
        with path(graph, plain):
            value = prepared(graph, given)(given.x.clone().requires_grad_())
        seen, waiting = set(), [value.grad_fn]
        while waiting:
            step = waiting.pop()
            if step is not None and step not in seen:
                seen.add(step)
                waiting += [after for after, _ in step.next_functions]
        assert any("_VarMean" in step.name() for step in seen) is not plain


@pytest.mark.parametrize("over", INDEX_SETS)
@pytest.mark.parametrize("op", AGGREGATIONS)
@pytest.mark.parametrize(
    "operand", ["v0", "v1", "zero", "one", "std_batch", "std_sample", "rms_group", "mean_token"]
)
def test_moments_of_reduced_values_and_constants(op: str, over: str, operand: str) -> None:
    b = Build()
    if "_" in operand:
        inner, index_set = operand.split("_")
        source = b(inner, X, over=index_set)
    else:
        source = {"v0": V0, "v1": V1, "zero": ZERO}.get(operand)
        source = b("exp", ZERO) if source is None else source
    b("add", X, b("mul", X, b(op, source, over=over)))
    graph = b.graph()
    for training in (True, False):
        error, dropped, points = worst_error(graph, case(graph, (3, 6, 2, 2), training))
        assert error < 1e-10
        # The deviation of what is constant is rounding noise in the interpreter's gradient only.
        assert dropped <= 0.1 * points


def test_constants_are_folded_but_never_those_that_depend_on_eps() -> None:
    b = Build()
    b("mul", X, b("sqrt", b("exp", ZERO)))
    layer = build_layer(b.graph(), 2, eps=0.5, dtype=torch.float64)
    x = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    assert layer(x).flatten().tolist() == pytest.approx([1.5**-0.5] * 2)
    pole = Build()
    pole("max", X, pole("div", ZERO, ZERO))
    assert build_layer(pole.graph(), 2)(x.float()).isnan().all()


def test_output_that_does_not_vary_still_has_the_inputs_shape() -> None:
    x = torch.randn(2, 4, 3, 3, generator=torch.manual_seed(0))
    for node in (Node("std", (X,), "batch"), Node("exp", (ZERO,)), Node("mean", (X,), "token")):
        assert build_layer(Graph((node,)), 4)(x).shape == x.shape
    assert torch.equal(build_layer(Graph((Node("add", (X, ZERO)),)), 4)(x), x)


def test_relu_call_is_kept_from_places_where_ties_last() -> None:
    b = Build()
    b("add", X, b("max", b("mul", V0, X), ZERO))
    layer = build_layer(b.graph(), 2)
    x = torch.rand(2, 2, 3, 3, generator=torch.manual_seed(0))
    layer(x).sum().backward()
    # v0 starts at zero: a relu would give it no gradient and leave it there for good.
    (v0,) = (parameter for name, parameter in layer.named_parameters() if name == "v0")
    assert v0.grad is not None
    assert torch.allclose(v0.grad, 0.5 * x.sum((0, 2, 3)))
