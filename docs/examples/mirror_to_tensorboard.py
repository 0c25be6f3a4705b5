"""Mirrors a search to TensorBoard while it runs, as one more client of the live events.

Run it: ``python docs/examples/mirror_to_tensorboard.py ID [FOLDER] [URL]``, then
``tensorboard --logdir FOLDER``. It needs `evosearch` and `tensorboardX`, which comes with Ray's
tune; it writes nothing to the search, and may be stopped and started at any time.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from tensorboardX import SummaryWriter

from evosearch.client import Client, Event


def mirror(events: Iterable[Event], writer: SummaryWriter) -> Counter[str]:
    """Write what the events say against the number of evaluated candidates.

    Returns:
        How often each kind of event came.
    """
    seen: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    best: dict[str, float] = {}
    for event in events:
        seen[event.kind] += 1
        at, step = datetime.fromisoformat(event.at).timestamp(), seen["candidate_evaluated"]
        if event.kind == "candidate_rejected":
            code = event.data["rejection"]["code"]
            rejected[code] += 1
            writer.add_scalar(f"rejected/{code}", rejected[code], step, at)
        standing = event.data.get("standing")
        if standing is None:
            continue
        writer.add_scalar("hypervolume", standing["hypervolume"], step, at)
        for anchor, score in standing["scores"].items():
            best[anchor] = max(score, best.get(anchor, 0.0))
            writer.add_scalar(f"score/{anchor}", score, step, at)
            # The highest of many single measurements flatters; the report says what is confirmed.
            writer.add_scalar(f"highest score so far/{anchor}", best[anchor], step, at)
    return seen


def main() -> None:
    """Follow the search named on the command line until it ends."""
    search, folder, url = [*sys.argv[1:], *["runs", "http://127.0.0.1:8642"][len(sys.argv) - 2 :]]
    token = os.environ.get("EVOSEARCH_TOKEN")
    with Client(url, token=token) as client, SummaryWriter(f"{folder}/{search}") as writer:
        print(dict(mirror(client.watch(search), writer)))


if __name__ == "__main__":
    main()
