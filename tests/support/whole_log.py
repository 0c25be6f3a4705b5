"""A search's log in a memory store, and that a kill leaves no mark in it."""

from __future__ import annotations

import json
from collections.abc import Callable

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.controller import Controller

ID = "search01"


def log(store: MemoryStore) -> list[str]:
    """The events of the search as JSON text, without times."""
    return [
        json.dumps(ev.without_times(json.loads(ev.dump_event(entry.event))))
        for entry in store.events(ID)
    ]


def assert_a_kill_leaves_no_mark(
    started: Callable[[], MemoryStore],
    controller: Callable[[MemoryStore], Controller],
    first: int,
    step: int,
) -> None:
    """A search killed after some of its events ends with the log of one that was not."""
    whole = started()
    controller(whole).run()
    expected = log(whole)
    for kill_at in range(first, len(expected), step):
        store = started()
        running = controller(store)
        while running.state.seq < kill_at and not running.over:
            running.step()
        assert controller(store).run().status == "finished"  # from the stored events alone
        assert log(store) == expected, f"killed after event {kill_at}"
