"""The search that `evosearch serve` starts or goes on with: found or made, shown, reported.

It reads the store as any other watcher does: what the search does is its controller's business,
and nothing here may write an event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console

from api.live import make_view
from api.progress import Meter
from api.report_text import print_report, say
from api.wiring import load_state, new_id, unfinished_twin, versions
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch.config import SearchConfig
from evosearch.errors import NotFound, StoreError
from evosearch.events import ENDED, Created
from evosearch.ports import Resume
from evosearch.presets import load_preset
from evosearch.state import State

log = logging.getLogger("evosearch.serve")
LOOK_SECONDS = 0.5
FAILED = 1


def wanted_config(preset: str, overrides: Sequence[str], seed: int | None) -> SearchConfig:
    """The config that the words mean, checked before anything is started.

    Raises:
        NotFound: there is no such preset, anchor or data set.
        ConfigError: a key or value is wrong.
        PluginError: code that a file of settings names cannot be loaded.
    """
    of_file = preset.endswith(".toml")
    if not (of_file or overrides):
        return load_preset(preset, overrides, seed)
    from api.wiring import check_names  # imports torch, which a preset of ours does not need

    read = _of_file if of_file else load_preset
    config = read(preset, overrides, seed)
    check_names(config)
    return config


def _of_file(file: str, overrides: Sequence[str], seed: int | None) -> SearchConfig:
    """Anchors and their kin are named as on the command line: by file, entry point or name."""
    from api.own_config import complete, file_config

    return complete(file_config(file, overrides, seed))


def find_or_create(store: SqlStore, config: SearchConfig, console: Console) -> str:
    """The id of the unfinished search of this config, resumed, or of a new one."""
    known = unfinished_twin(store, config)
    if known is not None:
        if known.status == "paused":
            store.send(known.id, Resume())
        say(console, f"going on with search {known.id} ({known.title})")
        return known.id
    title = f"{config.preset}, seed {config.seed}"
    created = Created(config=config, versions=versions())
    made = ServiceWrites(store).create(new_id(), title, created, Notes())
    say(console, f"new search {made} ({title})")
    return made


class Shown:
    """A search as it is shown at the terminal; a context that draws between its two ends."""

    def __init__(self, store: SqlStore, search_id: str, console: Console) -> None:
        self.search_id = search_id
        self._store, self._console = store, console
        self._state: State = load_state(store, search_id)
        self._meter = Meter(search_id, self._state, time.monotonic)
        self._view = make_view(console)
        self._looked = float("-inf")
        self._gone = False

    def __enter__(self) -> Self:
        self._view.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._view.__exit__(kind, err, trace)

    @property
    def seq(self) -> int:
        """Number of the last event that was seen."""
        return self._state.seq

    @property
    def over(self) -> bool:
        """Whether the search has ended, or is no more."""
        return self._gone or self._state.status in ENDED

    def look(self) -> None:
        """Take in what is new, at most twice a second, and show it."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        before = self._state.seq
        try:
            for entry in self._store.events(self.search_id, before):
                self._state.follow(entry)
            if self._state.seq == before:
                self._store.search(self.search_id)  # a deleted one has no news either
        except NotFound:
            self._gone = True
        except StoreError as err:
            log.warning("%s", err)
        if self._view.due and not self.over:
            self._view.show(self._meter.read(self._state))

    def close(self) -> int:
        """Print the report and write the leader; returns the exit code that this end deserves."""
        if self._gone:
            say(self._console, f"search {self.search_id} was deleted")
            return FAILED
        print_report(self._console, self._state)
        if self._state.status != "finished":
            say(self._console, f"search {self.search_id} is {self._state.status}")
            return FAILED if self._state.status == "failed" else 0
        from api.export import write_leader

        path = write_leader(self._state, self.search_id)
        if path is not None:
            say(self._console, f"the leader as a PyTorch module: {path}")
        return 0
