"""Non-dominated sets and hypervolume of minimised objectives; pure functions of arrays.

Lower is better in every function here; NaN and infinity are refused at the border.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evosearch.errors import EvosearchError

Points = NDArray[np.float64]
FEW = 64
"""Up to so many points all pairs are compared at once, which is faster than one by one."""


def as_points(values: ArrayLike) -> Points:
    """The values as an (n, k) array of finite floats.

    Raises:
        EvosearchError: a value is NaN or infinite, or the array is not two-dimensional.
    """
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2:
        raise EvosearchError(
            "objectives must be two-dimensional", expected="(n, k)", got=str(points.shape)
        )
    if not np.isfinite(points).all():
        raise EvosearchError("objectives must be finite", got="NaN or infinity")
    return points


def dominates(a: Points, b: Points) -> bool:
    """Whether ``a`` (k,) is nowhere worse than ``b`` (k,) and somewhere better."""
    return bool((a <= b).all() and (a < b).any())


def _dominated(point: Points, table: Points) -> NDArray[np.bool_]:
    """Mask (n,) of the rows of an (n, k) array that ``point`` (k,) dominates."""
    return np.asarray((point <= table).all(axis=1) & (point < table).any(axis=1))


def _nowhere_worse(points: Points) -> NDArray[np.bool_]:
    """Mask (n, n) of the pairs of which the first is nowhere worse than the second."""
    found = np.ones((len(points), len(points)), dtype=bool)
    for column in points.T:
        found &= column[:, None] <= column
    return found


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Mask (n,) of the rows of an (n, k) array that no other row dominates; equal rows all stay."""
    points = as_points(values)
    if len(points) <= FEW:
        below = _nowhere_worse(points)
        return np.asarray(~(below & ~below.T).any(axis=0))
    keep = np.zeros(len(points), dtype=bool)
    # By sums, and by coordinates where rounding makes sums equal: a dominating row comes first.
    with np.errstate(over="ignore"):
        left = np.lexsort((*points.T[::-1], points.sum(axis=1)))
    while left.size:
        best, left = left[0], left[1:]
        keep[best] = True
        rest = points[left]
        left = left[~_dominated(points[best], rest)]
    return keep


def crowding(values: ArrayLike) -> NDArray[np.float64]:
    """Crowding distance (n,) of each row of an (n, k) array: how far its neighbours are apart.

    Infinite for the least and the largest of an objective. An objective without spread adds
    nothing. Source: Deb et al. 2002, section III.B.
    """
    points = as_points(values)
    found = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        least, most = column[order[0]], column[order[-1]]
        found[order[[0, -1]]] = np.inf
        if most > least:
            found[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / (most - least)
    return found


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Volume between the rows of an (n, k) array and the reference point (k,).

    Rows that are not below the reference in every objective add nothing.

    Source: exclusive volumes summed over the points sorted by the last objective, dimension by
    dimension (While, Bradstreet, Barone, "A fast way of calculating exact hypervolumes", 2012).
    """
    bound = as_points(np.asarray(reference, dtype=np.float64)[None])[0]
    points = np.asarray(values, dtype=np.float64).reshape(-1, len(bound))
    points = as_points(points)
    points = points[(points < bound).all(axis=1)]
    return _volume(np.unique(points, axis=0), bound) if len(points) else 0.0


def _volume(points: Points, bound: Points) -> float:
    points = points[non_dominated(points)]
    if points.shape[1] == 1:
        return float(bound[0] - points.min())
    if points.shape[1] == 2:
        points = points[np.argsort(points[:, 0])]
        ceilings = np.concatenate(([bound[1]], points[:-1, 1]))
        return float(((bound[0] - points[:, 0]) * (ceilings - points[:, 1])).sum())
    points = points[np.argsort(points[:, -1])]
    depths = np.diff(np.append(points[:, -1], bound[-1]))
    return sum(
        float(depth) * _volume(points[: index + 1, :-1], bound[:-1])
        for index, depth in enumerate(depths)
        if depth > 0
    )


class Change(NamedTuple):
    """How a member's objectives change a front: members in, members out, hypervolume after."""

    entered: tuple[int, ...]
    left: tuple[int, ...]
    hypervolume: float


class Front:
    """The non-dominated members of a growing set, kept up to date point by point.

    ``points``: member -> minimised objectives (k,) of all members, on the front or not.
    """

    def __init__(self, reference: ArrayLike) -> None:
        self.reference = np.asarray(reference, dtype=np.float64)
        self.points: dict[int, Points] = {}
        self.members: frozenset[int] = frozenset()
        self._volume: float | None = None
        """Of the members as they stand, once it was asked for."""
        self._places: dict[int, int] = {}
        self._order: list[int] = []
        self._table = np.zeros((0, len(self.reference)))
        """The points once more, in rows and whose they are, for what must look at all of them."""

    def change(self, member: int, objectives: ArrayLike) -> Change:
        """What follows if the member has these objectives; nothing is changed yet.

        A known member gets new objectives; what it had dominated may return.
        """
        point = as_points(np.asarray(objectives, dtype=np.float64)[None])[0]
        after = self._members_with(member, point)
        if after == self.members and member not in after:
            if self._volume is None:
                self._volume = self._volume_of(after, member, point)
            return Change((), (), self._volume)
        volume = self._volume_of(after, member, point)
        return Change(
            tuple(sorted(after - self.members)), tuple(sorted(self.members - after)), volume
        )

    def _volume_of(self, after: frozenset[int], member: int, point: Points) -> float:
        rows = [point if m == member else self.points[m] for m in sorted(after)]
        return hypervolume(np.stack(rows), self.reference) if rows else 0.0

    def apply(
        self, member: int, objectives: ArrayLike, entered: Iterable[int], left: Iterable[int]
    ) -> None:
        """Give the member its objectives and move the members that a `Change` names."""
        was = self.members
        self._put(member, objectives)
        self.members = (was | frozenset(entered)) - frozenset(left)
        if self.members != was or member in was:
            self._volume = None

    def restore(self, points: Mapping[int, ArrayLike], members: Iterable[int]) -> None:
        """Be the front with these points, of which these are not dominated."""
        self.points, self._places, self._order = {}, {}, []
        for member, objectives in points.items():
            self._put(member, objectives)
        self.members, self._volume = frozenset(members), None

    def _put(self, member: int, objectives: ArrayLike) -> None:
        self.points[member] = np.asarray(objectives, dtype=np.float64)
        place = self._places.setdefault(member, len(self._order))
        if place == len(self._order):
            self._order.append(member)
        if place == len(self._table):
            room = np.zeros((max(64, 2 * place), len(self.reference)))
            room[:place] = self._table
            self._table = room
        self._table[place] = self.points[member]

    def _members_with(self, member: int, point: Points) -> frozenset[int]:
        if member in self.points:
            return self._members_after_move(member, point)
        if any(dominates(self.points[other], point) for other in self.members):
            return self.members
        beaten = {other for other in self.members if dominates(point, self.points[other])}
        return (self.members - beaten) | {member}

    def _members_after_move(self, member: int, point: Points) -> frozenset[int]:
        """The front once a known member has moved.

        Only what the member itself dominated may return: all else that is off the front is
        dominated by another member, which stands where it stood.
        """
        contenders = self.members | {member}
        if member in self.members:
            table = self._table[: len(self._order)]
            freed = np.flatnonzero(_dominated(self.points[member], table))
            for one in contenders:
                if freed.size:
                    better = point if one == member else self.points[one]
                    freed = freed[~_dominated(better, table[freed])]
            contenders |= {self._order[place] for place in freed}
        order = sorted(contenders)
        mask = non_dominated(np.stack([point if m == member else self.points[m] for m in order]))
        return frozenset(one for one, keep in zip(order, mask, strict=True) if keep)
