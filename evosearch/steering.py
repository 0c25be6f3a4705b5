"""What a person's command means for a search: pure functions of its status and phase.

Commands that change no more than these two can be acted on without the search's state, which takes
long to open. This file must not ask for more.
"""

from __future__ import annotations

from evosearch import events as ev
from evosearch.ports import ChangeCode, Command, Enqueue, Extend, Pause, Remeasure, Resume, Stop

LATE = {
    "enqueue": "a layer can be added only while it proposes",
    "extend": "its budget is used up and cannot be changed any more",
    "remeasure": "fresh seeds are given only while it proposes; its confirmation gives its own",
}
"""Commands that only the phase ``search`` obeys, and why a later one does not."""


def refusal(command: Command, phase: str) -> str | None:
    """Why the command comes too late in this phase; None where it does not."""
    if phase == "search" or command.kind not in LATE:
        return None
    return f"the search is in phase {phase}: {LATE[command.kind]}"


def plain_events(command: Command, status: str, phase: str) -> tuple[ev.Event, ...] | None:
    """What follows from the command; None where only the search's state can tell.

    A command that no longer applies has no events.
    """
    if refusal(command, phase) is not None:
        return ()
    match command:
        case Pause() if status == "running":
            return (ev.StatusChanged(status="paused", reason="asked to"),)
        case Resume() if status == "paused":
            return (ev.StatusChanged(status="running", reason="asked to"),)
        case Stop() if status in ("running", "paused"):
            return (ev.StatusChanged(status="stopped", reason="asked to"),)
        case Extend() if status in ("running", "paused"):
            return (ev.BudgetChanged(**command.model_dump(exclude={"kind"})),)
        case ChangeCode(config=config, reason=why) if status in ("running", "paused"):
            return (ev.CodeChanged(config=config, reason=why),)
        case Enqueue() | Remeasure() if status in ("running", "paused"):
            return None
    return ()
