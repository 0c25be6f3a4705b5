"""In which settings two searches differ; a file of settings stands for a search to be.

Only settings and stored results are compared. Plug-ins that a file names are loaded, and their
anchors tried, as at the start of a search; nothing else is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from api.own_config import complete, file_config
from api.wiring import load_state, open_database
from evosearch.presets import load_preset, preset_names

if TYPE_CHECKING:
    from evosearch.config import SearchConfig
    from evosearch.ports import Store
    from evosearch.state import State

ABSENT = "(none)"


def differences(first: str, second: str, db: str | None) -> Iterator[str]:
    """A line for each setting that differs, then what came of either search.

    Raises:
        NotFound: one of them is neither a search nor a file nor a preset.
        PluginError: code of the user's own that a file names fails.
    """
    store: Store | None = None
    try:
        found: list[tuple[SearchConfig, State | None]] = []
        for reference in (first, second):
            if reference in preset_names():
                found.append((load_preset(reference), None))
                continue
            if reference.endswith(".toml"):
                # As a search of it would be stored: with what an anchor's own code says.
                found.append((complete(file_config(reference)), None))
                continue
            store = store or open_database(db)
            info = store.search(reference)
            found.append((info.config, load_state(store, info.id)))
    finally:
        if store is not None:
            store.close()
    flat = [dict(_flat(config.model_dump(mode="json"))) for config, _ in found]
    changed = [key for key in dict.fromkeys((*flat[0], *flat[1]))
               if flat[0].get(key) != flat[1].get(key)]  # fmt: skip
    for key in changed:
        yield f"{key}: {_shown(flat[0], key)} -> {_shown(flat[1], key)}"
    if not changed:
        yield "the settings are the same"
    for name, (_, state) in zip((first, second), found, strict=True):
        if state is not None:
            yield f"{name}: {_outcome(state)}"


def _flat(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> value; rows of a list go by their name, or else by their number."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(data, list) and any(isinstance(row, dict) for row in data):
        for number, row in enumerate(data):
            yield from _flat(row, f"{path}.{row.get('name', number)}")
    else:
        yield path, data


def _shown(values: dict[str, Any], key: str) -> str:
    return ABSENT if key not in values else str(values[key])


def _outcome(state: State) -> str:
    words = [state.status, f"{state.evaluated} evaluated", f"hypervolume {state.hypervolume:.4g}"]
    if state.report is not None:
        words.append(str(state.report["verdict"]))
    return ", ".join(words)
