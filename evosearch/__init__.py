"""The search: what to try next, what to throw out, when to stop; and the public face.

Every documented import of users begins with ``evosearch``. Names are resolved when they are first
used, so that ``import evosearch`` loads neither torch nor ray.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_ROOMS = frozenset({"api", "db", "primitives", "workers"})
_ROOT = __file__.replace("\\", "/").rsplit("/", 2)[0]


class _Rooms:
    """Finds this package's rooms beside it, whatever lies in the folder of a user's script."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _ROOMS or path is not None:
            return None
        return PathFinder.find_spec(fullname, [_ROOT])


if not any(type(one).__name__ == "_Rooms" for one in sys.meta_path):
    # No subclass of importlib.abc's finder: that module takes as long to import as all of this one.
    sys.meta_path.insert(0, _Rooms())

_PUBLIC = {
    "AsyncClient": "evosearch.client",
    "Budget": "evosearch.config",
    "CATALOG": "primitives.catalog",
    "Client": "evosearch.client",
    "ConfigError": "evosearch.errors",
    "EvosearchError": "evosearch.errors",
    "Graph": "primitives.graph",
    "Node": "primitives.graph",
    "Objective": "evosearch.objectives",
    "PluginError": "evosearch.errors",
    "Primitive": "primitives.ops",
    "Run": "api.run",
    "SearchConfig": "evosearch.config",
    "Stopped": "evosearch.errors",
    "TablePool": "workers.table.pool",
    "activations_left": "primitives.factory",
    "alert_sink": "evosearch.own",
    "anchor": "evosearch.own",
    "artefact": "primitives.artefacts",
    "build_layer": "primitives.module",
    "check": "evosearch.own",
    "dataset": "evosearch.own",
    "evaluator": "evosearch.own",
    "format_formula": "primitives.printer",
    "layer_graph": "primitives.named",
    "layer_source": "primitives.codegen",
    "load_preset": "evosearch.presets",
    "load_table": "workers.table.form",
    "norm_act_function": "primitives.factory",
    "objective": "evosearch.own",
    "open_store": "db",
    "parse": "primitives.formula",
    "primitive": "evosearch.own",
    "plot": "api.plot",
    "replace_norm_act": "primitives.placement",
    "retrain": "api.rerun",
    "search": "api.run",
    "synchronise_batch_statistics": "primitives.factory",
}
"""Public name -> the module that defines it."""

_MODULES = frozenset({"plot"})
"""Public names that are modules themselves."""

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except LookupError:
        raise AttributeError(f"module 'evosearch' has no attribute {name!r}") from None
    room = module.partition(".")[0]
    known = getattr(sys.modules.get(room), "__file__", None)
    if known is not None and not known.replace("\\", "/").startswith(f"{_ROOT}/{room}/"):
        raise ImportError(
            f"evosearch has a package {room} of its own, and {known} was imported before it; "
            f"import evosearch first, and name a package of yours otherwise than {room}"
        )
    loaded = import_module(module)
    return loaded if name in _MODULES else getattr(loaded, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
