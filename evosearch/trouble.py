"""Sees that a search cannot come to anything: its own code fails, not the layers it tries.

Without this a mistake in a user's network would be found out as thousands of failed candidates.
It decides nothing by itself: whoever runs the search pauses it and says why.
"""

from __future__ import annotations

from evosearch import events as ev
from evosearch.records import Failure
from evosearch.state import State

FAILURES = 8
"""Candidates that fail with an error, and none is evaluated in between, before the search counts as
in trouble."""
LOST = 4
"""Candidates that hang or end their worker, none evaluated in between: each takes minutes."""
LOSSES = ("hung", "died")


class FailureWatch:
    """A listener of a search's events; ``reason`` is set once it cannot go on."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._failed = self._lost = 0

    def hear(self, state: State, event: ev.Event) -> None:
        """Take in one event."""
        if isinstance(event, ev.CandidateFailed):
            self._failed += event.failure.cause in ("error", *LOSSES)
            self._lost += event.failure.cause in LOSSES
            if self._failed >= FAILURES or self._lost >= LOST:
                self.reason = (
                    f"{self._failed} candidates failed and none was evaluated in between, the last "
                    f"one with {_said(event.failure)}"
                )
        elif isinstance(event, ev.CandidateEvaluated):
            # A rejection says nothing about the code that runs after the checks.
            self._failed = self._lost = 0
        elif isinstance(event, ev.JobFinished) and event.purpose == "baseline":
            failure = event.failure
            if failure is not None and failure.cause in ("error", "out_of_memory", *LOSSES):
                self.reason = f"the baseline {event.subject.key} failed: {_said(failure)}"


def _said(failure: Failure) -> str:
    """An error says what it is; what a worker was lost to does not."""
    return failure.detail if failure.cause == "error" else f"{failure.cause}: {failure.detail}"
