"""Flags of the command line for the service's settings, made from the settings themselves.

Every setting has one, so nothing can be set by a variable that a flag cannot set too. Values are
checked where all settings are, so that a wrong one is refused in the same words.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from api.settings import ServiceSettings

PLURAL = {"allowed_hosts": "--allowed-host", "plugins": "--plugin"}
"""Settings of several values: the flag gives one, and may be repeated."""
CONTROLLER = (
    "db", "pool", "workers", "worker_nice", "ray_address", "gpus_per_worker", "max_searches",
    "plugins", "data_dir", "cache", "alert_webhook", "alert_command", "stalled_minutes",
    "log_format", "log_level",
)  # fmt: skip
"""Settings that a controller reads."""


def flagged(
    command: Callable[..., Any], only: Collection[str] = tuple(ServiceSettings.model_fields)
) -> Callable[..., Any]:
    """The command with a flag for each of these settings; it gets the given ones as ``flags``."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    made = [_parameter(name) for name in ServiceSettings.model_fields if name in only]
    kept = [one.replace(kind=one.KEYWORD_ONLY) for one in own if one.name != "flags"]
    parameters = [*made, *kept]

    @wraps(command)
    def with_flags(**words: Any) -> Any:
        flags = {name: words.pop(name) for name in [one.name for one in made]}
        for name in PLURAL:
            if flags.get(name) is not None:
                flags[name] = tuple(flags[name]) or None
        return command(flags={k: v for k, v in flags.items() if v is not None}, **words)

    del with_flags.__wrapped__
    with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_flags.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_flags


def _parameter(name: str) -> inspect.Parameter:
    field = ServiceSettings.model_fields[name]
    kind = _type(name, field.annotation)
    flag = PLURAL.get(name, "--" + name.replace("_", "-"))
    if kind is bool:
        flag += f"/--no-{flag.removeprefix('--')}"
    help_ = str(field.description)
    if name in PLURAL:
        help_ = help_.replace(", comma-separated", "").replace(", separated by colons", "")
        help_ += "; may be repeated"
    option = typer.Option(flag, help=f"{help_[0].upper()}{help_[1:]}.", show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None,
        annotation=Annotated[kind | None, option],
    )  # fmt: skip


def _type(name: str, annotation: Any) -> Any:
    """What the command line reads; limits are checked with the setting."""
    if name in PLURAL:
        return list[str]
    kinds = [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = [one for one in typing.get_args(annotation) if one is not type(None)]
    kind = kinds[0]
    return kind if kind in (bool, int, float, Path) else str
