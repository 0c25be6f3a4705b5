"""A search's own constraint on layers: ``where`` judged on a graph, and checks of plug-ins.

Only what a graph says by itself may be asked: a proposal has no score yet. This file must not know
what follows from a refusal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from evosearch.errors import ConfigError, PluginError
from evosearch.own import REGISTER
from evosearch.plugins import plugin_error
from evosearch.where import Both, Compare, Filter, Not, Value, parse_where
from primitives.graph import Graph
from primitives.structure import Structure, analyse

READ: dict[str, Callable[[Structure], Value]] = {
    "live_nodes": lambda found: float(found.live_nodes),
    "batch_independent": lambda found: found.batch_independent,
    "causal_safe": lambda found: found.causal_safe,
    "pointwise": lambda found: found.pointwise,
    "parameters_per_channel": lambda found: float(found.parameters_per_channel),
}
"""Properties of a graph that a constraint may name."""

COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def graph_filter(text: str) -> Callable[[Graph], bool]:
    """A function that says whether a graph is what the text asks for.

    Raises:
        WhereError: the text is no filter.
        ConfigError: it asks for something that a proposal does not have.
    """
    found = parse_where(text)
    _check(found)
    return lambda graph: _holds(found, analyse(graph))


def _check(one: Filter) -> None:
    if isinstance(one, Compare):
        if one.name not in READ:
            raise ConfigError(
                f"{one.name} of a proposal is not known before it is trained", where="space.where",
                expected="one of " + ", ".join(READ),
            )  # fmt: skip
    elif isinstance(one, Not):
        _check(one.inner)
    else:
        for part in one.parts:
            _check(part)


def _holds(one: Filter, found: Structure) -> bool:
    if isinstance(one, Compare):
        value = READ[one.name](found)
        if one.op == "in":
            return value in one.values
        return COMPARE[one.op](value, one.values[0])
    if isinstance(one, Not):
        return not _holds(one.inner, found)
    assert isinstance(one, Both)
    results = (_holds(part, found) for part in one.parts)
    return all(results) if one.op == "and" else any(results)


def own_check(name: str) -> Callable[[Graph], str | None]:
    """The check of a plug-in of that name.

    Raises:
        ConfigError: no plug-in that is loaded registers it.
    """
    entry = REGISTER.find("check", name)
    if entry is None:
        known = ", ".join(one.name for one in REGISTER.entries("check"))
        raise ConfigError(
            "unknown check", where="space.checks", got=repr(name)[:60],
            expected=f"one of {known}" if known else "a plug-in that registers it",
        )  # fmt: skip

    def refuse(graph: Graph) -> str | None:
        try:
            found = entry.value(graph)
        except PluginError:
            raise
        except Exception as err:  # whatever a user's check does wrong
            raise plugin_error(err, f"the check {name} failed") from err
        if found is not None and not isinstance(found, str):
            raise PluginError(
                f"the check {name} returns neither a reason nor None", where=entry.where,
                got=repr(found)[:60],
            )  # fmt: skip
        return found

    return refuse
