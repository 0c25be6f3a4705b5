"""The table of the paper's settings says what the presets set, and every preset can be built."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from evosearch.presets import load_preset, preset_names
from workers.anchors import ANCHORS
from workers.datasets import DATASETS

TABLE = Path(__file__).parents[2] / "docs" / "paper-settings.md"
ROW = re.compile(
    r"^\| `(?P<key>[a-z_.0-9]+)` \| (?P<b>[^|]+) \| (?P<s>[^|]+) \| (?P<sure>[^|]+) \|"
)


def rows():
    lines = TABLE.read_text().splitlines()
    found = [match for line in lines if (match := ROW.match(line))]
    assert len(found) == sum(line.startswith("| `") for line in lines)
    return found


def value_of(config, key):
    place = config.model_dump(mode="json")
    for part in key.split("."):
        place = place[int(part)] if part.isdigit() else place[part]
    return place


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["key"])
def test_a_row_says_what_the_presets_set(row):
    assert row["sure"].strip() in ("P", "M", "?")
    for series in "bs":
        stated = tomllib.loads(f"value = {row[series].strip()}")["value"]
        assert value_of(load_preset(f"paper-{series}"), row["key"]) == stated


def test_what_the_presets_set_stands_in_the_table():
    keys = {row["key"] for row in rows()}
    ours = {"preset", "baselines", "reference", "learning_rates", "tune_seeds", "final_seeds",
            "rivals", "size", "name"}  # fmt: skip
    text = Path(TABLE).parents[1] / "evosearch" / "presets" / "paper-b.toml"

    def leaves(place, prefix=""):
        for key, value in place.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            elif key != "anchors" and key not in ours:
                yield prefix + key

    assert set(leaves(tomllib.loads(text.read_text()))) <= keys


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_names_what_there_is(name):
    config = load_preset(name)
    assert config.preset == name
    assert config.task.dataset in DATASETS.names()
    for anchor in config.task.anchors:
        spec = ANCHORS.get(anchor.name).spec(anchor, 3, 10)
        assert spec.size == anchor.size
