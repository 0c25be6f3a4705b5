"""Ray workers stand back for the pages as far as the setting says."""

from __future__ import annotations

import os

import ray

from api.controller_main import open_pool
from api.settings import load_settings


def test_workers_have_the_settings_nice_value() -> None:
    assert load_settings().worker_nice == 10
    wanted = os.getpriority(os.PRIO_PROCESS, 0) + 4
    pool = open_pool(load_settings({"workers": 1, "worker_nice": wanted}))
    try:
        (actor,) = getattr(pool, "_pool", pool)._actors
        pid = ray.get(actor.handle.ready.remote())
        assert os.getpriority(os.PRIO_PROCESS, pid) == wanted
    finally:
        pool.close()
