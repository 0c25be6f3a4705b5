"""What an installation can train, as plain data: written by controllers, read by the service.

The lists of anchors and data sets are names; reading them imports torch, so the web process asks
the store or its helper instead of this file's `offers`.
"""

from __future__ import annotations

from typing import Any


def offers() -> dict[str, Any]:
    """Anchors, data sets, presets and versions of this installation."""
    from api.wiring import versions
    from evosearch.presets import preset_names
    from workers.anchors import ANCHORS
    from workers.datasets import DATASETS

    return {
        "anchors": list(ANCHORS.names()),
        "datasets": list(DATASETS.names()),
        "presets": preset_names(),
        "versions": versions(),
    }
