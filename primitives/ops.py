"""The op table: one frozen row per primitive, and nothing about a primitive anywhere else.

Tests, docs, mutation, interpreter, probe and code generation iterate over these rows; adding a
primitive is adding a row. This file must not import torch or sympy: their functions stand here as
expression texts over the inputs ``a`` and ``b`` (and ``eps``), resolved where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from primitives.errors import GraphError

Array = NDArray[Any]
Forward = Callable[..., Array]

EPS = 1e-5
"""Default guard; the value that the authors of EvoNorm add to a variance inside its root."""

INDEX_SETS: dict[str, str] = {
    "batch": "bs",
    "sample": "sc",
    "instance": "s",
    "group": "sg",
    "token": "c",
}
"""Index set -> the axes a moment is taken over.

``b`` batch, ``s`` all spatial axes (w, h; for tokens the position), ``c`` channels, ``g`` the
channels of one group.
"""

INITIAL_NODES = ("x", "zero", "v0", "v1")
"""Nodes 0..3 of every graph: input, constant zero, trainable per-channel vectors (init 0 and 1)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What an aggregation averages, and how it turns the average into its value.

    ``of``: torch expression averaged over the index set, in ``a`` (and its mean ``m``).
    ``finish``: torch expression of the averaged moment ``m``.
    ``init``: start of the moving average used in evaluation mode (0 for a mean, 1 for a variance:
    the authors' choice; a variance that starts at 0 was a bug of several ports).
    """

    name: Literal["mean", "mean_square", "variance"]
    finish: str
    init: float


@dataclass(frozen=True, slots=True)
class Primitive:
    """One row of the op table.

    ``forward(*inputs, eps)`` and ``vjp(grad, out, *inputs, eps)`` work on numpy arrays; a vjp
    returns one cotangent per input in broadcast shape. Aggregations have a ``moment`` instead and
    share one numpy rule (`primitives.probe`).
    ``shape``: ``broadcast`` (of the inputs) or ``reduce`` (over the index set, broadcast back).
    ``cost``: floating point operations per element, transcendental functions counted as 10.
    ``samples``: input values on which tests try the row, away from kinks and poles.
    A row of arity 0 is a ``constant`` or a trainable per-channel vector with the value ``start``;
    its ``text`` is what formulas call it.
    ``op_set``: the smallest named set that has the row.
    """

    name: str
    arity: int
    torch: str
    sympy: str
    text: str
    shape: Literal["broadcast", "reduce"] = "broadcast"
    forward: Forward | None = None
    vjp: Callable[..., tuple[Array, ...]] | None = None
    moment: Moment | None = None
    index_sets: tuple[str, ...] = ()
    properties: frozenset[str] = frozenset()
    cost: float = 1.0
    samples: tuple[float, ...] = (-2.0, -0.7, -0.1, 0.3, 1.0, 2.5)
    constant: float | None = None
    start: float | None = None
    op_set: Literal["paper", "extended"] = "paper"

    @property
    def is_aggregation(self) -> bool:
        return self.moment is not None


def _sigmoid(a: Array) -> Array:
    """Logistic function without overflow for any finite ``a``."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * a)))


_erf = np.frompyfunc(math.erf, 1, 1)


def _softplus(a: Array) -> Array:
    return np.asarray(np.logaddexp(0.0, a))


def _constant(name: str, text: str, sympy: str, value: float) -> Primitive:
    return Primitive(
        name, 0, f"torch.full_like(x, {value!r})", sympy, text, cost=0, constant=value,
        properties=frozenset({"positive"}), op_set="extended",
    )  # fmt: skip


def _vector(name: str, start: float) -> Primitive:
    return Primitive(
        name, 0, name, f"sympy.Symbol({name!r}, real=True)", name, cost=0, start=start,
        op_set="extended",
    )  # fmt: skip


def _aggregation(
    name: str, sympy: str, moment: Moment, cost: float, properties: frozenset[str] = frozenset()
) -> Primitive:
    return Primitive(
        name=name,
        arity=1,
        torch=moment.finish,
        sympy=sympy,
        text=f"{name}_{{over}}({{a}})",
        shape="reduce",
        moment=moment,
        index_sets=tuple(INDEX_SETS),
        properties=properties,
        cost=cost,
    )


_ROWS = (
    Primitive(
        "add", 2, "a + b", "a + b", "{a} + {b}",
        forward=lambda a, b, eps: a + b,
        vjp=lambda g, y, a, b, eps: (g, g),
        properties=frozenset({"commutative"}),
    ),
    Primitive(
        "mul", 2, "a * b", "a * b", "{a} * {b}",
        forward=lambda a, b, eps: a * b,
        vjp=lambda g, y, a, b, eps: (g * b, g * a),
        properties=frozenset({"commutative"}),
    ),
    Primitive(
        "div", 2, "a / b", "a / b", "{a} / {b}",
        forward=lambda a, b, eps: a / b,
        vjp=lambda g, y, a, b, eps: (g / b, -g * y / b),
    ),
    Primitive(
        "max", 2, "torch.maximum(a, b)", "sympy.Max(a, b)", "max({a}, {b})",
        forward=lambda a, b, eps: np.maximum(a, b),
        vjp=lambda g, y, a, b, eps: (
            g * ((a > b) + 0.5 * (a == b)),
            g * ((b > a) + 0.5 * (a == b)),
        ),
        properties=frozenset({"commutative", "idempotent"}),
    ),
    Primitive(
        "neg", 1, "-a", "-a", "-{a}",
        forward=lambda a, eps: -a,
        vjp=lambda g, y, a, eps: (-g,),
        properties=frozenset({"odd", "involution"}),
    ),
    Primitive(
        "sigmoid", 1, "torch.sigmoid(a)", "1 / (1 + sympy.exp(-a))", "sigmoid({a})",
        forward=lambda a, eps: _sigmoid(a),
        vjp=lambda g, y, a, eps: (g * y * (1.0 - y),),
        properties=frozenset({"positive", "bounded", "increasing"}), cost=10,
    ),
    Primitive(
        "tanh", 1, "torch.tanh(a)", "sympy.tanh(a)", "tanh({a})",
        forward=lambda a, eps: np.tanh(a),
        vjp=lambda g, y, a, eps: (g * (1.0 - y * y),),
        properties=frozenset({"odd", "bounded", "increasing", "fixes_zero"}), cost=10,
    ),
    Primitive(
        "exp", 1, "torch.exp(a)", "sympy.exp(a)", "exp({a})",
        forward=lambda a, eps: np.exp(a),
        vjp=lambda g, y, a, eps: (g * y,),
        properties=frozenset({"positive", "increasing"}), cost=10,
    ),
    Primitive(
        # sign(x)·ln|x|; the paper adds epsilons "as necessary": here inside the logarithm.
        "log", 1, "torch.sign(a) * torch.log(torch.abs(a) + eps)",
        "sympy.sign(a) * sympy.log(sympy.Abs(a))", "log({a})",
        forward=lambda a, eps: np.sign(a) * np.log(np.abs(a) + eps),
        vjp=lambda g, y, a, eps: (g * np.abs(np.sign(a)) / (np.abs(a) + eps),),
        properties=frozenset({"odd", "fixes_zero"}), cost=12,
    ),
    Primitive(
        "abs", 1, "torch.abs(a)", "sympy.Abs(a)", "abs({a})",
        forward=lambda a, eps: np.abs(a),
        vjp=lambda g, y, a, eps: (g * np.sign(a),),
        properties=frozenset({"even", "nonnegative", "fixes_zero", "fixes_nonnegative"}),
    ),
    Primitive(
        "square", 1, "torch.square(a)", "a ** 2", "square({a})",
        forward=lambda a, eps: a * a,
        vjp=lambda g, y, a, eps: (2.0 * g * a,),
        properties=frozenset({"even", "nonnegative", "fixes_zero"}),
    ),
    Primitive(
        # sign(x)·sqrt|x|, written x / sqrt(|x| + eps): continuous, with a finite slope at zero.
        "sqrt", 1, "a * torch.rsqrt(torch.abs(a) + eps)",
        "sympy.sign(a) * sympy.sqrt(sympy.Abs(a))", "sqrt({a})",
        forward=lambda a, eps: a / np.sqrt(np.abs(a) + eps),
        vjp=lambda g, y, a, eps: (
            g * (0.5 * np.abs(a) + eps) / ((np.abs(a) + eps) * np.sqrt(np.abs(a) + eps)),
        ),
        properties=frozenset({"odd", "increasing", "fixes_zero"}), cost=6,
    ),
    _aggregation(
        "mean", "mean", Moment("mean", "m", 0.0), 1, frozenset({"linear", "fixes_zero"})
    ),
    _aggregation(
        "rms", "rms", Moment("mean_square", "torch.sqrt(m + eps)", 1.0), 3,
        frozenset({"even", "positive"}),
    ),
    _aggregation(
        "std", "std", Moment("variance", "torch.sqrt(m + eps)", 1.0), 4,
        frozenset({"even", "positive"}),
    ),
    # Below are rows that the paper does not have. Their place after all others keeps the order of
    # the paper's, and with it every digest.
    Primitive(
        "subtract", 2, "a - b", "a - b", "subtract({a}, {b})",
        forward=lambda a, b, eps: a - b,
        vjp=lambda g, y, a, b, eps: (g, -g),
        properties=frozenset({"derived"}), op_set="extended",
    ),
    Primitive(
        "min", 2, "torch.minimum(a, b)", "sympy.Min(a, b)", "min({a}, {b})",
        forward=lambda a, b, eps: np.minimum(a, b),
        vjp=lambda g, y, a, b, eps: (
            g * ((a < b) + 0.5 * (a == b)),
            g * ((b < a) + 0.5 * (a == b)),
        ),
        properties=frozenset({"commutative", "idempotent", "derived"}), op_set="extended",
    ),
    Primitive(
        # As torch.relu has it: no gradient at zero, where max(a, zero) passes half.
        "rectify", 1, "torch.relu(a)", "sympy.Max(a, 0)", "rectify({a})",
        forward=lambda a, eps: np.maximum(a, 0.0),
        vjp=lambda g, y, a, eps: (g * (a > 0.0),),
        properties=frozenset({"nonnegative", "fixes_zero", "fixes_nonnegative"}),
        op_set="extended",
    ),
    Primitive(
        "reciprocal", 1, "1 / a", "1 / a", "reciprocal({a})",
        forward=lambda a, eps: 1.0 / a,
        vjp=lambda g, y, a, eps: (-g * y / a,),
        properties=frozenset({"odd", "involution", "derived"}), op_set="extended",
    ),
    Primitive(
        "rsqrt", 1, "torch.rsqrt(torch.abs(a) + eps)", "1 / sympy.sqrt(sympy.Abs(a))", "rsqrt({a})",
        forward=lambda a, eps: 1.0 / np.sqrt(np.abs(a) + eps),
        vjp=lambda g, y, a, eps: (-0.5 * g * y * np.sign(a) / (np.abs(a) + eps),),
        properties=frozenset({"even", "positive"}), cost=6, op_set="extended",
    ),
    Primitive(
        "erf", 1, "torch.erf(a)", "sympy.erf(a)", "erf({a})",
        forward=lambda a, eps: np.asarray(_erf(a), dtype=np.float64),
        vjp=lambda g, y, a, eps: (g * np.exp(-a * a) * (2.0 / math.sqrt(math.pi)),),
        properties=frozenset({"odd", "bounded", "increasing", "fixes_zero"}), cost=10,
        samples=(-2.0, -0.7, -0.1, 0.0, 0.3, 1.0, 2.5), op_set="extended",
    ),
    Primitive(
        # torch's is the identity above a threshold of 20 by default, where exp(-20) still counts.
        "softplus", 1, "torch.nn.functional.softplus(a, 1.0, 40.0)", "sympy.log(1 + sympy.exp(a))",
        "softplus({a})",
        forward=lambda a, eps: _softplus(a),
        vjp=lambda g, y, a, eps: (g * _sigmoid(a),),
        properties=frozenset({"positive", "increasing"}), cost=20, op_set="extended",
    ),
    Primitive(
        "sin", 1, "torch.sin(a)", "sympy.sin(a)", "sin({a})",
        forward=lambda a, eps: np.sin(a),
        vjp=lambda g, y, a, eps: (g * np.cos(a),),
        properties=frozenset({"odd", "bounded", "fixes_zero"}), cost=10, op_set="extended",
    ),
    _constant("half", "0.5", "sympy.Rational(1, 2)", 0.5),
    _constant("two", "2", "sympy.Integer(2)", 2.0),
    _constant("root2", "root2", "sympy.sqrt(2)", math.sqrt(2.0)),
    _vector("v2", 0.0),
    _vector("v3", 1.0),
    _vector("v4", 1.0),
)  # fmt: skip

OPS: dict[str, Primitive] = {row.name: row for row in _ROWS}
ELEMENTWISE = tuple(row.name for row in _ROWS if row.arity and not row.is_aggregation)
AGGREGATIONS = tuple(row.name for row in _ROWS if row.is_aggregation)
COMMUTATIVE = frozenset(row.name for row in _ROWS if "commutative" in row.properties)
CONSTANTS = {row.name: row.constant for row in _ROWS if row.constant is not None}
VECTORS = {row.name: row.start for row in _ROWS if row.start is not None}
"""Trainable per-channel vectors that are op nodes of arity 0, with the values they start from."""

V_INIT = {"v0": 0.0, "v1": 1.0} | VECTORS
"""Every trainable per-channel vector with the value it starts from, in a layer's order."""

TypedPrimitive = tuple[str, str | None]
"""A primitive with its index set, e.g. ``("std", "batch")``; ``("add", None)``."""


def _op_set(name: str, index_sets: tuple[str, ...]) -> tuple[TypedPrimitive, ...]:
    def plain(of: str) -> list[TypedPrimitive]:
        return [(row.name, None) for row in _ROWS if row.op_set == of and not row.is_aggregation]

    aggregations = [(op, over) for op in AGGREGATIONS for over in index_sets]
    more = plain("extended") if name == "extended" else []
    return (*plain("paper"), *aggregations, *more)


_PAPERS_INDEX_SETS = ("batch", "sample", "instance", "group")

OP_SETS: dict[str, tuple[TypedPrimitive, ...]] = {
    "paper": _op_set("paper", _PAPERS_INDEX_SETS),
    "paper+token": _op_set("paper", (*_PAPERS_INDEX_SETS, "token")),
    "extended": _op_set("extended", _PAPERS_INDEX_SETS),
    "extended+token": _op_set("extended", (*_PAPERS_INDEX_SETS, "token")),
}
"""Named op sets: ``paper`` = the 24 typed primitives of the paper, ``paper+token`` = 27;
``extended`` adds what known layers need beyond them (erf, softplus, three more vectors, ...).

Source of the paper's: Liu, Brock, Simonyan, Le, "Evolving Normalization-Activation Layers",
NeurIPS 2020.
"""


def typed_name(op: str, over: str | None) -> str:
    """The primitive's name in formula text: ``std_batch``, ``add``."""
    return op if over is None else f"{op}_{over}"


def primitive(name: str) -> Primitive:
    """The row of that name.

    Raises:
        GraphError: there is no such primitive.
    """
    try:
        return OPS[name]
    except LookupError as err:
        raise GraphError(
            "unknown primitive", expected="one of " + ", ".join(OPS), got=repr(name)[:60]
        ) from err
