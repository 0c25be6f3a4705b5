"""Finds what a caller names: by file (``my_task.py:Name``), entry point, or name alone.

Anchors, data sets, objectives, checks and primitives are named alike in a file of settings, on the
command line and in Python. Over REST nothing of this is followed: see `api.rest.own`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evosearch.config import Plugin
from evosearch.errors import ConfigError, PluginError
from evosearch.objectives import ACCURACY, Objective
from evosearch.own import REGISTER, Entry, Kind
from evosearch.plugins import (
    MODULE_PREFIX,
    Loaded,
    adopt,
    all_loaded,
    find,
    load,
    loaded,
    read_source,
    registered_sources,
)

BPC = Objective("bpc", "min", "bit/char")
MADE_BY = {
    "anchor": "es.anchor or es.evaluator", "dataset": "es.dataset", "objective": "es.objective",
    "check": "es.check", "primitive": "es.primitive", "alert_sink": "es.alert_sink",
}  # fmt: skip


def loaded_from(reference: str, plugin_path: Path | None = None) -> tuple[Loaded | None, str]:
    """The plug-in and the name that ``file.py:Name`` or ``entry-point:Name`` means.

    Returns:
        None and the reference itself where it is a plain name.

    Raises:
        PluginError: the file cannot be loaded, or has no such name.
    """
    place, colon, name = reference.rpartition(":")
    if not colon:
        place, name = (reference, "") if reference.endswith(".py") else ("", reference)
    if not place or place == "folder":
        return None, reference
    return load(read_source(place, plugin_path)), name


def anchor_names(loaded: Loaded, name: str) -> list[str]:
    """Names of the plug-in's anchors that ``name`` means; all of them where it is empty.

    Raises:
        PluginError: it means none.
    """
    return _names(loaded, "anchor", name)


def _names(loaded: Loaded, kind: Kind, name: str) -> list[str]:
    entries = [one for one in loaded.entries if one.kind == kind]
    if not name:
        found = [one.name for one in entries]
    else:
        found = [one.name for one in entries if name in (one.name, _python_name(one))]
    if not found:
        known = ", ".join(_python_name(one) for one in entries)
        raise PluginError(
            f"no {kind} {name or 'at all'}", where=loaded.source.name,
            expected=f"one of {known}" if known else f"something under {MADE_BY[kind]}",
        )  # fmt: skip
    return found


def _python_name(entry: Entry) -> str:
    value = entry.value[1] if entry.kind == "objective" else entry.value
    made_by = getattr(value, "made_by", value)
    name = str(getattr(made_by, "__name__", entry.name))
    return entry.name if name == "<lambda>" else name


class Parts:
    """Plug-ins and anchor names, collected from references of all kinds."""

    def __init__(self, plugin_path: Path | None = None) -> None:
        self.plugins: dict[str, Plugin] = {}
        self._path = plugin_path

    def anchors(self, reference: Any) -> list[str]:
        """Anchor names of a reference: a name, ``file.py:Name``, or what was registered itself."""
        if not isinstance(reference, str):
            return [self._registered(reference)]
        loaded, name = loaded_from(reference, self._path)
        if loaded is None:
            self.known("anchor", name)
            return [name]
        self.take(loaded)
        return anchor_names(loaded, name)

    def name(self, kind: Kind, reference: str) -> str:
        """The one name that a reference means: a name, ``file.py:name``, or a file with one.

        Raises:
            PluginError: the file cannot be loaded, or has none or several of that kind.
        """
        loaded, name = loaded_from(reference, self._path)
        if loaded is None:
            self.known(kind, name)
            return name
        self.take(loaded)
        found = _names(loaded, kind, name)
        if len(found) > 1:
            raise PluginError(
                f"{reference} has several of {MADE_BY[kind]}", expected=f"{reference}:NAME",
                got=", ".join(found),
            )  # fmt: skip
        return found[0]

    def known(self, kind: Kind, name: str) -> None:
        """Note the plug-in, script or notebook that registered a name, if one did."""
        entry = REGISTER.find(kind, name)
        if entry is None:
            for source in registered_sources():  # what the server's settings offer
                offered = load(source)
                if any(one.kind == kind and one.name == name for one in offered.entries):
                    self.take(offered)
            return
        by_file = _loaded_with(entry)
        loaded = by_file or adopt(entry.module, self._path)
        if loaded is not None:
            self.take(loaded)

    def read(self, reference: str) -> Loaded:
        """The plug-in of a file or entry point.

        Raises:
            PluginError: it cannot be loaded.
        """
        return load(read_source(reference, self._path))

    def take(self, loaded: Loaded) -> None:
        """Note a plug-in that the search needs."""
        self.plugins[loaded.source.sha256] = loaded.plugin

    def _registered(self, thing: Any) -> str:
        for entry in REGISTER.entries("anchor"):
            if entry.value is thing or getattr(entry.value, "made_by", None) is thing:
                self.known("anchor", entry.name)
                return entry.name
        raise ConfigError(
            "this is no anchor", got=repr(thing)[:80],
            expected="a name, file.py:Name, or what es.anchor or es.evaluator decorated",
        )  # fmt: skip


def _loaded_with(entry: Entry) -> Loaded | None:
    """The file or entry point that was loaded and registered this; no script or notebook."""
    return next(
        (
            one for one in all_loaded()
            if any(entry is known for known in one.entries)
            and (one.source.entry_point or one.module.__name__.startswith(MODULE_PREFIX))
        ),
        None,
    )  # fmt: skip


def anchor_setting(name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An anchor's table in a config, with what its code says filled in.

    Raises:
        NotFound: there is no such anchor.
    """
    from workers.anchors import ANCHORS

    network = ANCHORS.get(name)
    made: dict[str, Any] = {"name": name, **(given or {})}
    if network.forbids and not made.get("forbids"):
        made["forbids"] = sorted(network.forbids)
    own = network.own
    if own is not None:
        made.setdefault("slot", own.slot)
        if own.objectives and not made.get("objectives"):
            made["objectives"] = [one.model_dump(mode="json") for one in own.objectives]
    elif network.kind == "text" and not made.get("objectives"):
        made["objectives"] = [BPC.model_dump(mode="json")]
    return made


def named(data: dict[str, Any], parts: Parts) -> None:
    """Have a config's raw data name its parts by their own names, and note where they come from.

    ``task.plugins`` may hold files and entry points beside tables, ``task.anchors`` names beside
    tables. ``task.objectives``, further objectives of every anchor, is taken apart: a config says
    them anchor by anchor.

    Raises:
        PluginError: a plug-in cannot be loaded, or has no such name.
        NotFound: nothing measures an objective.
    """
    task, space = data.setdefault("task", {}), data.setdefault("space", {})
    for one in _listed(task, "plugins", "task"):
        is_name = isinstance(one, str)
        parts.take(parts.read(one) if is_name else plugin_of(Plugin.model_validate(one)))
    if "anchors" in task:
        task["anchors"] = [
            row for one in _listed(task, "anchors", "task") for row in _rows(one, parts)
        ]
    if isinstance(task.get("dataset"), str):
        task["dataset"] = parts.name("dataset", task["dataset"])
    for key, kind in KINDS.items():
        if key in space:
            space[key] = [parts.name(kind, str(one)) for one in _listed(space, key, "space")]
    _name_objectives(task, parts)
    task["plugins"] = [plugin.model_dump(mode="json") for plugin in parts.plugins.values()]


KINDS: dict[str, Kind] = {"checks": "check", "primitives": "primitive"}
"""Lists of names in ``space`` -> what they name."""


def _rows(one: Any, parts: Parts) -> list[Any]:
    """The tables that a name or table in ``task.anchors`` means; what is neither stays as it is."""
    row = {"name": one} if isinstance(one, str) else one
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        return [row]
    return [row | {"name": name} for name in parts.anchors(row["name"])]


def _name_objectives(task: dict[str, Any], parts: Parts) -> None:
    from workers.measures import goal_of

    further = [
        goal_of(parts.name("objective", str(one))).model_dump(mode="json")
        for one in _listed(task, "objectives", "task")
    ]
    task.pop("objectives", None)
    for anchor in task.get("anchors", ()):
        if not isinstance(anchor, dict) or not anchor.get("name"):
            continue
        for goal in _listed(anchor, "objectives", "task.anchors"):
            if isinstance(goal, dict) and isinstance(goal.get("name"), str):
                goal["name"] = parts.name("objective", goal["name"])
        add_objectives(anchor, further, anchor_setting(anchor["name"]) if further else {})


def add_objectives(
    anchor: dict[str, Any], further: list[dict[str, Any]], own: Mapping[str, Any]
) -> None:
    """Give an anchor's raw table objectives beside those that it or its own code has.

    ``own``: the table as the anchor's code says it.
    """
    if further:
        mine = anchor.get("objectives") or own.get("objectives")
        mine = mine or [ACCURACY.model_dump(mode="json")]
        known = {goal["name"] for goal in mine}
        anchor["objectives"] = [*mine, *(one for one in further if one["name"] not in known)]


def _listed(table: Mapping[str, Any], key: str, path: str) -> list[Any]:
    """A list of the raw data; what is none is left to the validation of the config.

    Raises:
        ConfigError: it is no list.
    """
    value = table.get(key, [])
    if not isinstance(value, (list, tuple)):
        raise ConfigError(
            "this is no list", where=f"{path}.{key}", got=repr(value)[:60],
            expected='["NAME", ...]',
        )  # fmt: skip
    return list(value)


def plugin_of(plugin: Plugin) -> Loaded:
    """The plug-in that a config names, loaded.

    Raises:
        PluginError: it is gone, has changed, or fails.
    """
    known = loaded(plugin.sha256) if plugin.sha256 else None
    return known or load(find(plugin))
