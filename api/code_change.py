"""Asks before a search goes on with other code of its plug-ins, and records that it does.

Scores of two versions stand beside each other from then on, so nobody is taken for agreeing. What
was measured of the old code (reference points, quality limits) stays: one front has one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from api.lease import acquire_patiently, owner_name
from api.own_config import ensure_same_task, same_but_for_code
from api.wiring import check_names, unfinished_twin
from evosearch.config import Plugin, SearchConfig
from evosearch.errors import PluginError
from evosearch.events import CodeChanged
from evosearch.plugins import ensure, found_instead
from evosearch.ports import SearchInfo, Store


@dataclass(frozen=True, slots=True)
class Assent:
    """Whether changed code is agreed to.

    ``given``: said beforehand. ``says_yes``: the option or field that says so. ``ask``: puts the
    question to a person who is there.
    """

    given: bool
    says_yes: str
    ask: Callable[[str], bool] | None = None

    def expect(self, info: SearchInfo, plugins: Sequence[Plugin]) -> None:
        """Return if the search may go on with these plug-ins in place of its own.

        Raises:
            PluginError: nobody agreed.
        """
        told = difference(info.config.task.plugins, plugins)
        if self.given:
            return
        question = (
            f"search {info.id} is unfinished and was made with other code: {told}.\n"
            f"It has {info.evaluated} evaluated candidates. Their scores stay, and stand beside "
            "those of the new code; the log and the report will say so.\n"
            "Go on with the changed code?"
        )
        if self.ask is not None and self.ask(question):
            return
        raise PluginError(
            f"search {info.id} is unfinished and was made with other code", got=told,
            hint=f"{self.says_yes} goes on with the changed code, and the report says so; or bring "
            "the old text back, stop the search, or ask for one of its own: new=True, on the "
            "command line --new",
        )  # fmt: skip


def difference(before: Sequence[Plugin], after: Sequence[Plugin]) -> str:
    """Which plug-ins differ, with their files and hashes."""
    return ", ".join(
        f"{new.file or new.name} or what it imports has changed "
        f"(sha256 {old.sha256[:12]} -> {new.sha256[:12]})"
        for old, new in zip(before, after, strict=True)
        if old.sha256 != new.sha256
    )


def changed_plugins(plugins: Sequence[Plugin]) -> tuple[Plugin, ...]:
    """The search's plug-ins as they are found now; the same where nothing has changed.

    What is not found at all stays as it is: whoever loads it says so.
    """
    found = []
    for plugin in plugins:
        other = found_instead(plugin)
        new = {} if other is None else {"sha256": other.sha256, "file": other.file}
        found.append(plugin.model_copy(update=new))
    return tuple(found)


def change(info: SearchInfo, plugins: Sequence[Plugin]) -> dict[str, Any]:
    """What event and command of the change say: the config from now on, and why in words."""
    names = ", ".join(
        f"{new.name} (sha256 {old.sha256[:12]} -> {new.sha256[:12]})"
        for old, new in zip(info.config.task.plugins, plugins, strict=True)
        if old.sha256 != new.sha256
    )
    reason = (
        f"the code of {names} was changed after {info.evaluated} evaluated candidates; scores from "
        "before and after that are of two versions"
    )
    return {"config": with_plugins(info.config, plugins), "reason": reason}


def with_plugins(config: SearchConfig, plugins: Sequence[Plugin]) -> SearchConfig:
    """The config with these plug-ins in place of its own."""
    task = config.task.model_copy(update={"plugins": tuple(plugins)})
    return config.model_copy(update={"task": task})


def resumed(store: Store, info: SearchInfo, assent: Assent) -> SearchInfo:
    """The search with its plug-ins loaded, as they are now where that was agreed to.

    Raises:
        PluginError: code is gone, has changed without assent, or fails.
    """
    plugins = changed_plugins(info.config.task.plugins)
    if plugins == info.config.task.plugins:
        ensure(plugins)
        return info
    assent.expect(info, plugins)
    config = with_plugins(info.config, plugins)
    ensure(plugins)
    check_names(config)
    ensure_same_task(config)
    return _record(store, info, plugins)


def unfinished(store: Store, config: SearchConfig, assent: Assent) -> SearchInfo | None:
    """The search of this config that can go on, if there is one; its code may have changed.

    ``config``: with its plug-ins loaded and tried.

    Raises:
        PluginError: its code has changed and nobody agreed.
    """
    known = unfinished_twin(store, config)
    if known is not None:
        return known
    for info in store.searches():
        if info.status not in ("running", "paused") or not same_but_for_code(info.config, config):
            continue
        if _hashes(info.config) != _hashes(config):
            assent.expect(info, config.task.plugins)
            return _record(store, info, config.task.plugins)
        # The same code with other measures of it: they are the old code's, if it was changed.
        if any(isinstance(entry.event, CodeChanged) for entry in store.events(info.id)):
            return info
    return None


def _hashes(config: SearchConfig) -> list[str]:
    return [plugin.sha256 for plugin in config.task.plugins]


def _record(store: Store, info: SearchInfo, plugins: Sequence[Plugin]) -> SearchInfo:
    lease = acquire_patiently(store, info.id, owner_name(), lambda seconds: None)
    try:
        store.append(lease, [CodeChanged(**change(info, plugins))])
    finally:
        store.release(lease)
    return store.search(info.id)
