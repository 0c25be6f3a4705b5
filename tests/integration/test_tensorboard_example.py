"""The TensorBoard example mirrors what the service tells; read back from its event file."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from db.sql_store import SqlStore
from evosearch.events import CandidateRejected, StatusChanged
from tests.support.service import SEARCH, fill, running

ROOT = Path(__file__).resolve().parents[2]


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) in the order written, of the folder's only event file."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.rglob("events.*")
    data, place, found = path.read_bytes(), 0, defaultdict(list)
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)  # then a checksum, the event, another
        event = Event.FromString(data[place + 12 : place + 12 + length])
        place += 12 + length + 4
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return found


def test_a_search_is_mirrored(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it comes with ray[tune]")
    store = SqlStore(f"{tmp_path}/store.db")
    fill(store, 40)
    lease = store.acquire(SEARCH, "filler", 60)
    store.append(lease, [StatusChanged(status="finished", reason="the end")])
    log = [entry.event for entry in store.events(SEARCH)]
    store.close()
    example = ROOT / "docs/examples/mirror_to_tensorboard.py"
    with running(tmp_path) as service:
        done = subprocess.run(
            [sys.executable, str(example), SEARCH, str(tmp_path / "runs"), service.url],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    standings = [one for event in log if (one := getattr(event, "standing", None)) is not None]
    found = points(tmp_path / "runs" / SEARCH)
    volumes = [value for _, value in found["hypervolume"]]
    assert volumes == pytest.approx([one.hypervolume for one in standings], abs=1e-6)
    scores = [value for _, value in found["score/resnet"]]
    assert scores == pytest.approx([one.scores["resnet"] for one in standings], abs=1e-6)
    highest = [value for _, value in found["highest score so far/resnet"]]
    assert highest == sorted(highest)
    rejected = [event for event in log if isinstance(event, CandidateRejected)]
    assert found["rejected/signal.loss"][-1][1] == len(rejected) > 0
    steps = [step for step, _ in found["hypervolume"]]
    assert steps == sorted(steps)
