"""More, or less, of a search that exists: its budget, and the copy of one that has ended.

What a changed budget means is decided in `evosearch`; this file only asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from api.lease import owner_name
from api.wiring import load_state, new_id
from evosearch.config import Budget
from evosearch.errors import ConfigError, StateConflict
from evosearch.events import BudgetChanged, Event, PhaseEntered, StatusChanged
from evosearch.ports import Extend, Lease, Store
from evosearch.state import State
from evosearch.steering import refusal

FURTHER = ("hours", "gpu_hours", "train_steps")
"""Limits that more can be had of."""


def budget_command(limits: Mapping[str, float | None]) -> Extend:
    """The command that changes these limits and no others; None clears one.

    Raises:
        ConfigError: a name or value is wrong, or nothing is named.
    """
    told = dict(limits)
    try:
        if not told or told.get("evaluations", 1) is None:
            raise ConfigError(
                "there is always a number of evaluations" if told else "no limit is named",
                expected=f"some of {', '.join(Budget.model_fields)}",
            )
        Budget.model_validate({k: v for k, v in told.items() if v is not None})
        return Extend.model_validate({"evaluations": told.pop("evaluations", None), "limits": told})
    except ValidationError as err:
        first = err.errors()[0]
        raise ConfigError(
            "a limit is wrong", where=f"budget.{first['loc'][0]}", expected=first["msg"],
            got=repr(first["input"])[:60],
        ) from err  # fmt: skip


def set_budget(store: Store, search_id: str, limits: Mapping[str, float | None]) -> None:
    """Ask for these limits, each in all.

    Raises:
        ConfigError: a name or value is wrong.
        StateConflict: the search is over, or past its search phase.
    """
    command = budget_command(limits)
    status = store.search(search_id).status
    if status not in ("running", "paused"):
        raise StateConflict(
            f"search {search_id} is {status} and takes no commands",
            hint=f"a copy goes on: evosearch search extend {search_id} N",
        )
    why = refusal(command, load_state(store, search_id).phase)
    if why is not None:
        raise StateConflict(why)
    store.send(search_id, command)


def extended(
    store: Store, search_id: str, evaluations: int, further: Mapping[str, float | None] = {}
) -> str:
    """Ask for so much more; returns the id of the search that has it to do.

    It comes on top of what was asked for before, whether that has been done or waits.
    A search that has ended is not touched: a copy of it as it was before its confirmation goes on.
    ``further``: limit of `FURTHER` -> how much more of it.

    Raises:
        ConfigError: nothing is asked for, or the search has no such limit.
    """
    asked = {name: more for name, more in further.items() if more is not None}
    if any(name not in FURTHER or not more > 0 for name, more in asked.items()):
        raise ConfigError(
            "such a limit cannot be extended", expected=f"more than 0 of {', '.join(FURTHER)}",
            got=", ".join(f"{name}={more!r}" for name, more in asked.items())[:100],
        )  # fmt: skip
    if evaluations < 0 or not (evaluations or asked):
        raise ConfigError("nothing is asked for", expected="evaluations, or more of a limit")
    limits = _on_top(store, search_id, load_state(store, search_id), evaluations, asked)
    if store.search(search_id).status not in ("running", "paused"):
        search_id = copy_before_confirmation(store, search_id, freed=bool(asked))
        state = load_state(store, search_id)
        limits = _on_top(store, search_id, state, evaluations, asked)
    store.send(search_id, budget_command(limits))
    return search_id


def _on_top(
    store: Store, search_id: str, state: State, evaluations: int, asked: Mapping[str, float]
) -> dict[str, float | None]:
    """The limits that come of it, on top of those that hold or wait to."""
    held: dict[str, float | None] = {**state.budget.model_dump(), "evaluations": state.target}
    # Reading takes no lease of one's own. What waits may be done a moment later.
    for one in store.commands(Lease(search_id, "", 0)):
        if isinstance(one.command, Extend):
            held |= one.command.limits
            if one.command.evaluations is not None:
                held["evaluations"] = one.command.evaluations
    more = {**asked, **({"evaluations": evaluations} if evaluations else {})}
    limits: dict[str, float | None] = {}
    for name, further in more.items():
        limit = held[name]
        if limit is None:
            raise ConfigError(
                f"search {search_id} has no limit of {name.replace('_', ' ')} to be extended",
                hint="set one, in all: evosearch search budget, or run.set_budget",
            )
        limits[name] = limit + further
    return limits


def copy_before_confirmation(store: Store, search_id: str, *, freed: bool = False) -> str:
    """A search of its own with the events up to the confirmation; returns its id.

    ``freed``: without the ends that limits beside the evaluations have put to it.
    """
    events: list[Event] = []
    for entry in store.events(search_id):
        event = entry.event
        if isinstance(event, PhaseEntered):
            break
        stopped = isinstance(event, StatusChanged) and event.status == "stopped"
        limited = freed and isinstance(event, BudgetChanged) and bool(event.reason)
        if not (stopped or limited):
            events.append(event)
    copied, info = new_id(), store.search(search_id)
    store.create(copied, f"{info.title}, extended"[:200], events[0])
    lease = store.acquire(copied, owner_name(), 60.0)
    try:
        for start in range(1, len(events), 500):
            store.append(lease, events[start : start + 500])
    finally:
        store.release(lease)
    return copied
