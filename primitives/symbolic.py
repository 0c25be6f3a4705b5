"""A graph as a sympy expression and as LaTeX, for display; the only file here that loads sympy.

Expressions are built unevaluated from the op table's texts and never simplified: sympy's own
simplification can take forever. Guards (eps) are not shown. This file must not import torch.
"""

from __future__ import annotations

import re
from functools import cache
from html.entities import html5
from types import CodeType
from typing import Any

import sympy

from primitives.errors import GraphError
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import INITIAL_NODES, OPS, typed_name
from primitives.rewrite import live_form

MAX_TERMS = 400
"""Largest expression, in nodes of its tree, shared nodes counted at each use."""

MAX_DEPTH = 60
"""Deepest expression; sympy's printers recurse."""


def to_sympy(graph: Graph) -> Any:
    """Sympy expression of the live graph over real symbols ``x``, ``v0`` and ``v1``.

    An aggregation is an undefined function of its typed name, such as ``std_batch(x)``; the graph's
    constant ``exp(zero)`` is 1.

    Raises:
        GraphError: the graph is too large or too deep to write out as a tree.

    Example:
        >>> from primitives.formula import parse
        >>> to_sympy(parse("x / std_batch(x)"))
        x/std_batch(x)
    """
    nodes = live_form(graph).nodes
    _refuse_large(nodes)
    values: list[Any] = [
        sympy.Integer(0) if name == "zero" else sympy.Symbol(name, real=True)
        for name in INITIAL_NODES
    ]
    with sympy.evaluate(False):
        for op, inputs, over in nodes:
            arguments = [values[source] for source in inputs]
            if over is not None:
                values.append(sympy.Function(typed_name(op, over))(*arguments))
            elif (op, inputs) == ("exp", (1,)):
                values.append(sympy.Integer(1))
            else:
                values.append(_apply(OPS[op].sympy, dict(zip("ab", arguments, strict=False))))
    return values[-1]


def to_latex(graph: Graph) -> str:
    r"""LaTeX of the live graph, without dollar signs.

    Raises:
        GraphError: the graph is too large or too deep to write out as a tree.

    Example:
        >>> from primitives.formula import parse
        >>> print(to_latex(parse("tanh(v1 * x)")))
        \tanh{\left(v_{1} x \right)}
    """
    return str(sympy.latex(to_sympy(graph)))


def to_mathml(graph: Graph) -> str:
    """Presentation MathML of the live graph, one ``math`` element.

    Raises:
        GraphError: the graph is too large or too deep to write out as a tree.

    Example:
        >>> from primitives.formula import parse
        >>> to_mathml(parse("tanh(x)"))[:42]
        '<math xmlns="http://www.w3.org/1998/Math/M'
    """
    inner = str(sympy.mathml(to_sympy(graph), printer="presentation"))
    # XML knows five entities; the printer writes those of HTML.
    inner = re.sub(r"&(\w+;)", lambda found: _character(found[1]), inner)
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML">{inner}</math>'


def _character(entity: str) -> str:
    return f"&{entity}" if entity in ("lt;", "gt;", "amp;", "quot;", "apos;") else html5[entity]


def _refuse_large(nodes: tuple[Node, ...]) -> None:
    sizes, depths = [1] * FIRST_OP, [0] * FIRST_OP
    for index, node in enumerate(nodes, FIRST_OP):
        sizes.append(1 + sum(sizes[source] for source in node.inputs))
        depths.append(1 + max((depths[source] for source in node.inputs), default=0))
        if sizes[-1] > MAX_TERMS or depths[-1] > MAX_DEPTH:
            raise GraphError(
                "the expression is too large to write out", position=index,
                expected=f"at most {MAX_TERMS} terms and {MAX_DEPTH} levels",
                got=f"{sizes[-1]} and {depths[-1]}",
                hint="print the formula, which names shared nodes",
            )  # fmt: skip


def _apply(text: str, arguments: dict[str, Any]) -> Any:
    """A sympy expression text of the op table, never a user's, with its inputs put in."""
    return eval(_compiled(text), {"__builtins__": {}, "sympy": sympy}, arguments)


@cache
def _compiled(text: str) -> CodeType:
    return compile(text, "<op table>", "eval")
