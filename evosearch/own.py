"""What users register of their own: anchors, evaluators, data sets, objectives, checks, sinks.

Each is a call or a decorator that leaves an entry in the register of this process; what a plug-in
file registers while it is loaded belongs to that file. This file must not import torch: a plug-in
is read where nothing is trained, too.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from evosearch.config import Forbidden, Slot
from evosearch.errors import PluginError
from evosearch.objectives import Objective

Kind = Literal["anchor", "dataset", "objective", "check", "alert_sink", "primitive"]
Layout = Literal["bchw", "btc", "bct", "bc"]
AnchorKind = Literal["network", "model", "task", "evaluator"]
T = TypeVar("T")

LAYOUTS: dict[str, str] = {"bchw": "bchw", "btc": "btc", "bct": "bct", "bc": "bc"}
AXES: dict[str, Forbidden] = {"b": "batch", "t": "positions", "h": "positions", "w": "positions"}
ALIASES = {
    "batchnorm": "bn-relu", "layernorm": "token_ln-gelu", "rmsnorm": "rms-norm",
    "groupnorm": "gn-relu",
}  # fmt: skip
"""Names that people say -> baselines as tables name them."""
ORIGINAL = "original"
"""The baseline of an anchor made of a finished model: that model as it came."""
TASK_METHODS = ("data", "build", "loss", "evaluate")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something of a user's own. ``value``: function, class or row; ``where``: file and line."""

    kind: Kind
    name: str
    value: Any
    where: str
    module: str


@dataclass(frozen=True, slots=True)
class OwnAnchor:
    """An anchor of a user's own, before torch is needed.

    ``kind``: network, a function ``build(layer, ...)``; model, a function that makes a finished
    model, whose slots are found; task, a class with data, build, loss and evaluate; evaluator, a
    function ``f(layer, ctx)`` that does everything itself.
    """

    name: str
    kind: AnchorKind
    made_by: Any
    slot: Slot = "norm_act"
    layout: Layout = "bchw"
    forbids: tuple[Forbidden, ...] = ()
    baselines: tuple[str, ...] = ()
    objectives: tuple[Objective, ...] = ()
    dataset: str = ""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    where: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def line(self, method: str = "") -> str:
        """The user's line that returns what is wrong: of that method, or of the function."""
        made = getattr(self.made_by, method, None) if isinstance(self.made_by, type) else None
        return line_of(made or self.made_by, self.where)


@dataclass(frozen=True, slots=True)
class Untrained:
    """Scores of a network that has not learnt: of the anchor's score, and of further objectives."""

    score: float
    more: dict[str, float]


def line_of(function: Any, otherwise: str) -> str:
    """``file.py:12 in loss``: where a function returns, or begins if it has several ends.

    ``otherwise``: what is said of something that has no lines.
    """
    import dis

    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return otherwise
    ends = {
        one.positions.lineno for one in dis.get_instructions(code)
        if one.opname.startswith("RETURN") and one.positions is not None
    }  # fmt: skip
    line = ends.pop() if len(ends) == 1 else code.co_firstlineno
    place = "" if code.co_name == "<lambda>" else f" in {code.co_name}"
    return f"{_base(code.co_filename)}:{line}{place}"


def _base(file: str) -> str:
    return file.replace("\\", "/").rsplit("/", 1)[-1]


class Register:
    """Entries by kind and name; a later one of the same file and name replaces the earlier."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Kind, str], Entry] = {}

    def add(self, entry: Entry) -> None:
        """Keep the entry.

        Raises:
            PluginError: another module has registered that name.
        """
        known = self._entries.get((entry.kind, entry.name))
        if known is not None and known.module != entry.module:
            raise PluginError(
                f"the {entry.kind} {entry.name!r} is registered twice", where=entry.where,
                got=f"the other one is at {known.where}", hint="choose another name",
            )  # fmt: skip
        self._entries[entry.kind, entry.name] = entry

    def entries(self, kind: Kind | None = None) -> list[Entry]:
        """All entries, or those of a kind, in the order they came."""
        return [one for one in self._entries.values() if kind in (None, one.kind)]

    def find(self, kind: Kind, name: str) -> Entry | None:
        """The entry of that name."""
        return self._entries.get((kind, name))

    def replace(self, entries: Iterable[Entry]) -> None:
        """Put these in the place of what has their names."""
        self._entries |= {(one.kind, one.name): one for one in entries}

    def forget(self, module: str) -> None:
        """Drop what that module registered."""
        kept = {key: one for key, one in self._entries.items() if one.module != module}
        self._entries = kept


REGISTER = Register()
_collecting: list[Register] = []


@contextmanager
def collecting() -> Iterator[Register]:
    """Within it what is registered goes to a register of its own: that of a file being loaded."""
    mine = Register()
    _collecting.append(mine)
    try:
        yield mine
    finally:
        _collecting.remove(mine)


def is_loading() -> bool:
    """Whether a plug-in file is being loaded now."""
    return bool(_collecting)


def anchor(
    name: str,
    *,
    build: Callable[..., Any] | None = None,
    model: Callable[..., Any] | None = None,
    slot: Slot = "norm_act",
    layout: Layout = "bchw",
    forbid_axes: str = "",
    baselines: Iterable[str] = (),
    objectives: Iterable[Objective] = (),
    dataset: str = "",
    optimizer: Literal["sgd", "adamw"] | None = None,
) -> Any:
    """Register a network, a finished model, or (as a decorator of a class) a whole task.

    ``build(layer)`` returns an ``nn.Module``; it may also ask for ``num_classes``, ``in_channels``,
    ``image``, ``width`` and ``depth`` by name. ``model(num_classes)`` returns a finished one, in
    which the slot's places are found. A class has ``data(ctx)``, ``build(layer)``,
    ``loss(model, batch)`` and ``evaluate(model, batches)``. ``layout`` names the axes of what the
    layer is given: b batch, c channels, t positions, h and w. ``forbid_axes``: those that no layer
    may mix.

    Raises:
        PluginError: the arguments contradict each other; the error names the line.
    """
    where, module = _caller()
    common: dict[str, Any] = {
        "slot": _one_of("slot", slot, ("norm_act", "norm", "act"), where),
        "layout": _one_of("layout", layout, tuple(LAYOUTS), where),
        "forbids": _forbids(forbid_axes, layout, where),
        "baselines": tuple(ALIASES.get(one, one) for one in baselines),
        "dataset": dataset,
    }
    if build is not None and model is not None:
        raise PluginError("build or model, not both", where=where)
    if build is not None or model is not None:
        made = build or model
        if not callable(made):
            raise PluginError("no function", where=where, got=repr(made)[:60])
        given: AnchorKind = "network" if build is not None else "model"
        found = OwnAnchor(
            _name(name, where), given, made, objectives=tuple(objectives), where=where,
            optimizer=optimizer or "sgd", **common,
        )  # fmt: skip
        _register("anchor", found.name, found, where, module)
        return made

    def decorate(cls: type[T]) -> type[T]:
        missing = [one for one in TASK_METHODS if not callable(getattr(cls, one, None))]
        if not isinstance(cls, type) or missing:
            raise PluginError(
                f"{getattr(cls, '__name__', cls)} is no task", where=_nearly(cls, missing) or where,
                expected="a class with " + ", ".join(TASK_METHODS),
                got="no " + ", no ".join(missing) if missing else "a function",
                hint="es.evaluator takes a function",
            )  # fmt: skip
        goals = tuple(objectives) or tuple(getattr(cls, "objectives", ()))
        found = OwnAnchor(
            _name(name, where), "task", cls, objectives=_goals(goals, where), where=where,
            optimizer=optimizer or "adamw", **common,
        )  # fmt: skip
        _register("anchor", found.name, found, where, cls.__module__)
        return cls

    return decorate


def _nearly(cls: Any, missing: list[str]) -> str:
    """The line of a method whose name is nearly one that is missing."""
    import difflib

    known = getattr(cls, "__dict__", {})
    functions = {name: one for name, one in known.items() if hasattr(one, "__code__")}
    for name in missing:
        for near in difflib.get_close_matches(name, functions, 1, 0.7):
            code = functions[near].__code__
            return f"{_base(code.co_filename)}:{code.co_firstlineno} in {near}"
    return ""


def evaluator(
    name: str | None = None,
    *,
    objectives: Iterable[Objective],
    slot: Slot = "norm_act",
    layout: Layout = "bchw",
    forbid_axes: str = "",
    baselines: Iterable[str] = (),
) -> Callable[[T], T]:
    """Decorates ``f(layer, ctx) -> {objective: value}``, which trains and measures by itself.

    Raises:
        PluginError: the arguments contradict each other; the error names the line.
    """
    where, module = _caller()
    goals = _goals(tuple(objectives), where)

    def decorate(function: T) -> T:
        if not callable(function):
            raise PluginError("no function", where=where, got=repr(function)[:60])
        own = name or str(getattr(function, "__name__", "evaluator")).replace("_", "-")
        found = OwnAnchor(
            _name(own, where), "evaluator", function,
            slot=_one_of("slot", slot, ("norm_act", "norm", "act"), where),
            layout=_one_of("layout", layout, tuple(LAYOUTS), where),
            forbids=_forbids(forbid_axes, layout, where),
            baselines=tuple(ALIASES.get(one, one) for one in baselines),
            objectives=goals, where=where,
        )  # fmt: skip
        _register("anchor", found.name, found, where, module)
        return function

    return decorate


def dataset(name: str) -> Callable[[T], T]:
    """Decorates ``load() -> {"train": (x, y), "select": ..., "final": ..., "num_classes": n}``.

    Images as arrays or tensors of any layout; a split that is missing is held out of ``train``.
    """
    return _decorator("dataset", name)


def objective(name: str, direction: str = "max", unit: str = "", **others: Any) -> Callable[[T], T]:
    """Decorates ``measure(model) -> number``: a further objective of trained networks."""
    goal = Objective(name, direction, unit, **others)
    where, module = _caller()

    def decorate(function: T) -> T:
        _register("objective", name, (goal, function), where, module)
        return function

    return decorate


def check(name: str) -> Callable[[T], T]:
    """Decorates ``refuse(graph) -> str | None``: why a proposal is thrown out, before training.

    It must depend on nothing but the graph, so that a search repeats.
    """
    return _decorator("check", name)


def alert_sink(name: str) -> Callable[[T], T]:
    """Decorates ``send(alert)``, which gets each alert as a dict with alert, search and text."""
    return _decorator("alert_sink", name)


def primitive(row: Any) -> Any:
    """Register one row of the op table: a `primitives.ops.Primitive`."""
    where, module = _caller()
    _register("primitive", str(getattr(row, "name", row)), row, where, module)
    return row


def _decorator(kind: Kind, name: str) -> Callable[[T], T]:
    where, module = _caller(3)

    def decorate(function: T) -> T:
        if not callable(function):
            raise PluginError(f"a {kind} is a function", where=where, got=repr(function)[:60])
        _register(kind, _name(name, where), function, where, module)
        return function

    return decorate


def _register(kind: Kind, name: str, value: Any, where: str, module: str) -> None:
    place = _collecting[-1] if _collecting else REGISTER
    place.add(Entry(kind, name, value, where, module))


def _caller(depth: int = 2) -> tuple[str, str]:
    """File and line of whoever called the function that asks, and its module."""
    frame = sys._getframe(depth)
    return f"{_base(frame.f_code.co_filename)}:{frame.f_lineno}", str(
        frame.f_globals.get("__name__", "__main__")
    )


def _name(name: str, where: str) -> str:
    good = isinstance(name, str) and 0 < len(name) <= 60
    if not good or not name.replace("-", "").replace("_", "").isalnum():
        raise PluginError(
            "bad name", where=where, expected="letters, digits and dashes", got=repr(name)[:60]
        )
    return name


def _one_of(what: str, value: Any, known: tuple[str, ...], where: str) -> Any:
    if value not in known:
        raise PluginError(
            f"unknown {what}", where=where, expected=" or ".join(known), got=repr(value)[:60]
        )
    return value


def _goals(goals: tuple[Objective, ...], where: str) -> tuple[Objective, ...]:
    if not goals or not all(isinstance(one, Objective) for one in goals):
        raise PluginError(
            "no objectives", where=where,
            expected='objectives = [es.Objective("loss", "min")]', got=repr(goals)[:60],
        )  # fmt: skip
    return goals


def _forbids(axes: str, layout: str, where: str) -> tuple[Forbidden, ...]:
    unknown = [axis for axis in axes if axis not in layout or axis == "c"]
    if unknown:
        raise PluginError(
            f"forbid_axes names no axis of {layout}", where=where,
            expected="of " + ", ".join(axis for axis in layout if axis != "c"),
            got=", ".join(map(repr, unknown)),
        )  # fmt: skip
    return tuple(dict.fromkeys(AXES[axis] for axis in axes))


def wanted_arguments(function: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    """Of what is offered, what the function asks for by name (all, if it takes ``**kwargs``)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return {}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return dict(offered)
    names = {one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY}
    return {name: value for name, value in offered.items() if name in names}
