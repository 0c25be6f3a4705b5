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


def leaves(place, prefix=""):
    """Keys of all that a file of settings sets; those of the n-th anchor are ``anchors.n.KEY``."""
    for key, value in place.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif key == "anchors":
            for number, anchor in enumerate(value):
                yield from leaves(anchor, f"{prefix}{key}.{number}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("series", "bs")
def test_what_a_preset_sets_stands_in_the_table(series):
    text = TABLE.parents[1] / "evosearch" / "presets" / f"paper-{series}.toml"
    found = set(leaves(tomllib.loads(text.read_text())))
    anchors = {f"task.anchors.{n}.{key}" for n in range(3) for key in ("name", "size", "reference")}
    assert anchors | {"baselines", "confirmation.rivals"} <= found
    assert found - {row["key"] for row in rows()} == {"preset"}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_names_what_there_is(name):
    config = load_preset(name)
    assert config.preset == name
    assert config.task.dataset in DATASETS.names()
    for anchor in config.task.anchors:
        spec = ANCHORS.get(anchor.name).spec(anchor, 3, 10)
        assert spec.size == anchor.size
