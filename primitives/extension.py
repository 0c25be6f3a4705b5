"""Adds a row of a user's own to the op table of this process, after it was found to be right.

Only elementwise rows of one or two inputs are taken. What is derived from the table when it is
loaded (rewrite rules, named op sets) stays the paper's: a search names the rows that it adds, so
that another search in the same process does not see them. This file must not import torch.
"""

from __future__ import annotations

import keyword

import numpy as np

from primitives import formula, rewrite
from primitives.errors import GraphError
from primitives.graph import FIRST_OP
from primitives.ops import EPS, INITIAL_NODES, OPS, Array, Primitive

STEP = 1e-6
CLOSE = 1e-4
_added: dict[str, Primitive] = {}


def add_row(row: Primitive) -> None:
    """Add the row to the op table; the same one again changes nothing.

    Raises:
        GraphError: the row is wrong, or its name is taken.
    """
    if not isinstance(row, Primitive):
        raise GraphError("no row of the op table", expected="es.Primitive(...)", got=repr(row)[:60])
    known = _added.get(row.name)
    if known is not None and _says(known) == _says(row):
        _added[row.name] = OPS[row.name] = row
        return
    if row.name in OPS or row.name in (*INITIAL_NODES, "sub", "relu", "silu"):
        raise GraphError(f"the primitive {row.name} exists already", hint="choose another name")
    faults = declared_faults(row)
    if faults:
        raise GraphError(f"the primitive {row.name} is wrong: {faults[0]}")
    _added[row.name] = OPS[row.name] = row
    formula._FUNCTIONS[row.name] = (row.arity, (row.name, None))
    formula._ARITY[row.name] = row.arity
    code = FIRST_OP + len(rewrite._TYPED)
    rewrite._TYPED.append((row.name, None))
    rewrite._CODES[row.name] = code
    rewrite._CODE_OF[row.name, None] = code


def _says(row: Primitive) -> tuple[object, ...]:
    return (row.name, row.arity, row.torch, row.sympy, row.text, row.cost, row.properties)


def declared_faults(row: Primitive) -> list[str]:
    """What is wrong with a row as far as numpy can tell: form, values, and slopes."""
    faults = []
    if not (row.name.isascii() and row.name.isidentifier()) or keyword.iskeyword(row.name):
        faults.append(f"its name {row.name!r} is no name")
    if row.arity not in (1, 2) or row.moment is not None or row.index_sets:
        faults.append("it is no elementwise primitive of one or two inputs")
    if "commutative" in row.properties:
        faults.append("commutative is for rows of the table itself")
    holes = ("{a}",) if row.arity == 1 else ("{a}", "{b}")
    if row.text != f"{row.name}({', '.join(holes)})":
        faults.append(f"its text is {row.text!r}, expected {row.name}({', '.join(holes)})")
    if row.forward is None or row.vjp is None:
        faults.append("forward and vjp are both needed")
    return faults or _slope_faults(row)


def _slope_faults(row: Primitive) -> list[str]:
    """Whether vjp is the derivative of forward, by central differences at the row's samples."""
    assert row.forward is not None
    assert row.vjp is not None
    grid = np.meshgrid(*[np.array(row.samples)] * row.arity)
    points = [one.reshape(-1).astype(np.float64) for one in grid]
    try:
        value = np.asarray(row.forward(*points, EPS))
        slopes = row.vjp(np.ones_like(value), value, *points, EPS)
    except Exception as err:  # whatever a user's function does wrong
        return [f"it fails on arrays: {type(err).__name__}: {err}"]
    if value.shape != points[0].shape or len(slopes) != row.arity:
        return ["forward keeps the shape of its inputs, and vjp returns one array for each"]
    faults = []
    for which, slope in enumerate(slopes):
        high, low = (
            row.forward(*[p + sign * STEP * (i == which) for i, p in enumerate(points)], EPS)
            for sign in (1, -1)
        )
        wanted: Array = (np.asarray(high) - np.asarray(low)) / (2 * STEP)
        bad = ~np.isclose(np.asarray(slope), wanted, rtol=CLOSE, atol=CLOSE)
        bad |= ~np.isfinite(value)
        if bad.any():
            at = ", ".join(f"{float(p[bad][0]):g}" for p in points)
            faults.append(
                f"at ({at}) vjp says {float(np.asarray(slope)[bad][0]):g} and forward's slope is "
                f"{float(wanted[bad][0]):g}"
            )
    return faults
