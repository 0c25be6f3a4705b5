"""A search that chooses the extended op set: it draws from it, runs and replays."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import Space
from evosearch.controller import Controller
from evosearch.presets import load_preset
from evosearch.state import recover
from evosearch.streams import stream
from evosearch.variation import draw_table, random_graph
from primitives.ops import CONSTANTS, OP_SETS, VECTORS
from tests.simulated_worker import answer
from workers.simulated import SimulatedPool


def test_leaves_share_one_row_so_that_they_do_not_crowd_out_the_rest() -> None:
    table, rng = draw_table(Space(op_set="extended")), stream(3, "propose", 0)
    assert len(table.rows) == 15 + 8 + 1
    nodes = (node for _ in range(800) for node in random_graph(rng, table, 10).nodes)
    counts = Counter(node.op for node in nodes)
    leaves = sum(counts[name] for name in (*CONSTANTS, *VECTORS))
    assert leaves / counts.total() == pytest.approx(1 / 24, abs=0.01)
    assert all(counts[name] for name in (*CONSTANTS, *VECTORS))


def test_a_search_over_the_extended_set_runs_and_replays() -> None:
    settings = ("budget.evaluations=15", "confirmation.resamples=200", "space.op_set=extended",
                "evolution.choose_of=1")  # fmt: skip
    logs = []
    for _ in range(2):
        store = MemoryStore()
        config = load_preset("quickstart", settings, seed=4)
        store.create("search01", "test", ev.Created(config=config))
        lease = store.acquire("search01", "me", 3600)
        state = Controller(store, SimulatedPool(answer, 1), lease).run()
        assert state.status == "finished"
        entries = list(store.events("search01"))
        logs.append([ev.without_times(entry.event.model_dump(mode="json")) for entry in entries])
        assert recover(entries).digests == state.digests
    assert logs[0] == logs[1]
    used = {node.op for member in state.members.values() for node in member.graph.nodes}
    extended = {op for op, _ in OP_SETS["extended"]} - {op for op, _ in OP_SETS["paper"]}
    assert len(used & extended) >= 5


def test_unknown_op_sets_are_refused() -> None:
    with pytest.raises(ValidationError, match="op_set"):
        Space(op_set="papers")  # type: ignore[arg-type]
