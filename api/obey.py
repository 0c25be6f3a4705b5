"""Acts on the commands of searches that need no more than their status: at once, without opening.

A search that waits for its turn, cannot be run, or is being opened is paused or stopped all the
same. What a command means is decided in `evosearch.steering`.
"""

from __future__ import annotations

import logging

from evosearch import events as ev
from evosearch.ports import Lease, Store
from evosearch.steering import plain_events, refusal

log = logging.getLogger("evosearch.controller")


def act_plainly(store: Store, lease: Lease, status: str, phase: str) -> bool:
    """Act on what can be acted on; returns whether commands are left that need the state.

    Those keep waiting while the search goes on. A status is changed before they are acted on, in
    whatever order they came: a search that cannot be opened could not be stopped otherwise.
    """
    left: list[int] = []
    for entry in store.commands(lease):
        events = plain_events(entry.command, status, phase)
        if events is None:
            left.append(entry.id)
            continue
        store.append(lease, events, (entry.id,))
        why = refusal(entry.command, phase)
        if why is not None:
            log.warning("a command came too late: %s", why, extra={"search": lease.search_id})
        for event in events:
            if isinstance(event, ev.StatusChanged):
                status = event.status
    if left and status in ev.ENDED:
        store.append(lease, (), left)
        return False
    return bool(left)
