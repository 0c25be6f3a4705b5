"""What both stores refuse, in the same words.

It must not know how anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from evosearch.errors import LeaseHeld, LeaseLost, NotFound, StateConflict, StoreError
from evosearch.events import Created, Event
from evosearch.ports import Lease


def expect_created(search_id: str, event: Event) -> Created:
    """The event, if it can begin a search of that id."""
    if not isinstance(event, Created):
        raise StateConflict("wrong first event", expected="created", got=event.kind)
    if not search_id:
        raise StoreError("a search needs an id", expected="a few letters or digits", got="''")
    return event


def expect_event(seq: int, last: int) -> None:
    """Refuses a number that no event of the search has."""
    if not 1 <= seq <= last:
        raise StateConflict("no such event", expected=f"1 to {last}", got=str(seq))


def exists(search_id: str) -> StateConflict:
    """A search of that id is there already."""
    return StateConflict(
        "this search exists", expected="a new id", got=search_id, hint="nothing was written"
    )


def not_one(ref: str, found: Sequence[str]) -> NotFound:
    """The reference names no search, or several."""
    if found:
        some = ", ".join(sorted(found)[:5])
        return NotFound(
            "ambiguous search", expected="a prefix of one id", got=f"{ref!r}: {some}",
            hint="type more letters",
        )  # fmt: skip
    return NotFound(
        "no such search", expected="an id or its prefix", got=repr(ref),
        hint="see: evosearch search list",
    )  # fmt: skip


def held(search_id: str, owner: str, seconds: float) -> LeaseHeld:
    """Another owner's lease has not expired."""
    return LeaseHeld(
        f"search {search_id} is run by another controller", got=owner,
        hint=f"stop it, or wait {max(seconds, 0.0):.0f} s until its lease expires",
    )  # fmt: skip


def lost(lease: Lease, owner: str | None, epoch: int) -> LeaseLost:
    """The lease is another's by now."""
    return LeaseLost(
        f"the lease on search {lease.search_id} is lost",
        expected=f"{lease.owner} (epoch {lease.epoch})", got=f"{owner or 'nobody'} (epoch {epoch})",
        hint="this controller must stop; nothing was written",
    )  # fmt: skip


def not_waiting(command: object) -> StateConflict:
    """A command was done before, or belongs to another search."""
    return StateConflict(
        "unknown or done command", expected="a waiting command of this search", got=str(command),
        hint="nothing was written",
    )  # fmt: skip


def no_candidate(search_id: str, birth: int) -> NotFound:
    """The search has no candidate of that number."""
    return NotFound(
        "no such candidate", expected=f"a birth of search {search_id}", got=str(birth)[:40]
    )
