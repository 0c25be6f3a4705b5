"""Sees that a search cannot come to anything: its own code fails, not the layers it tries.

Without this a mistake in a user's network would be found out as thousands of failed candidates.
It decides nothing by itself: whoever runs the search pauses it and says why.
"""

from __future__ import annotations

from evosearch import events as ev
from evosearch.state import State

FAILURES = 8
"""Candidates that fail one after the other with an error before the search counts as in trouble."""


class FailureWatch:
    """A listener of a search's events; ``reason`` is set once it cannot go on."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._failed = 0

    def hear(self, state: State, event: ev.Event) -> None:
        """Take in one event."""
        if isinstance(event, ev.CandidateFailed) and event.failure.cause == "error":
            self._failed += 1
            if self._failed >= FAILURES:
                self.reason = (
                    f"{self._failed} candidates in a row failed, the last one with "
                    f"{event.failure.detail}"
                )
        elif isinstance(event, (ev.CandidateEvaluated, ev.CandidateRejected)):
            self._failed = 0
        elif isinstance(event, ev.JobFinished) and event.purpose == "baseline":
            failure = event.failure
            if failure is not None and failure.cause == "error":
                self.reason = f"the baseline {event.subject.key} failed: {failure.detail}"
