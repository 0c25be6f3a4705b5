"""Every row of the op table says the same thing in torch, numpy and sympy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy
import torch

from primitives.errors import GraphError
from primitives.extension import _added
from primitives.graph import Graph, Node
from primitives.ops import (
    AGGREGATIONS,
    COMMUTATIVE,
    CONSTANTS,
    ELEMENTWISE,
    EPS,
    INDEX_SETS,
    OP_SETS,
    OPS,
    VECTORS,
    primitive,
    typed_name,
)
from primitives.probe import _FINISH, Inputs, respond
from primitives.rewrite import canonical

SHAPE = (1, 3, 4, 5)
GROUPS = 2


def inputs_of(name: str) -> list[np.ndarray]:
    """All combinations of the row's samples that do not tie (a tie is a kink of max)."""
    row = OPS[name]
    grid = [
        values
        for values in itertools.product(row.samples, repeat=row.arity)
        if len(set(values)) == row.arity
    ]
    return [np.array(column) for column in zip(*grid, strict=True)]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_numpy_equals_torch_in_value_and_gradient(name: str) -> None:
    row = OPS[name]
    arrays = inputs_of(name)
    assert row.forward is not None
    assert row.vjp is not None
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    names = dict(zip("ab", tensors, strict=False))
    expected = eval(row.torch, {"torch": torch, "eps": EPS, **names})
    value = row.forward(*arrays, eps=EPS)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-13)
    cotangent = np.linspace(-1.0, 2.0, len(arrays[0]))
    gradients = torch.autograd.grad(expected, tensors, torch.tensor(cotangent))
    parts = row.vjp(cotangent, value, *arrays, eps=EPS)
    assert len(parts) == row.arity
    for part, gradient in zip(parts, gradients, strict=True):
        np.testing.assert_allclose(part, gradient.numpy(), rtol=1e-12, atol=1e-14)


def test_max_splits_the_gradient_of_a_tie_as_torch_does() -> None:
    tie = torch.tensor([0.4], dtype=torch.float64)
    a, b = tie.clone().requires_grad_(), tie.clone().requires_grad_()
    expected = torch.autograd.grad(torch.maximum(a, b).sum(), (a, b))
    row = OPS["max"]
    assert row.vjp is not None
    parts = row.vjp(np.ones(1), tie.numpy(), tie.numpy(), tie.numpy(), eps=EPS)
    assert [part.tolist() for part in parts] == [grad.tolist() for grad in expected]


def test_numbers_and_vectors_have_one_value_everywhere() -> None:
    inputs = Inputs(np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 2, 1)), np.ones((1, 1, 2, 1)),
                    np.ones((1, 1, 2, 3)), 1)  # fmt: skip
    for name, value in (CONSTANTS | VECTORS).items():
        got = respond(Graph((Node(name, ()),)), inputs)
        assert np.unique(got.value).tolist() == [value]
        assert (name in got.by_vector) == (name in VECTORS)
    for name, value in CONSTANTS.items():
        row = OPS[name]
        assert float(eval(row.sympy, {"sympy": sympy})) == pytest.approx(value, rel=1e-15)
        exact = eval(row.torch, {"torch": torch, "x": torch.zeros(1, dtype=torch.float64)})
        assert exact.item() == value
    assert VECTORS == {"v2": 0.0, "v3": 1.0, "v4": 1.0}


def test_ties_share_or_drop_the_gradient_as_torch_does() -> None:
    for name in ("min", "rectify"):
        row = OPS[name]
        zeros = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(row.arity)]
        value = eval(row.torch, {"torch": torch, **dict(zip("ab", zeros, strict=False))})
        expected = torch.autograd.grad(value.sum(), zeros)
        assert row.vjp is not None
        parts = row.vjp(np.ones(1), np.zeros(1), *[np.zeros(1)] * row.arity, eps=EPS)
        assert [part.tolist() for part in parts] == [grad.tolist() for grad in expected]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_sympy_form_is_the_limit_of_small_eps(name: str) -> None:
    row = OPS[name]
    assert row.forward is not None
    a, b = sympy.symbols("a b", real=True)
    exact = sympy.lambdify((a, b), eval(row.sympy, {"sympy": sympy, "a": a, "b": b}), "math")
    arrays = inputs_of(name)
    pairs = zip(arrays[0], arrays[-1], strict=True)
    expected = [float(exact(float(one), float(other))) for one, other in pairs]
    np.testing.assert_allclose(row.forward(*arrays, eps=1e-12), expected, rtol=1e-9, atol=1e-11)


def full_moment(kind: str, a: torch.Tensor, over: str) -> torch.Tensor:
    """A moment of (P, N, C, S) with the groups as an axis of their own."""
    p, n, c, s = a.shape
    split = a.reshape(p, n, GROUPS, c // GROUPS, s)
    axes = {"batch": (1, 4), "sample": (2, 3, 4), "instance": (4,), "group": (3, 4),
            "token": (2, 3)}[over]  # fmt: skip
    mean = split.mean(axes, keepdim=True)
    moment = {
        "mean": mean,
        "mean_square": (split**2).mean(axes, keepdim=True),
        "variance": ((split - mean) ** 2).mean(axes, keepdim=True),
    }[kind]
    return moment.expand_as(split).reshape(a.shape)


@pytest.mark.parametrize("over", INDEX_SETS)
@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("operand", ["x", "v1", "mean_sample(x)", "mean_token(x)"])
def test_aggregation_equals_torch_on_every_index_set(name: str, over: str, operand: str) -> None:
    moment = OPS[name].moment
    assert moment is not None
    rng = np.random.default_rng(3)
    inputs = Inputs(
        rng.normal(size=SHAPE), rng.normal(size=(1, 1, 4, 1)), rng.normal(size=(1, 1, 4, 1)),
        rng.normal(size=SHAPE), GROUPS,
    )  # fmt: skip
    source = {"x": 0, "v1": 3}.get(operand, 4)
    nodes = [Node("mean", (0,), operand.split("_")[1].split("(")[0])] if source == 4 else []
    # The product with x lets different cotangents reach every element.
    nodes += [Node(name, (source,), over), Node("mul", (0, 4 + len(nodes)))]
    got = respond(Graph(tuple(nodes)), inputs)

    x = torch.tensor(inputs.x, requires_grad=True)
    v1 = torch.tensor(inputs.v1, requires_grad=True)
    a = {"x": x, "v1": v1.expand(SHAPE)}.get(operand)
    if a is None:
        axes = (2, 3) if "sample" in operand else (2,)
        a = x.mean(axes, keepdim=True).expand(SHAPE)
    m = full_moment(moment.name, a, over)
    value = x * eval(moment.finish, {"torch": torch, "m": m, "eps": EPS})
    np.testing.assert_allclose(np.broadcast_to(got.value, SHAPE), value.detach(), rtol=1e-12)
    by_x, by_v1 = torch.autograd.grad(
        value, (x, v1), torch.tensor(inputs.cotangent), allow_unused=True
    )
    assert got.gradients[0] is not None
    np.testing.assert_allclose(got.gradients[0], by_x, rtol=1e-11, atol=1e-13)
    if by_v1 is not None:
        assert got.gradients[2] is not None
        np.testing.assert_allclose(got.gradients[2], by_v1, rtol=1e-11, atol=1e-12)


def test_probe_knows_the_finish_of_every_moment() -> None:
    for name in AGGREGATIONS:
        moment = OPS[name].moment
        assert moment is not None
        finish, vjp = _FINISH[moment.finish]
        m = torch.tensor([0.2, 1.7], dtype=torch.float64, requires_grad=True)
        value = eval(moment.finish, {"torch": torch, "m": m, "eps": EPS})
        got = finish(m.detach().numpy())
        np.testing.assert_allclose(got, value.detach(), rtol=1e-14)
        (gradient,) = torch.autograd.grad(value.sum(), m)
        np.testing.assert_allclose(vjp(np.ones(2), got), gradient, rtol=1e-13)


def applied(name: str, *values: float) -> np.ndarray:
    forward = OPS[name].forward
    assert forward is not None
    return np.asarray(forward(*np.array(values)[:, None], eps=EPS))


def is_derived(name: str) -> bool:
    """Whether the rules write the primitive by others."""
    written = canonical(Graph((Node(name, (0, 3)[: OPS[name].arity]),)))
    return name not in {node.op for node in written.nodes}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_declared_properties_hold(name: str) -> None:
    row = OPS[name]
    arrays = inputs_of(name)
    assert row.forward is not None
    value = row.forward(*arrays, eps=EPS)
    if row.arity == 1:
        flipped = row.forward(-arrays[0], eps=EPS)
        order = np.argsort(arrays[0])
        facts = {
            "odd": np.allclose(flipped, -value),
            "even": np.allclose(flipped, value),
            "positive": bool((value > 0).all()),
            "nonnegative": bool((value >= 0).all()),
            "bounded": bool((np.abs(row.forward(arrays[0] * 100, eps=EPS)) <= 1).all()),
            "increasing": bool((np.diff(value[order]) > 0).all()),
            "fixes_zero": name != "reciprocal" and bool((applied(name, 0.0) == 0).all()),
            "fixes_nonnegative": np.allclose(value[arrays[0] >= 0], arrays[0][arrays[0] >= 0]),
            "involution": np.allclose(row.forward(value, eps=EPS), arrays[0]),
            "derived": is_derived(name),
        }
    else:
        facts = {
            "commutative": np.allclose(row.forward(*arrays[::-1], eps=EPS), value),
            "idempotent": np.allclose(row.forward(arrays[0], arrays[0], eps=EPS), arrays[0]),
            "derived": is_derived(name),
        }
    implied = {"positive": "nonnegative"}
    declared = set(row.properties) | {implied[p] for p in row.properties if p in implied}
    held = {fact for fact, holds in facts.items() if holds}
    assert declared <= held
    assert {"commutative", "idempotent", "odd", "even", "derived"} & held <= declared


def test_op_sets_are_the_papers_24_and_more_by_name() -> None:
    assert len(OP_SETS["paper"]) == 24
    assert OP_SETS["extended"][:24] == OP_SETS["paper"]
    assert OP_SETS["extended+token"][:27] == OP_SETS["paper+token"]
    named = {name for name, _ in OP_SETS["extended+token"]}
    assert named == set(OPS) - _added.keys()  # another test may have added some
    assert {"erf", "softplus", "sin", "min", "rsqrt", "two", "v2"} < named
    assert set(OP_SETS["paper+token"]) - set(OP_SETS["paper"]) == {
        (name, "token") for name in AGGREGATIONS
    }
    assert frozenset({"add", "mul", "max", "min"}) == COMMUTATIVE
    assert [typed_name(*typed) for typed in OP_SETS["paper"][-2:]] == ["std_instance", "std_group"]


def test_unknown_primitive_is_refused_with_the_known_ones() -> None:
    with pytest.raises(GraphError, match=r"expected one of add, mul.*got 'relu6'"):
        primitive("relu6")
