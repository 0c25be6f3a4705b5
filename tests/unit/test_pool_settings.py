"""Settings of the workers reach the Ray pool, from flags, variables and the service's settings."""

from __future__ import annotations

import os
from typing import Any

import pytest

from api import commands_search
from api.cli import run
from api.controller_main import open_pool
from api.settings import load_settings
from api.wiring import make_pool
from evosearch.errors import ConfigError
from workers import ray_pool


class Recorded:
    """Stands for the Ray pool and says what it was made with."""

    capacity, device_kind = 6, "cuda"
    made: dict = {}

    def __init__(self, workers, **options):
        Recorded.made = {"workers": workers, **options}


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    monkeypatch.setattr(ray_pool, "RayPool", Recorded)
    monkeypatch.delenv("EVOSEARCH_CACHE", raising=False)
    for name in [*os.environ]:
        if name.startswith("EVOSEARCH_"):
            monkeypatch.delenv(name)


def test_without_settings_everything_is_the_pools_own_default():
    make_pool("ray", 3)
    assert Recorded.made == {
        "workers": 3, "address": None, "hang_seconds": 600.0, "gpu_share": None,
        "gpu_memory_share": 0.9, "memory_limit": None, "checkpoints": None,
        "nice": 10,
    }  # fmt: skip


def test_variables_are_taken_where_nothing_is_given(monkeypatch, tmp_path):
    folder = tmp_path / "deep" / "checkpoints"
    for name, value in {
        "CHECKPOINTS": folder, "WORKER_MEMORY": "2000", "HANG_SECONDS": "33",
        "GPU_MEMORY_SHARE": "0.5", "GPUS_PER_WORKER": "0.25", "RAY_ADDRESS": "head:6379",
        "WORKERS": "5",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"EVOSEARCH_{name}", str(value))
    make_pool("ray", None)
    assert folder.is_dir()
    expected = {
        "workers": 5, "address": "head:6379", "hang_seconds": 33.0, "gpu_share": 0.25,
        "gpu_memory_share": 0.5, "memory_limit": 2000 * 2**20, "checkpoints": str(folder),
        "nice": 10,
    }  # fmt: skip
    assert Recorded.made == expected
    Recorded.made = {}
    assert isinstance(open_pool(load_settings()), Recorded)
    assert Recorded.made == expected
    make_pool("ray", 1, "other:1", 7.0)
    assert Recorded.made == expected | {"workers": 1, "address": "other:1", "hang_seconds": 7.0}
    monkeypatch.setenv("EVOSEARCH_HANG_SECONDS", "-1")
    with pytest.raises(ConfigError, match="hang_seconds"):
        make_pool("ray", None)


def test_the_inline_pool_refuses_a_cluster():
    with pytest.raises(ConfigError, match="knows no cluster"):
        make_pool("inline", None, "head:6379")


def test_the_cache_is_told_the_workers_device(monkeypatch, tmp_path):
    monkeypatch.setenv("EVOSEARCH_CACHE", str(tmp_path))
    pools: list[Any] = [make_pool(kind, 1) for kind in ("ray", "inline")]
    on_ray, inline = (one._kept._device for one in pools)
    assert on_ray == "cuda"
    assert inline in ("cpu", "cuda")


@pytest.mark.parametrize("word", ["start", "resume"])
def test_commands_pass_address_patience_and_data_folder(monkeypatch, tmp_path, word):
    told = {}

    def begin(store, info, word, db, pool, make, out):
        make()
        told["data"] = os.environ.get("EVOSEARCH_DATA_DIR")
        return 0

    monkeypatch.setattr(commands_search, "_run", begin)
    db = f"{tmp_path}/store.db"
    more = ["--ray-address", "head:6379", "--hang-seconds", "44", "--data-dir", str(tmp_path)]
    assert run(["search", "start", "quickstart", "--db", db, *more]) == 0
    if word == "resume":
        import sqlite3

        (ref,) = sqlite3.connect(db).execute("SELECT id FROM searches").fetchone()
        Recorded.made = {}
        assert run(["search", "resume", ref, "--db", db, *more]) == 0
    assert Recorded.made["address"] == "head:6379"
    assert Recorded.made["hang_seconds"] == 44.0
    assert told["data"] == str(tmp_path)
    monkeypatch.delenv("EVOSEARCH_DATA_DIR")


def test_the_inline_pool_with_an_address_is_a_usage_error(tmp_path, capsys):
    words = ["search", "start", "quickstart", "--pool", "inline", "--ray-address", "a:1"]
    assert run([*words, "--db", f"{tmp_path}/store.db"]) != 0
    assert "knows no cluster" in capsys.readouterr().err
    assert not (tmp_path / "store.db").exists()


def test_a_data_folder_that_is_none_is_refused_everywhere(tmp_path, capsys):
    gone = ["--data-dir", str(tmp_path / "gone")]
    for words in (["eval", "relu(x)"], ["layer", "relu(x)"], ["search", "start", "quickstart"],
                  ["search", "resume", "x"], ["serve"], ["controller"], ["rerank", "x"],
                  ["report", "x"], ["rerun", "x"]):  # fmt: skip
        assert run([*words, *gone]) != 0
        assert "no such data folder" in capsys.readouterr().err
