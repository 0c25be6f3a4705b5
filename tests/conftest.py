"""Which tests share a process when several run them: those of a file, and whatever starts Ray.

A Ray of its own is several processes; two at a time on a small machine slow each other down until
their time limits are met. The tests beside them wait for much of their time, so that more processes
than cores are worth their while.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from evosearch.garbage import collect_rarely

RAY = frozenset({
    "test_front_door", "test_ray_faults", "test_ray_pool", "test_ray_search",
    "test_rerank_runs", "test_wheel",
})  # fmt: skip


class ByFile(LoadScopeScheduling):
    """As ``--dist loadfile``, with the files of Ray as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if Path(file).stem in RAY else file


def pytest_collection_finish() -> None:
    """What was imported and collected stays: looking for garbage in it took a tenth of all time."""
    gc.collect()
    gc.freeze()
    collect_rarely()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile | None:
    """Puts `ByFile` in place of ``--dist loadfile``."""
    by_file = config.getoption("dist") == "loadfile"
    return ByFile(config, log) if by_file else None  # type: ignore[arg-type]
