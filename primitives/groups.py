"""How many groups of channels a layer has; code text and networks ask here, so no torch here."""

from __future__ import annotations

from primitives.errors import LayerError

DEFAULT_GROUPS = 32
"""The group count of the authors' layers on their full-sized networks."""


def group_count(num_features: int, groups: int = DEFAULT_GROUPS) -> int:
    """Largest divisor of the channels that is at most ``groups`` and leaves two channels a group.

    A prime number of channels gives one group: with one channel a group, ``group`` would silently
    mean ``instance``. A single channel is one group of one.

    Raises:
        LayerError: either number is not a positive integer.

    Example:
        >>> [group_count(channels) for channels in (8, 48, 64, 96, 7, 1)]
        [4, 24, 32, 32, 1, 1]
    """
    _require_positive("num_features", num_features)
    _require_positive("groups", groups)
    most = min(groups, max(1, num_features // 2))
    return next(count for count in range(most, 0, -1) if num_features % count == 0)


def exact_group_count(num_features: int, groups: int) -> int:
    """The number of groups as asked for, which must divide the channels.

    Raises:
        LayerError: it does not; the error names the nearest group counts that do.
    """
    _require_positive("num_features", num_features)
    _require_positive("groups", groups)
    if num_features % groups == 0:
        return groups
    allowed = [count for count in range(1, num_features + 1) if num_features % count == 0]
    below = [count for count in allowed if count < groups][-1:]
    above = [count for count in allowed if count > groups][:1]
    raise LayerError(
        "groups must divide the channels",
        expected=f"a divisor of {num_features}",
        got=str(groups),
        where="groups",
        hint="nearest allowed: " + ", ".join(str(count) for count in below + above),
    )


def _require_positive(where: str, number: object) -> None:
    if type(number) is not int or number < 1:
        raise LayerError(
            "bad count", expected="a positive integer", got=repr(number)[:60], where=where
        )
