"""The study of searches on a table: what it measures, keeps and goes on from."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evosearch.errors import ConfigError
from evosearch.propose import Proposer
from tests.benchmarks import study_table
from tests.benchmarks.chart import write_bands
from tests.benchmarks.record import read_rows
from tests.support.small_table import EVOLUTION, full
from workers.table.form import load_table
from workers.table.pool import TablePool


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a table that holds all of its space."""
    made = tmp_path_factory.mktemp("full") / "full.npz"
    full(made)
    return made


def without_time(row: dict[str, Any]) -> dict[str, Any]:
    """What is the same however busy the machine is."""
    path = [(steps, value) for steps, _, value in row["path"]]
    return {**row, "seconds": 0.0, "controller_seconds": 0.0, "path": path}


def test_the_study_compares_searches_seed_by_seed(path: Path, tmp_path: Path) -> None:
    options = {"steps": 400, "workers": 1, "held_out": 1, "set": EVOLUTION}
    rows = [
        study_table.search((str(path), variant, seed, options))
        for variant in ("default", "random")
        for seed in (1, 2, 3)
    ]
    assert all(row["steps"] >= 400 or row["exhausted"] for row in rows)
    assert all(row["outside"] == 0 for row in rows)
    again = study_table.search((str(path), "default", 1, options))
    assert without_time(again) == without_time(rows[0])
    assert all(0.0 < row["controller_seconds"] < row["seconds"] for row in rows)
    found = study_table.summary(rows)
    assert found["random"]["against"]["random"]["steps"]["reached_by"] == 1.0
    assert found["default"]["searches"] == 3
    bands = study_table.bands(rows, 0)
    write_bands(tmp_path / "bands.svg", "title", "steps", "hypervolume", bands)
    assert (tmp_path / "bands.svg").read_text().count("<polyline") == 2


def test_the_study_goes_on_where_it_was_stopped(path: Path, tmp_path: Path) -> None:
    first, more = (tmp_path / name for name in ("first.jsonl", "more.jsonl"))
    options = {"steps": 200, "workers": 1, "held_out": 1, "set": [*EVOLUTION]}

    def told(seeds: int, *rows: Path, variants: Sequence[str] = ("default", "random")) -> Namespace:
        return Namespace(
            table=path, variants=list(variants), seeds=seeds, first_seed=1, rows=list(rows),
            processes=1,
        )  # fmt: skip

    study_table.searched(told(1, first), options)
    study_table.searched(told(2, more, first, variants=["default"]), options)
    assert [(row["variant"], row["seed"]) for row in read_rows([more])] == [("default", 2)]
    rows = study_table.searched(told(2, more, first), options)
    assert len(rows) == len(read_rows([more, first])) == 4
    before = {(one["variant"], one["seed"]): without_time(one) for one in rows}
    for one in study_table.searched(told(2), options):
        assert without_time(one) == before[one["variant"], one["seed"]]
    with pytest.raises(ConfigError, match="several studies"):
        study_table.searched(told(2, more), {**options, "steps": 300})

    assert study_table.reported(told(2, first, more), options) == read_rows([first, more])
    result = study_table.result_of(load_table(path), rows, options, {"no hurdles": "the same"})
    assert result["summary"]["default"]["searches"] == 2
    assert result["variants"].keys() == {"default", "random"}
    for files, asked in (((first,), {**options, "steps": 300}), ((), options)):
        with pytest.raises(ConfigError, match="the options that are asked for"):
            study_table.reported(told(2, *files), asked)


def test_the_controllers_seconds_are_its_own(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the controller takes is in them, but not what the table takes."""
    options = {"steps": 200, "workers": 1, "held_out": 1, "set": [*EVOLUTION]}

    def slower(owner: type, name: str) -> dict[str, Any]:
        plain = getattr(owner, name)

        def slow(*args: Any) -> Any:
            until = time.process_time() + 0.05
            while time.process_time() < until:
                pass
            return plain(*args)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, slow)
            return study_table.search((str(path), "random", 1, options))

    looking, proposing = slower(TablePool, "answer"), slower(Proposer, "seek")
    least = 0.05 * looking["asked"]
    assert looking["controller_seconds"] < least < proposing["controller_seconds"]
    assert proposing["seconds"] > proposing["controller_seconds"]
    assert without_time(looking) == without_time(proposing)


def test_the_default_is_read_with_the_seeds_that_all_have() -> None:
    ends = {
        ("default", 1): 0.1,
        ("default", 2): 0.2,
        ("default", 3): 0.9,
        ("random", 1): 0.1,
        ("random", 2): 0.1,
        ("random", 3): 0.1,
        ("restarts", 1): 0.1,
        ("restarts", 2): 0.1,
    }
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "budget": 9,
            "hypervolume": value,
            "evaluated": 1,
            "path": [(1, 1.0, value)],
            "asked": 1,
            "proposals": 1,
            "seconds": 1.0,
            "steps": 9,
            "outside": 0,
            "exhausted": False,
        }
        for (variant, seed), value in ends.items()
    ]
    found = study_table.with_the_fewest_seeds(rows)
    assert (found["searches"], found["hypervolume"]["high"]) == (2, 0.2)
    assert found["against"]["random"]["seeds"] == 2
    assert study_table.with_the_fewest_seeds(rows[2:5]) == {}
