"""What an installation can train, as plain data: written by controllers, read by the service.

The lists of anchors and data sets are names; reading them imports torch, so the web process asks
the store or its helper instead of this file's `offers`.
"""

from __future__ import annotations

from typing import Any


def offers() -> dict[str, Any]:
    """Anchors, data sets, baselines, presets and versions of this installation."""
    from api.wiring import versions
    from evosearch.presets import preset_names
    from primitives.catalog import CATALOG
    from workers.anchors import ANCHORS
    from workers.datasets import DATASETS
    from workers.layers import TORCH_BASELINES

    return {
        "anchors": list(ANCHORS.names()),
        "datasets": list(DATASETS.names()),
        "baselines": list(dict.fromkeys((*CATALOG, *TORCH_BASELINES))),
        "presets": preset_names(),
        "versions": versions(),
    }
