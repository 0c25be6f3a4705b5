"""The numpy probe computes what the interpreter means, and its verdicts are the declared ones."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from known_graphs import KNOWN, V0, V1, ZERO, Build, X, random_graph, viable_graphs

from primitives.formula import parse
from primitives.graph import Graph, Node
from primitives.interpret import batch_moments_of, interpret
from primitives.moments import batch_statistics
from primitives.ops import V_INIT, VECTORS
from primitives.printer import format_formula
from primitives.probe import (
    FAULT_PROBE,
    Inputs,
    Response,
    _fault,
    evaluation_moments,
    make_inputs,
    probe_fault,
    respond,
)

EXTENDED = islice(viable_graphs(seed=6, op_set="extended+token"), 150)
GRAPHS = [*KNOWN.values(), *islice(viable_graphs(seed=5), 200), *EXTENDED]
INPUTS = make_inputs(31, (3, 4, 5), 2, (1.0,))
CORNERS = [-0.6264939813601653, -5.561563976182752, 0.16294223751359546]


def tensors(inputs: Inputs, probe: int) -> tuple[torch.Tensor, ...]:
    """x (N, C, S), v0, v1 (C,), cotangent of one probe, ready for gradients."""
    x, cotangent = (torch.tensor(a[probe]) for a in (inputs.x, inputs.cotangent))
    v0, v1 = (torch.tensor(a.reshape(-1)) for a in (inputs.v0, inputs.v1))
    return x.requires_grad_(), v0.requires_grad_(), v1.requires_grad_(), cotangent


def vectors_of(inputs: Inputs) -> dict[str, torch.Tensor]:
    own = inputs.vectors.items()
    return {name: torch.tensor(a.reshape(-1)).requires_grad_() for name, a in own}


def reference(graph: Graph, moments_from: int | None) -> list[np.ndarray]:
    """Values (P, N, C, S) and gradients by the interpreter; moments: the neighbour's or its own."""
    values, by_x = [], []
    by_vector: list[list[np.ndarray]] = [[] for _ in V_INIT]
    for probe in range(len(INPUTS.x)):
        x, v0, v1, cotangent = tensors(INPUTS, probe)
        vectors = vectors_of(INPUTS)
        moments = None
        if moments_from is not None:
            other = tensors(INPUTS, probe ^ 1)
            with torch.no_grad():
                moments = batch_moments_of(graph, *other[:3], groups=2, vectors=vectors)
        value = interpret(graph, x, v0, v1, groups=2, batch_moments=moments, vectors=vectors)
        wanted = (x, v0, v1, *vectors.values())
        grads = torch.autograd.grad(
            value, wanted, cotangent, allow_unused=True, materialize_grads=True
        )
        values.append(value.detach().numpy())
        for into, gradient in zip((by_x, *by_vector), grads, strict=True):
            into.append(gradient.numpy())
    return [np.stack(values), np.stack(by_x), *(np.sum(parts, 0) for parts in by_vector)]


def assert_equal_response(got: Response, expected: list[np.ndarray]) -> None:
    value = np.broadcast_to(got.value, INPUTS.x.shape)
    scale = np.abs(expected[0]).max()
    np.testing.assert_allclose(value, expected[0], rtol=1e-10, atol=1e-13 * scale)
    gradients = (*got.gradients, *(got.by_vector.get(name) for name in VECTORS))
    for gradient, want in zip(gradients, expected[1:], strict=True):
        if gradient is None:
            assert np.abs(want).max() <= 1e-12 * scale
            continue
        atol = 1e-12 * max(np.abs(want).max(), scale)
        np.testing.assert_allclose(gradient.reshape(want.shape), want, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("first", range(0, len(GRAPHS), 53))
def test_responses_equal_the_interpreter_in_both_modes(first: int) -> None:
    for graph in GRAPHS[first : first + 53]:
        with np.errstate(all="ignore"):
            training = respond(graph, INPUTS)
            moments = evaluation_moments(graph, training)
            assert_equal_response(training, reference(graph, None))
            assert (moments is None) == (not batch_statistics(graph))
            if moments is not None:
                evaluated = respond(graph, INPUTS, moments)
                assert_equal_response(evaluated, reference(graph, 1))


@pytest.mark.parametrize("name", KNOWN)
def test_known_layers_have_no_fault(name: str) -> None:
    assert probe_fault(KNOWN[name]) is None


def graph_of(text: str) -> Graph:
    b = Build()
    if text == "exp(exp(exp(x)))":
        b("exp", b("exp", b("exp", X)))
    elif text == "x / 0":
        b("div", X, ZERO)
    elif text == "log-pole gradient":
        b("div", V1, b("mul", X, V0))
    elif text == "x / x":
        b("div", X, X)
    elif text == "v1":
        b("mul", V1, V1)
    elif text == "std_instance(x)":
        b("std", X, over="instance")
    elif text == "x * v0":
        b("mul", X, V0)
    elif text == "sign":
        b("div", X, b("abs", X))
    elif text == "0 * x + noise":
        b("add", b("mul", ZERO, X), b("exp", ZERO))
    return b.graph()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("exp(exp(exp(x)))", "not_finite"),
        ("x / 0", "not_finite"),
        ("log-pole gradient", "not_finite"),
        ("x / x", "constant"),
        ("v1", "constant"),
        ("std_instance(x)", "constant"),
        ("x * v0", "constant"),
        ("0 * x + noise", "constant"),
        ("sign", "no_gradient"),
    ],
)
def test_verdicts(text: str, fault: str) -> None:
    assert probe_fault(graph_of(text)) == fault


def test_a_fault_that_shows_in_evaluation_mode_only_is_found() -> None:
    """sign(x) * std_batch(x): what gradient there is flows through the batch's statistic."""
    b = Build()
    b("mul", b("div", X, b("abs", X)), b("std", X, over="batch"))
    graph = b.graph()
    with np.errstate(all="ignore"):
        training = respond(graph, FAULT_PROBE)
        moments = evaluation_moments(graph, training)
        evaluated = respond(graph, FAULT_PROBE, moments)
    assert _fault(training) is None
    assert _fault(evaluated) == probe_fault(graph) == "no_gradient"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # Each is finite on random inputs; two of them led searches until a seed met the zero.
        (
            "a = abs(x); b = rms_batch(x); c = rms_sample(a); a / max(b / c, b / a) / c",
            "not_finite",
        ),
        ("abs(x) / max(sigmoid(v0), max(rms_batch(x), rms_batch(x) / tanh(x)))", "not_finite"),
        ("x / max(rms_batch(x), v1 / x)", "not_finite"),
        ("a = x + -mean_batch(x); abs(x) / max(rms_batch(x), v1 / a)", "not_finite"),
        ("a = x * v1 + v0; abs(x) / max(rms_batch(x), v1 / a)", "not_finite"),
        ("abs(x) / max(rms_batch(x), abs(x))", None),
        ("x / max(x, v1 + -x)", None),
        ("sqrt(x) * log(x) / rms_batch(x)", None),
    ],
)
def test_a_slope_that_is_not_finite_at_a_zero_is_a_fault(text: str, fault: str | None) -> None:
    graph = parse(text)
    with np.errstate(all="ignore"):
        assert _fault(respond(graph, FAULT_PROBE)) is None
    assert probe_fault(graph) == fault


def test_without_a_fault_no_single_zero_breaks_a_training_step() -> None:
    rng = np.random.default_rng(3)
    for graph in GRAPHS:
        x, v0, v1, cotangent = tensors(FAULT_PROBE, 0)
        with torch.no_grad():
            x.view(-1)[rng.integers(x.numel())] = 0.0
        value = interpret(graph, x, v0, v1, groups=2, vectors=vectors_of(FAULT_PROBE))
        grads = torch.autograd.grad(
            value, (x, v0, v1), cotangent, allow_unused=True, materialize_grads=True
        )
        assert all(one.isfinite().all() for one in (value, *grads)), format_formula(graph)


def test_random_graphs_never_crash_and_get_a_known_verdict() -> None:
    rng = np.random.default_rng(2)
    verdicts = {probe_fault(random_graph(rng)) for _ in range(3000)}
    assert {None, "constant", "not_finite"} <= verdicts
    assert verdicts <= {None, "constant", "not_finite", "no_gradient"}


def test_probe_is_a_constant() -> None:
    """The stream of this generator is frozen; with other figures old searches replay otherwise."""
    corners = [FAULT_PROBE.x[0, 0, 0, 0], FAULT_PROBE.x[-1, -1, -1, -1]]
    corners.append(FAULT_PROBE.cotangent[0, 0, 0, 0])
    assert corners == pytest.approx(CORNERS, rel=1e-12)
    assert FAULT_PROBE.x.std(axis=(1, 2, 3)).round(1).tolist() == pytest.approx(
        [1.0, 1.0, 10.0, 10.0], rel=0.3
    )
    assert FAULT_PROBE.v0.max() == 0
    assert FAULT_PROBE.v1.min() == 1


def test_moments_of_parameters_are_not_swapped_between_probes() -> None:
    b = Build()
    b("mul", X, b("rms", V1, over="batch"))
    training = respond(b.graph(), INPUTS)
    assert evaluation_moments(b.graph(), training) is None
    graph = Graph((Node("mean", (X,), "batch"), Node("add", (X, 4))))
    moments = evaluation_moments(graph, respond(graph, INPUTS))
    assert moments is not None
    own = INPUTS.x.mean(axis=(1, 3), keepdims=True)
    np.testing.assert_allclose(moments[4], own[[1, 0]], rtol=1e-12, atol=1e-15)
