"""How often a process of ours looks for objects that only hold each other.

By default Python looks after every 700 new objects. What is imported and what a search remembers
stays, so most of that looking finds nothing. A small search takes 6 % less processor time with the
numbers below, and anything from 2,000 objects on did as well: results/start.json, written by
`tests.benchmarks.bench_start`. Only for processes that this product starts; a user's own keep what
they have chosen.
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 10_000
"""Before a look at the newest objects; a step of a training makes about as many."""
LOOKS = (20, 50)
"""Looks at the newest before one at the younger half of them; of those before one at everything."""


def collect_rarely() -> None:
    """Look less often from now on, in this process."""
    gc.set_threshold(NEW_OBJECTS, *LOOKS)
