"""Plug-ins over REST: a request names what the server's configuration registered, and nothing else.

Files, folders and hashes of a request are never followed. This file must not load a plug-in: the
controllers say what they have loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.naming import add_objectives
from api.problems import Refused
from evosearch.config import Anchor, Plugin, SearchConfig


def with_offered_plugins(offers: dict[str, Any], config: SearchConfig) -> SearchConfig:
    """The config with the plug-ins that its anchors, data, checks, primitives and objectives come
    from, as controllers have them.

    What a request says of a plug-in but its name and hash is dropped.

    Raises:
        Refused: it names a plug-in that no controller has loaded.
    """
    offered: list[dict[str, Any]] = offers.get("plugins", [])
    known = {(one["name"], one["sha256"]) for one in offered}
    for plugin in config.task.plugins:
        if (plugin.name, plugin.sha256) not in known:
            raise Refused(
                422, f"unknown plug-in {plugin.name[:60]!r}; plug-ins are registered in the "
                "server's setting EVOSEARCH_PLUGINS, and a request names their anchors only"
            )  # fmt: skip
    needed: dict[str, Plugin] = {
        one.sha256: Plugin(name=one.name, sha256=one.sha256) for one in config.task.plugins
    }
    own = {name: row for one in offered for name, row in one["anchors"].items()}
    space = config.space
    asked = {*config.anchor_names, config.task.dataset, *space.checks, *space.primitives}
    goals = {goal.name for anchor in config.task.anchors for goal in anchor.objectives}
    for one in offered:
        names = {*one["anchors"], *one["datasets"], *one["checks"], *one["primitives"]}
        if names & asked or goals & {*one.get("objectives", ())}:
            needed[one["sha256"]] = Plugin(name=one["name"], sha256=one["sha256"])
    anchors = tuple(_filled(anchor, own) for anchor in config.task.anchors)
    update = {"anchors": anchors, "plugins": tuple(needed.values())}
    config = config.model_copy(update={"task": config.task.model_copy(update=update)})
    rows = [own[anchor.name] for anchor in anchors if anchor.name in own]
    return _with_baselines(config, rows) if rows else config


def name_objectives(offers: dict[str, Any], data: dict[str, Any]) -> None:
    """Give the anchors of a config's raw data the objectives that ``task.objectives`` names.

    Raises:
        Refused: nothing here measures one.
    """
    task = data.get("task", {})
    wanted = task.pop("objectives", None)
    if wanted is None:
        return
    known = dict(offers.get("objectives", {}))
    own: dict[str, Any] = {}
    for one in offers.get("plugins", []):
        known |= one["objectives"]
        own |= one["anchors"]
    strange = [name for name in wanted if name not in known] if isinstance(wanted, list) else [0]
    if strange:
        told = f"expected a list of names among {', '.join(known)}, got {strange[0]!r:.60}"
        raise Refused(422, f"task.objectives: {told}")
    for anchor in task.get("anchors", []):
        code = own.get(anchor["name"], {"setting": {}})["setting"]
        add_objectives(anchor, [known[name] for name in wanted], code)


def offered_instead(offers: dict[str, Any], plugins: Sequence[Plugin]) -> tuple[Plugin, ...]:
    """A search's plug-ins, as controllers have them now; what none has stays as it is."""
    known: dict[str, set[str]] = {}
    for one in offers.get("plugins", []):
        known.setdefault(one["name"], set()).add(one["sha256"])
    return tuple(
        plugin if plugin.sha256 in (found := known.get(plugin.name, {plugin.sha256}))
        else Plugin(name=plugin.name, sha256=min(found))
        for plugin in plugins
    )  # fmt: skip


def _filled(anchor: Anchor, own: dict[str, Any]) -> Anchor:
    """What the anchor's own code says, where the request does not."""
    if anchor.name not in own:
        return anchor
    given = anchor.model_dump(mode="json", exclude_unset=True)
    return Anchor.model_validate(own[anchor.name]["setting"] | given)


def _with_baselines(config: SearchConfig, rows: list[dict[str, Any]]) -> SearchConfig:
    """Baselines that every own anchor takes; where there is none, those that its code names."""
    allowed = set.intersection(*(set(row["allowed"]) for row in rows))
    fitting = [one for one in config.baselines if one in allowed] or rows[0]["baselines"]
    rivals = [one for one in config.confirmation.rivals if one in allowed] or fitting[:2]
    confirmation = config.confirmation.model_copy(update={"rivals": tuple(rivals)})
    return config.model_copy(update={"baselines": tuple(fitting), "confirmation": confirmation})
