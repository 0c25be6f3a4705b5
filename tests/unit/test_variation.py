"""Random graphs, mutation and streams as the paper has them, and draws that are not uniform."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest

from evosearch.config import Space
from evosearch.errors import ConfigError
from evosearch.streams import SEED_PURPOSES, below, evaluation_seed, sample, stream
from evosearch.variation import Table, draw_table, mutate, random_graph, random_node, weighted
from primitives.graph import FIRST_OP
from primitives.ops import AGGREGATIONS, OP_SETS, typed_name


def drawn(space: Space, count: int = 6000) -> Counter[tuple[str, str | None]]:
    table, rng = draw_table(space), stream(0, "propose", 0)
    nodes = (n for _ in range(count // 10) for n in random_graph(rng, table, 10).nodes)
    return Counter((node.op, node.over) for node in nodes)


def test_rows_make_a_fifth_aggregations_and_typed_makes_a_half() -> None:
    for draw, share in (("rows", 3 / 15), ("typed", 12 / 24)):
        counts = drawn(Space(draw=draw))
        aggregated = sum(n for (op, _), n in counts.items() if op in AGGREGATIONS)
        assert aggregated / counts.total() == pytest.approx(share, abs=0.03)


def test_every_typed_primitive_of_the_op_set_is_drawn_and_no_other() -> None:
    for name, kinds in OP_SETS.items():
        assert set(drawn(Space(op_set=name))) == set(kinds)


def test_inputs_are_uniform_over_earlier_nodes() -> None:
    table, rng = draw_table(Space()), stream(1, "propose", 0)
    first = Counter(random_graph(rng, table, 3).nodes[2].inputs[0] for _ in range(6000))
    assert set(first) == set(range(FIRST_OP + 2))
    assert all(abs(n / 6000 - 1 / 6) < 0.02 for n in first.values())


def test_mutation_changes_one_node_at_most_and_each_position_alike() -> None:
    table, rng = draw_table(Space()), stream(2, "propose", 0)
    graph = random_graph(rng, table, 10)
    positions: Counter[int] = Counter()
    for _ in range(5000):
        child = mutate(rng, table, graph)
        changed = [i for i in range(10) if child.nodes[i] != graph.nodes[i]]
        assert len(changed) <= 1
        positions.update(changed)
    assert set(positions) == set(range(10))
    assert max(positions.values()) < 1.35 * min(positions.values())


def test_streams_are_independent_of_each_other_and_repeat() -> None:
    values = {
        (seed, purpose, number): stream(seed, purpose, number).random()
        for seed in range(5)
        for purpose in ("propose", "audit")
        for number in range(50)
    }
    assert len(set(values.values())) == len(values)
    assert stream(3, "audit", 7).random() == values[3, "audit", 7]


def test_evaluation_seeds_differ_by_search_purpose_and_index() -> None:
    seeds = [
        evaluation_seed(search, purpose, index)
        for search in range(4)
        for purpose in SEED_PURPOSES
        for index in range(20)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_sample_draws_distinct_members_uniformly() -> None:
    rng = stream(0, "propose", 1)
    counts = Counter(member for _ in range(3000) for member in sample(rng, range(6), 2))
    assert all(abs(n / 6000 - 1 / 6) < 0.02 for n in counts.values())
    assert sorted(sample(rng, range(3), 9)) == [0, 1, 2]
    assert {below(rng, 3) for _ in range(100)} == {0, 1, 2}


def test_what_is_denied_is_never_drawn() -> None:
    table = draw_table(Space(deny=("max", "rms_batch"), draw="typed"))
    names = {typed_name(*kind) for row in table.rows for kind, _ in row}
    assert len(names) == 22
    assert not names & {"max", "rms_batch"}
    for space in (Space(deny=("maxx",)), Space(allow=("max",), deny=("max",))):
        with pytest.raises(ConfigError, match=r"space\.deny"):
            draw_table(space)


def test_denied_initial_nodes_are_never_read_and_the_others_uniformly() -> None:
    table, rng = draw_table(Space(deny=("v0", "v1"))), stream(1, "propose", 0)
    graphs = [random_graph(rng, table, 3) for _ in range(6000)]
    first = Counter(graph.nodes[2].inputs[0] for graph in graphs)
    assert set(first) == {0, 1, FIRST_OP, FIRST_OP + 1}
    assert all(abs(n / 6000 - 1 / 4) < 0.02 for n in first.values())
    children = [mutate(rng, table, graph) for graph in graphs]
    assert not {2, 3} & {i for graph in children for node in graph.nodes for i in node.inputs}
    with pytest.raises(ConfigError, match="needs its input"):
        draw_table(Space(deny=("x",)))


@pytest.mark.parametrize("draw", ["typed", "rows"])
def test_weights_change_how_often_a_primitive_is_drawn_and_leave_none_out(
    draw: Literal["typed", "rows"],
) -> None:
    table, rng = draw_table(Space(draw=draw)), stream(4, "propose", 0)

    def drawn(rows: Table) -> Counter[str]:
        nodes = [random_node(rng, rows, 9) for _ in range(30_000)]
        return Counter(typed_name(node.op, node.over) for node in nodes)

    plain = drawn(table)
    light = drawn(weighted(table, {"max": 0.25, "rms_batch": 0.0}))
    assert light["max"] / plain["max"] == pytest.approx(0.25, abs=0.1)
    assert 0 < light["rms_batch"] < 0.3 * plain["rms_batch"]
    assert light["sigmoid"] / plain["sigmoid"] == pytest.approx(1.0, abs=0.2)
