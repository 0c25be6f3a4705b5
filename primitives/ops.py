"""The op table: one frozen row per primitive, and nothing about a primitive anywhere else.

Tests, docs, mutation, interpreter, probe and code generation iterate over these rows; adding a
primitive is adding a row. This file must not import torch or sympy: their functions stand here as
expression texts over the inputs ``a`` and ``b`` (and ``eps``), resolved where they are used.
"""

from __future__ import annotations

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

V_INIT = {"v0": 0.0, "v1": 1.0}


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

    @property
    def is_aggregation(self) -> bool:
        return self.moment is not None


def _sigmoid(a: Array) -> Array:
    """Logistic function without overflow for any finite ``a``."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * a)))


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
)  # fmt: skip

OPS: dict[str, Primitive] = {row.name: row for row in _ROWS}
ELEMENTWISE = tuple(row.name for row in _ROWS if not row.is_aggregation)
AGGREGATIONS = tuple(row.name for row in _ROWS if row.is_aggregation)
COMMUTATIVE = frozenset(row.name for row in _ROWS if "commutative" in row.properties)

TypedPrimitive = tuple[str, str | None]
"""A primitive with its index set, e.g. ``("std", "batch")``; ``("add", None)``."""


def _op_set(index_sets: tuple[str, ...]) -> tuple[TypedPrimitive, ...]:
    plain: list[TypedPrimitive] = [(name, None) for name in ELEMENTWISE]
    return tuple(plain + [(name, over) for name in AGGREGATIONS for over in index_sets])


OP_SETS: dict[str, tuple[TypedPrimitive, ...]] = {
    "paper": _op_set(("batch", "sample", "instance", "group")),
    "paper+token": _op_set(("batch", "sample", "instance", "group", "token")),
}
"""Named op sets: ``paper`` = the 24 typed primitives of the paper, ``paper+token`` = 27.

Source: Liu, Brock, Simonyan, Le, "Evolving Normalization-Activation Layers", NeurIPS 2020.
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
