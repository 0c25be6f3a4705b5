"""A search of 25 candidates in memory, with simulated workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.controller import Controller
from evosearch.presets import load_preset
from evosearch.records import Job, Message
from evosearch.state import State
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool

Script = Callable[[Job], tuple[float, Sequence[Message]]]
SMALL = ("budget.evaluations=25", "evolution.remeasure_every=5", "confirmation.resamples=200",
         "evolution.choose_of=1")  # fmt: skip


def start(*overrides: str, seed: int = 0) -> MemoryStore:
    store = MemoryStore()
    config = load_preset("quickstart", [*SMALL, *overrides], seed=seed)
    store.create("search01", "test", ev.Created(config=config))
    return store


def controller(store: MemoryStore, script: Script = answer, workers: int = 1) -> Controller:
    lease = store.acquire("search01", "me", 3600)
    return Controller(store, SimulatedPool(script, workers), lease)


def finished(store: MemoryStore, script: Script = answer, workers: int = 1) -> State:
    state = controller(store, script, workers).run()
    assert state.status == "finished"
    return state
