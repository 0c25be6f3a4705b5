"""Whether a row of the op table says one thing in numpy, torch and sympy.

Tests of plug-ins ask it; a search trusts rows that were added. Needs torch.
"""

from __future__ import annotations

import numpy as np
import torch

from primitives.extension import declared_faults
from primitives.ops import EPS, Array, Primitive

CLOSE = 1e-5


def row_faults(row: Primitive) -> list[str]:
    """What is wrong with the row; nothing where all of its parts agree at its samples."""
    faults = declared_faults(row)
    if faults:
        return faults
    assert row.forward is not None
    grid = np.meshgrid(*[np.array(row.samples)] * row.arity)
    points = [one.reshape(-1).astype(np.float64) for one in grid]
    ours = np.asarray(row.forward(*points, EPS))
    names = dict(zip("ab", map(torch.from_numpy, points), strict=False))
    theirs = eval(row.torch, {"torch": torch, "eps": EPS, **names}).numpy()
    if not np.allclose(ours, theirs, rtol=CLOSE, atol=CLOSE):
        where = int(np.abs(ours - theirs).argmax())
        faults.append(
            f"torch says {theirs[where]:g} and forward {ours[where]:g} at "
            f"{', '.join(f'{p[where]:g}' for p in points)}"
        )
    return faults + _sympy_faults(row, points, ours)


def _sympy_faults(row: Primitive, points: list[Array], ours: Array) -> list[str]:
    import sympy

    for number in range(len(ours)):
        inputs = {
            name: sympy.Float(float(values[number]))
            for name, values in zip("ab", points, strict=False)
        }
        value = complex(eval(row.sympy, {"sympy": sympy, **inputs}))
        # The text of sympy leaves guards out.
        if abs(value - ours[number]) > 1e-3 * (1 + abs(ours[number])):
            return [f"sympy says {value.real:g} and forward {ours[number]:g}"]
    return []
