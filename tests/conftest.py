"""Which tests share a process when several run them: those of a file, and whatever starts Ray.

A Ray of its own is several processes; two at a time on a small machine slow each other down until
their time limits are met. The tests beside them wait for much of their time, so that more processes
than cores are worth their while.
"""

from __future__ import annotations

import pytest

RAY = frozenset({
    "test_front_door", "test_kills", "test_ray_faults", "test_ray_pool", "test_ray_search",
    "test_replay_ray", "test_rerank_runs", "test_wheel",
})  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's group for ``--dist loadgroup``."""
    for item in items:
        file = item.path
        group = "ray" if file.stem in RAY else f"{file.parent.name}/{file.stem}"
        item.add_marker(pytest.mark.xdist_group(group))
