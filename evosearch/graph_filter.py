"""A search's own constraint on layers: ``where`` judged on a graph, and checks of plug-ins.

Only what a graph says by itself may be asked: a proposal has no score yet. This file must not know
what follows from a refusal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from evosearch.errors import ConfigError, PluginError
from evosearch.own import REGISTER
from evosearch.plugins import plugin_error
from evosearch.where import Both, Compare, Filter, Not, Value, parse_where
from primitives.graph import Graph
from primitives.properties import MIXES, Behaviour, bytes_moved, flops
from primitives.structure import Structure, analyse

Answers = dict[str, Value]
"""Name of a fact that takes a probe -> what was found of a graph."""


class _Asked:
    """A graph about which things are asked; what several answers need is found once."""

    def __init__(self, graph: Graph, answers: Callable[[], Answers]) -> None:
        self.graph, self._remembered = graph, answers

    @cached_property
    def structure(self) -> Structure:
        return analyse(self.graph)

    @cached_property
    def _answers(self) -> Answers:
        return self._remembered()

    @cached_property
    def _behaviour(self) -> Behaviour:
        return Behaviour(self.graph)

    def does(self, name: str) -> Value:
        """The fact of its `Behaviour`, remembered or found now."""
        if name not in self._answers:
            self._answers[name] = getattr(self._behaviour, name)
        return self._answers[name]


class Fact(NamedTuple):
    """Something that a graph says by itself.

    ``passes``: times that the layer must be computed on a probe to know it.
    """

    read: Callable[[_Asked], Value]
    passes: int = 0


def _mixing(axis: str) -> Fact:
    return Fact(lambda asked: axis in asked.structure.mixes)


def _doing(name: str, passes: int) -> Fact:
    return Fact(lambda asked: asked.does(name), passes)


FACTS: dict[str, Fact] = {
    "live_nodes": Fact(lambda asked: float(asked.structure.live_nodes)),
    "batch_independent": Fact(lambda asked: asked.structure.batch_independent),
    "causal_safe": Fact(lambda asked: asked.structure.causal_safe),
    "pointwise": Fact(lambda asked: asked.structure.pointwise),
    **{name: _mixing(axis) for name, axis in MIXES.items()},
    "parameters_per_channel": Fact(lambda asked: float(asked.structure.parameters_per_channel)),
    "flops": Fact(lambda asked: flops(asked.graph)),
    "bytes_moved": Fact(lambda asked: bytes_moved(asked.graph)),
    "scale_invariant": _doing("scale_invariant", 2),
    "shift_invariant": _doing("shift_invariant", 2),
    "symmetry": _doing("symmetry", 2),
    "monotone": _doing("monotone", 1),
    "bounded": _doing("bounded", 3),
}
"""What a constraint may name, by the names that filters of finished candidates have for it."""

COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


class GraphFilter:
    """A constraint, ready to be asked of graphs.

    What takes no probe is looked at first, and a probe is made only where that leaves it open.

    Raises:
        WhereError: the text is no filter.
        ConfigError: it asks for something that a proposal does not have.

    Example:
        >>> from primitives.catalog import CATALOG
        >>> GraphFilter("scale_invariant and live_nodes <= 8").holds(CATALOG["bn-relu"].graph)
        True
    """

    def __init__(self, text: str) -> None:
        found = parse_where(text)
        _check(found)
        self._filter = _cheapest_first(found)

    def holds(self, graph: Graph, answers: Callable[[], Answers] = dict) -> bool:
        """Whether the graph is what the text asks for.

        ``answers``: what is known of graphs with the same `live_form`, to be read and added to;
        asked for only where a probe is needed.
        """
        return _holds(self._filter, _Asked(graph, answers))


def _check(one: Filter) -> None:
    if isinstance(one, Compare):
        if one.name not in FACTS:
            raise ConfigError(
                f"{one.name} cannot be asked of a proposal: its graph alone does not tell it",
                where="space.where", expected="one of " + ", ".join(FACTS),
                hint="filters of a search's candidates know what was measured of them, too",
            )  # fmt: skip
    elif isinstance(one, Not):
        _check(one.inner)
    else:
        for part in one.parts:
            _check(part)


def _passes(one: Filter) -> int:
    """Passes over a probe that the answer may take."""
    if isinstance(one, Compare):
        return FACTS[one.name].passes
    if isinstance(one, Not):
        return _passes(one.inner)
    return sum(_passes(part) for part in one.parts)


def _cheapest_first(one: Filter) -> Filter:
    """The same filter, its parts in the order in which they are best looked at."""
    if isinstance(one, Not):
        return Not(_cheapest_first(one.inner))
    if isinstance(one, Both):
        return Both(one.op, tuple(sorted(map(_cheapest_first, one.parts), key=_passes)))
    return one


def _holds(one: Filter, asked: _Asked) -> bool:
    if isinstance(one, Compare):
        value = FACTS[one.name].read(asked)
        if one.op == "in":
            return value in one.values
        return COMPARE[one.op](value, one.values[0])
    if isinstance(one, Not):
        return not _holds(one.inner, asked)
    results = (_holds(part, asked) for part in one.parts)
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
