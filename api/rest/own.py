"""Plug-ins over REST: a request names what the server's configuration registered, and nothing else.

Files, folders and hashes of a request are never followed. This file must not load a plug-in: the
controllers say what they have loaded.
"""

from __future__ import annotations

from typing import Any

from api.problems import Refused
from evosearch.config import Anchor, Plugin, SearchConfig


def with_offered_plugins(offers: dict[str, Any], config: SearchConfig) -> SearchConfig:
    """The config with the plug-ins that its anchors and data come from, as controllers have them.

    Raises:
        Refused: it names a plug-in, or names none of its anchors' own.
    """
    offered: list[dict[str, Any]] = offers.get("plugins", [])
    known = {(one["name"], one["sha256"]) for one in offered}
    for plugin in config.task.plugins:
        if (plugin.name, plugin.sha256) not in known or plugin.file or plugin.folder:
            raise Refused(
                422, f"unknown plug-in {plugin.name[:60]!r}; plug-ins are registered in the "
                "server's setting EVOSEARCH_PLUGINS, and a request names their anchors only"
            )  # fmt: skip
    needed: dict[str, Plugin] = {}
    anchors = []
    for anchor in config.task.anchors:
        found = anchor
        for one in offered:
            if anchor.name in one["anchors"]:
                needed[one["sha256"]] = Plugin(name=one["name"], sha256=one["sha256"])
                given = anchor.model_dump(mode="json", exclude_unset=True)
                found = Anchor.model_validate(one["anchors"][anchor.name] | given)
        anchors.append(found)
    for one in offered:
        names = {*one["datasets"], *one["checks"]}
        if names & {config.task.dataset, *config.space.checks}:
            needed[one["sha256"]] = Plugin(name=one["name"], sha256=one["sha256"])
    if not needed:
        return config
    task = config.task.model_copy(
        update={"anchors": tuple(anchors), "plugins": tuple(needed.values())}
    )
    return config.model_copy(update={"task": task})
