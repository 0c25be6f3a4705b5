"""Named starting points: TOML files beside this one, and overrides on top of them.

A config printed by `to_toml` reproduces its search. This file must not guess: an unknown preset,
key or value is refused with what was expected.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evosearch.config import SearchConfig
from evosearch.errors import ConfigError, NotFound


def preset_names() -> list[str]:
    """Names of the presets that come with evosearch."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".toml"))


def load_preset(name: str, overrides: Iterable[str] = (), seed: int | None = None) -> SearchConfig:
    """The preset of that name, or of that ``.toml`` file, with ``key=value`` overrides.

    Keys are dotted (``task.steps=150``); values are read as TOML, and as text where they are none.

    Raises:
        NotFound: there is no such preset or file.
        ConfigError: a key or value is wrong.
    """
    return config_from(preset_with(name, overrides, seed), where=name)


def preset_with(
    name: str, overrides: Iterable[str] = (), seed: int | None = None
) -> dict[str, Any]:
    """The raw data of a preset or a ``.toml`` file with its overrides, before it is validated.

    Raises:
        NotFound: there is no such preset or file.
        ConfigError: an override is none.
    """
    data = _read(name)
    set_overrides(data, dict(parse_override(text) for text in overrides))
    if seed is not None:
        data["seed"] = seed
    return data


def repeatable(config: SearchConfig, preset: str, asked: Iterable[str] = ()) -> SearchConfig:
    """The config for the inline pool, whose searches repeat bit for bit: no hours end them.

    Hours that the user asked for stay: those of a file, and those among ``asked``, overrides or
    dotted keys.
    """
    if preset.endswith(".toml") or any(text.startswith("budget.hours") for text in asked):
        return config
    return config.model_copy(update={"budget": config.budget.model_copy(update={"hours": None})})


def config_from(data: Mapping[str, Any], where: str = "config") -> SearchConfig:
    """The validated config; errors name the key, what was expected and what was got.

    Raises:
        ConfigError: a key or value is wrong.
    """
    try:
        return SearchConfig.model_validate(data)
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "config"
        got = repr(first["input"])
        more = f" (and {err.error_count() - 1} more)" if err.error_count() > 1 else ""
        hint = "`evosearch search show ID --config` prints a valid one"
        if first["type"] == "extra_forbidden":
            hint = _close(key)
        elif ".objectives." in f"{key}.":
            hint = (
                "an anchor's objectives are tables; names alone go into task.objectives, such as "
                '["live_nodes"]'
            )
        raise ConfigError(
            f"{key}: {first['msg']}{more}",
            where=where,
            got=got if len(got) <= 60 else got[:57] + "...",
            hint=hint,
        ) from err


def to_toml(config: SearchConfig) -> str:
    """The config as TOML, every field included."""
    plain, tables = [], []
    for key, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            tables.append(_table(key, value))
        else:
            plain.append(f"{key} = {_value(value)}")
    return "\n".join(plain) + "\n\n" + "\n".join(tables)


def preset_data(name: str) -> dict[str, Any]:
    """The raw data of a preset that comes with evosearch; never of a file.

    Raises:
        NotFound: there is no such preset.
    """
    if name not in preset_names():
        raise NotFound("unknown preset", expected="one of " + ", ".join(preset_names()),
                       got=repr(name))  # fmt: skip
    return _read(name)


def _read(name: str) -> dict[str, Any]:
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise NotFound(f"cannot read {name}", got=str(err)) from err
    elif name in preset_names():
        text = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise NotFound(
            "unknown preset",
            expected="one of " + ", ".join(preset_names()) + ", or a .toml file",
            got=repr(name),
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{name} is not TOML", got=str(err)) from err


def parse_override(text: str) -> tuple[str, Any]:
    """The dotted key and the value of ``key=value``.

    Raises:
        ConfigError: it is no such text.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            "bad override", expected="key=value, for instance task.steps=150", got=repr(text)
        )
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    return key.strip(), value


def set_overrides(data: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Sets dotted keys in a preset's data.

    The hours of a preset's budget hold only where no other budget is asked for.

    Raises:
        ConfigError: a key leads through something that is no table.
    """
    if any(key.startswith("budget.") for key in overrides):
        data.get("budget", {}).pop("hours", None)
    for key, value in overrides.items():
        set_override(data, key, value)


def set_override(data: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in a preset's data; lists are entered by index.

    Raises:
        ConfigError: the key leads through something that is no table.
    """
    *path, last = key.split(".")
    place: Any = data
    for part in path:
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            place = place.setdefault(part, {})
        else:
            break
    if not isinstance(place, dict):
        raise ConfigError("bad override: no such table", got=repr(key), hint=_close(key))
    place[last] = value


def _close(key: str) -> str:
    known = sorted(_keys(SearchConfig))
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return (
        f"did you mean {near[0]}?"
        if near
        else "known tables: " + ", ".join(name for name in SearchConfig.model_fields)
    )


def _keys(model: Any, prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if hasattr(field.annotation, "model_fields"):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def _table(path: str, value: dict[str, Any], head: str = "[{}]") -> str:
    plain, inner = [], []
    for key, entry in value.items():
        name = key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)
        if isinstance(entry, dict):
            inner += [_table(f"{path}.{name}", entry)] if entry else []
        elif isinstance(entry, list) and entry and all(isinstance(row, dict) for row in entry):
            inner += [_table(f"{path}.{name}", row, "[[{}]]") for row in entry]
        elif entry is not None:
            plain.append(f"{name} = {_value(entry)}")
    return "\n".join([head.format(path), *plain, "", *inner])


def _value(value: Any) -> str:
    return json.dumps(value)
