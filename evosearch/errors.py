"""The errors of searches and stores; all are one line and say what to do next."""

from __future__ import annotations

from primitives.errors import EvosearchError, FormulaError, GraphError, LayerError


class ConfigError(EvosearchError):
    """A setting, preset or option that is wrong."""


class NotFound(EvosearchError, LookupError):
    """A name or id that names nothing, or more than one thing."""


class StoreError(EvosearchError):
    """The database refused: locked, full, read-only, newer, or not a database of evosearch."""


class LeaseHeld(StoreError):
    """Another controller runs this search."""


class LeaseLost(StoreError):
    """Another controller took over; this one must stop writing."""


class StateConflict(StoreError):
    """An event that does not fit the state it meets."""


class PluginError(EvosearchError):
    """Code of a user's own that cannot be loaded or used; ``where`` is the user's own line."""


class Stopped(EvosearchError):
    """Raised by ``ctx.report`` in an evaluator that must end; let it pass.

    ``reason``: hurdle, cancelled or deadline.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"the evaluation was stopped: {reason}", got=detail or None)


class WorkerError(EvosearchError):
    """Workers could not be started or reached."""


__all__ = [
    "ConfigError",
    "EvosearchError",
    "FormulaError",
    "GraphError",
    "LayerError",
    "LeaseHeld",
    "LeaseLost",
    "NotFound",
    "PluginError",
    "StateConflict",
    "Stopped",
    "StoreError",
    "WorkerError",
]
