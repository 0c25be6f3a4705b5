"""Lists what a layer has to compute: live nodes once each, constants folded, fused forms chosen.

Code generation turns these steps into text. This file must not import torch, and must not know how
a step is written; identities that hold only over the reals have no place here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from primitives.graph import FIRST_OP, Graph
from primitives.moments import INITIAL_AXES, reduced_axes
from primitives.ops import COMMUTATIVE, CONSTANTS, INITIAL_NODES, OPS, V_INIT, VECTORS

FUSED = {"silu": "torch.nn.functional.silu(a)", "relu": "torch.relu(a)"}
"""Steps that are no primitives but one library call for two of them: a * sigmoid(a), max(a, 0)."""

_KINKED = ("max", "min", "rectify")

FINISH = "finish "
"""Prefix of a step that turns a known moment into an aggregation's value: ``finish std``."""


class Step(NamedTuple):
    """One value of the layer.

    ``op`` is a primitive, a fused form, an initial node or ``finish <aggregation>``; ``args`` are
    positions of earlier steps; ``axes`` those of ``bcs`` along which the value varies; ``literal``
    its value if it is a constant that does not depend on eps; ``node`` the first graph node that
    has this value; ``vanishes``: zero everywhere when v0 is at its initial zero; ``kinked``: a
    maximum was taken on the way.
    """

    op: str
    args: tuple[int, ...]
    over: str | None
    axes: str
    node: int
    literal: float | None = None
    vanishes: bool = False
    kinked: bool = False

    @property
    def is_moment(self) -> bool:
        """Whether the step averages over an index set."""
        return self.over is not None


class Numbering:
    """The steps of a graph in order of computation; ``output`` is the position of its value.

    ``place``: live node -> position of the step with its value.
    """

    def __init__(self, graph: Graph) -> None:
        self.steps = [
            Step(name, (), None, axes, index, 0.0 if name == "zero" else None,
                 vanishes=name == "zero" or V_INIT.get(name) == 0.0)
            for index, (name, axes) in enumerate(zip(INITIAL_NODES, INITIAL_AXES, strict=True))
        ]  # fmt: skip
        self._known: dict[tuple[str, tuple[int, ...], str | None], int] = {}
        self.place = place = dict(enumerate(range(FIRST_OP)))
        for index in graph.live_ops():
            node = graph.node(index)
            args = tuple(place[source] for source in node.inputs)
            if not args:
                place[index] = self._leaf(node.op, index)
            elif node.over is None:
                place[index] = self._elementwise(node.op, args, index)
            else:
                place[index] = self._aggregation(node.op, args[0], node.over, index)
        self.output = place[graph.output]
        self.live = self._live()

    def _live(self) -> tuple[int, ...]:
        needed = {self.output}
        for position in range(self.output, -1, -1):
            if position in needed:
                needed.update(self.steps[position].args)
        return tuple(sorted(needed))

    def _leaf(self, op: str, index: int) -> int:
        """A constant or a trainable vector."""
        axes = "c" if op in VECTORS else ""
        zero = V_INIT.get(op) == 0.0
        return self._add(Step(op, (), None, axes, index, CONSTANTS.get(op), vanishes=zero))

    def _aggregation(self, op: str, arg: int, over: str, index: int) -> int:
        """A moment; where the operand is constant over the index set, what that comes to."""
        moment, axes = OPS[op].moment, self.steps[arg].axes
        assert moment is not None
        if over == "group" and "c" not in axes:
            over = "instance"
        left = reduced_axes(axes, over)
        if left != axes or over == "group":
            vanishes = self.steps[arg].vanishes and "fixes_zero" in OPS[op].properties
            return self._add(
                Step(op, (arg,), over, left, index, vanishes=vanishes,
                     kinked=self.steps[arg].kinked)
            )  # fmt: skip
        if moment.name == "mean":
            return arg
        zero = INITIAL_NODES.index("zero")
        known = zero if moment.name == "variance" else self._elementwise("square", (arg,), index)
        inner = self.steps[known]
        return self._add(Step(FINISH + op, (known,), None, inner.axes, index, kinked=inner.kinked))

    def _elementwise(self, op: str, args: tuple[int, ...], index: int) -> int:
        steps = [self.steps[arg] for arg in args]
        literals = [step.literal for step in steps]
        if op == "add" and 0.0 in literals and literals != [0.0, 0.0]:
            return args[1 - literals.index(0.0)]
        if op in COMMUTATIVE:
            args = tuple(sorted(args))
            steps = [self.steps[arg] for arg in args]
        axes = "".join(axis for axis in "bcs" if any(axis in step.axes for step in steps))
        step = Step(
            op, args, None, axes, index, _folded(op, [step.literal for step in steps]),
            _vanishes(op, [step.vanishes for step in steps]),
            op in _KINKED or any(step.kinked for step in steps),
        )  # fmt: skip
        return self._add(self._fused(step))

    def _fused(self, step: Step) -> Step:
        """A step as one library call, where that has the same value and gradient.

        At a tie ``maximum`` halves the gradient and ``relu`` drops it. A tie with zero matters
        where it lasts: for what is zero at initialisation, and after an earlier maximum.
        """
        if step.literal is not None or len(step.args) != 2:
            return step
        for one, other in (step.args, step.args[::-1]):
            inner = self.steps[other]
            if step.op == "mul" and inner.op == "sigmoid" and inner.args == (one,):
                return step._replace(op="silu", args=(one,))
            operand = self.steps[one]
            if step.op == "max" and inner.literal == 0.0 and not operand.literal:
                if operand.vanishes or operand.kinked:
                    return step
                return step._replace(op="relu", args=(one,))
        return step

    def _add(self, step: Step) -> int:
        key = (step.op, step.args, step.over)
        if key not in self._known:
            self._known[key] = len(self.steps)
            self.steps.append(step)
        return self._known[key]


def _folded(op: str, literals: list[float | None]) -> float | None:
    """Value of a primitive of constants, unless it depends on eps or is not finite."""
    forward = OPS[op].forward
    if forward is None or any(literal is None for literal in literals):
        return None
    inputs = [np.float64(literal) for literal in literals if literal is not None]
    with np.errstate(all="ignore"):
        small, large = (float(forward(*inputs, eps)) for eps in (1e-5, 1e-2))
    return small if small == large and np.isfinite(small) else None


def _vanishes(op: str, zeros: list[bool]) -> bool:
    """Whether a primitive is zero, whatever its other inputs are, because some inputs are."""
    forward = OPS[op].forward
    if forward is None or not any(zeros):
        return False
    with np.errstate(all="ignore"):
        return all(
            float(forward(*[np.float64(0.0 if zero else other) for zero in zeros], 1e-5)) == 0.0
            for other in (0.7, -0.7)
        )
