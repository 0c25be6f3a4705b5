"""What an installation can train, as plain data: written by controllers, read by the service.

The lists of anchors and data sets are names; reading them imports torch, so the web process asks
the store or its helper instead of this file's `offers`.
"""

from __future__ import annotations

from typing import Any


def offers() -> dict[str, Any]:
    """Anchors, data sets, baselines, presets, plug-ins and versions of this installation.

    Raises:
        PluginError: a plug-in of the server's settings cannot be loaded.
    """
    from api.wiring import versions
    from evosearch.own import ORIGINAL
    from evosearch.plugins import load, registered_sources
    from evosearch.presets import preset_names
    from primitives.catalog import CATALOG
    from workers.anchors import ANCHORS
    from workers.datasets import DATASETS
    from workers.layers import TORCH_BASELINES
    from workers.measures import BUILT_IN, goal_of

    plugins = []
    for source in registered_sources():
        loaded = load(source)
        names = {kind: [one.name for one in loaded.entries if one.kind == kind]
                 for kind in ("anchor", "dataset", "check", "primitive", "objective")}  # fmt: skip
        plugins.append({
            "name": loaded.source.name, "sha256": loaded.source.sha256,
            "anchors": {name: _offered_anchor(name) for name in names["anchor"]},
            "datasets": names["dataset"], "checks": names["check"],
            "primitives": names["primitive"],
            "objectives": {name: goal_of(name).model_dump(mode="json")
                           for name in names["objective"]},
        })  # fmt: skip
    return {
        "plugins": plugins,
        "objectives": {name: goal_of(name).model_dump(mode="json") for name in BUILT_IN},
        "anchors": list(ANCHORS.names()),
        "datasets": list(DATASETS.names()),
        "baselines": list(dict.fromkeys((*CATALOG, *TORCH_BASELINES, ORIGINAL))),
        "presets": preset_names(),
        "versions": versions(),
    }


def _offered_anchor(name: str) -> dict[str, Any]:
    """A user's anchor with what its code and a short pass through it say."""
    from api.own_config import allowed_baselines, complete, own_config
    from primitives.catalog import CATALOG
    from workers.layers import TORCH_BASELINES

    config = complete(own_config(
        [name], preset=None, settings={}, baselines=None, checks=(), objectives=(),
        plugin_path=None,
    ))  # fmt: skip
    known = [*config.baselines, *TORCH_BASELINES, *CATALOG]
    return {
        "setting": config.task.anchors[0].model_dump(mode="json", exclude_defaults=True),
        "baselines": list(config.baselines),
        "allowed": allowed_baselines(config.task.anchors, known),
    }
