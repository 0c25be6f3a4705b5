"""The tables of the paper's settings say all that its presets come to, and every preset can be
built."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from evosearch.config import Evolution, SearchConfig
from evosearch.presets import load_preset, preset_names
from workers.anchors import ANCHORS
from workers.datasets import DATASETS

PAGE = Path(__file__).parents[2] / "docs" / "paper-settings.md"
OF_NO_ALGORITHM = {"preset", "seed"}
OFF = {"surrogate": "enabled", "checks.signal": "enabled", "checks.hurdles": "steps"}
"""Group of settings -> the one of them that is false or empty where the group is off; the others
do not count then, and need no row."""
ANCHOR = "task.anchors.*."
"""How the key of a row begins that is about each of the anchors."""


class Row(NamedTuple):
    """One row of the page. ``values``: of paper-b and paper-s as TOML, one of both, or ``none``."""

    key: str
    values: tuple[str, ...]
    sure: str
    source: str


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            key, *values, sure, source = (cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(key.strip("`"), tuple(values), sure, source))
    return found


def stated(series: str) -> dict[str, Any]:
    """Setting -> its value by the page, in the preset of that series."""
    config, found = load_preset(f"paper-{series}"), {}
    for row in rows():
        text = row.values[0 if series == "b" else -1]
        value = None if text == "none" else tomllib.loads(f"value = {text}")["value"]
        names = [row.key]
        if row.key.startswith(ANCHOR):
            numbers = range(len(config.task.anchors))
            names = [row.key.replace("*", str(number)) for number in numbers]
        found |= dict.fromkeys(names, value)
    return found


def counted(config: SearchConfig) -> dict[str, Any]:
    """Setting -> its value, of all that make the algorithm; those of the n-th anchor are
    ``task.anchors.n.KEY``."""
    return {key: value for key, value in _leaves(config, "") if key not in OF_NO_ALGORITHM}


def _leaves(group: BaseModel, path: str) -> Iterator[tuple[str, Any]]:
    switch = OFF.get(path)
    names = [switch] if switch and not getattr(group, switch) else list(type(group).model_fields)
    plain = group.model_dump(mode="json")
    for name in names:
        value, key = getattr(group, name), f"{path}.{name}" if path else name
        if isinstance(value, BaseModel):
            yield from _leaves(value, key)
        elif name == "anchors":
            for number, anchor in enumerate(value):
                yield from _leaves(anchor, f"{key}.{number}")
        else:
            yield key, plain[name]


def changed(config: SearchConfig) -> set[str]:
    """Settings of which the page says another value, or nothing, or which are none."""
    told, found = stated("b"), counted(config)
    return {
        key for key in told.keys() | found.keys()
        if (key in told, told.get(key)) != (key in found, found.get(key))
    }  # fmt: skip


@pytest.mark.parametrize("series", "bs")
def test_the_page_says_what_a_preset_comes_to(series):
    assert stated(series) == counted(load_preset(f"paper-{series}"))


def test_a_row_says_how_sure_it_is_and_why():
    assert [row for row in rows() if len(row.values) not in (1, 2)] == []
    assert [row for row in rows() if row.sure not in ("P", "M", "?") or not row.source] == []
    assert [key for key, count in Counter(row.key for row in rows()).items() if count > 1] == []


def test_what_a_search_does_is_counted():
    found = counted(load_preset("paper-b")).keys()
    assert {f"evolution.{name}" for name in Evolution.model_fields} <= found
    assert {"space.where", "checks.stability.limit", "task.anchors.2.width", "series"} <= found
    assert {f"{group}.{switch}" for group, switch in OFF.items()} <= found


@pytest.mark.parametrize(
    "text",
    ["evolution.tournament_min=3", "evolution.warm_up=1", "evolution.operators={cross = 1.0}",
     "evolution.alike=0.99", "checks.stability.enabled=false", "task.precision='float32'",
     "task.anchors.1.width=16", "confirmation.level=0.9", "budget.hours=1.0"],
)  # fmt: skip
def test_a_changed_setting_is_noticed(text):
    assert changed(load_preset("paper-b", [text])) == {text.partition("=")[0]}


def test_what_is_switched_on_is_noticed_with_all_of_its_group():
    found = changed(load_preset("paper-b", ["checks.hurdles.steps=[40]"]))
    assert found == {f"checks.hurdles.{name}" for name in ("steps", "quantile", "after",
                                                           "spare_front")}  # fmt: skip


def test_a_new_setting_is_noticed():
    class More(Evolution):
        further: int = 0

    config = load_preset("paper-b")
    more = More(**config.evolution.model_dump())
    assert changed(config.model_copy(update={"evolution": more})) == {"evolution.further"}


def test_what_is_left_to_the_networks_is_what_the_page_says():
    source = {row.key: row.source for row in rows()}
    settings = load_preset("paper-b").task.anchors
    anchors = [ANCHORS.get(one.name) for one in settings]
    specs = [anchor.spec(one, 3, 10) for anchor, one in zip(anchors, settings, strict=True)]
    widths = "{}, {} and {}".format(*(spec.width for spec in specs))
    assert widths in source["task.anchors.*.width"]
    assert {(spec.depth, spec.slot) for spec in specs} == {(1, "norm_act")}
    assert {(one.optimizer, one.rate_scale) for one in anchors} == {("sgd", 1.0)}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_names_what_there_is(name):
    config = load_preset(name)
    assert config.preset == name
    assert config.task.dataset in DATASETS.names()
    for anchor in config.task.anchors:
        spec = ANCHORS.get(anchor.name).spec(anchor, 3, 10)
        assert spec.size == anchor.size
