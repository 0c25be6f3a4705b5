"""The words that states are written in, for the rules and for the CHECK constraints alike.

It must import nothing, so that the frozen migrations and the rules can be compared with it.
"""

from __future__ import annotations

CANDIDATE_STATES = (
    "proposed", "rejected", "duplicate", "queued", "running", "evaluated", "failed", "lost",
    "quarantined",
)  # fmt: skip
"""proposed -> rejected | duplicate | queued -> running -> evaluated | rejected | failed |
quarantined | lost (queued again, up to a cap)."""

OPEN = ("queued", "running")
"""States in which a candidate waits for its outcome."""

JOB_STATES = ("queued", "running", "finished", "failed")

JOB_OPEN = ("queued", "running")

STATUSES = ("running", "paused", "stopped", "finished", "failed")

PHASES = ("search", "confirm", "tune", "final", "done")

ORIGINS = ("random", "mutation", "enqueued", "catalog")

PURPOSES = ("search", "remeasure", "baseline", "confirm", "tune", "final")

SPLITS = ("select", "final")

EXAMPLES_KEPT = 100
"""Examples of skipped graphs that are kept for each code of a search."""
