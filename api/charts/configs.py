"""How a config differs from its preset, key by dotted key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.rest.chart_schemas import ConfigDifference, Difference
from evosearch.config import SearchConfig
from evosearch.presets import load_preset, preset_names, to_toml


def config_difference(config: SearchConfig) -> ConfigDifference:
    """Differences to the preset that the config names; none where there is no such preset."""
    known = config.preset in preset_names()
    mine = config.model_dump(mode="json")
    found: list[Difference] = []
    if known:
        preset = load_preset(config.preset).model_dump(mode="json")
        found = [Difference(key=k, preset=p, here=h) for k, p, h in _differences(preset, mine)]
    return ConfigDifference(
        preset=config.preset, known=known, differences=found, toml=to_toml(config)
    )


def _differences(preset: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, preset's value, value here); None where one has no such key."""
    if isinstance(preset, dict) and isinstance(here, dict):
        for name in dict.fromkeys((*preset, *here)):
            yield from _differences(preset.get(name), here.get(name), f"{key}.{name}".strip("."))
    elif isinstance(preset, list) and isinstance(here, list) and len(preset) == len(here):
        for place, (one, other) in enumerate(zip(preset, here, strict=True)):
            yield from _differences(one, other, f"{key}.{place}")
    elif preset != here:
        yield key, preset, here
