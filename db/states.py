"""The words that states are written in, for the rules and for the CHECK constraints alike.

It must import nothing, so that the frozen migrations and the rules can be compared with it.
"""

from __future__ import annotations

CANDIDATE_STATES = (
    "proposed", "rejected", "duplicate", "queued", "running", "evaluated", "failed", "lost",
    "quarantined",
)  # fmt: skip
"""proposed -> rejected | duplicate | queued -> running -> evaluated | rejected | failed |
quarantined | lost (queued again, up to a cap).

``proposed`` is a candidate in the controller's checks: it has no row yet, for a row is written
with what becomes of it there. ``running`` begins with the first training that a worker has
finished: a worker tells nothing when it takes a job, and most jobs end in milliseconds. ``lost``:
its worker was lost; it is queued again (``attempts`` counts), and runs or ends from there.
"""

OPEN = ("queued", "running", "lost")
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
