"""The enumeration of a small space against all its sequences, one by one, and against a search."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import product

import pytest

from evosearch.config import Anchor, Evolution, SearchConfig, Space, Task
from evosearch.errors import ConfigError
from evosearch.screen import Screen
from evosearch.streams import stream
from evosearch.subspace import enumerate_functions, live_graphs, raw_sequences, uncrowded
from evosearch.variation import Table, draw_table, random_graph
from primitives.catalog import CATALOG
from primitives.digest import digest
from primitives.fingerprint import fingerprint, initial_response
from primitives.graph import FIRST_OP, Graph, Node
from primitives.rewrite import live_form
from primitives.structure import structural_fault

NAMES = ("max", "neg", "div", "rms_batch")


def config(nodes: int, allow: tuple[str, ...] = NAMES, **changed: object) -> SearchConfig:
    space = Space(nodes=nodes, allow=allow, draw="typed", **changed)  # type: ignore[arg-type]
    return SearchConfig(space=space, task=Task(anchors=(Anchor(name="resnet"),)))


def every_sequence(table: Table, nodes: int) -> list[tuple[Graph, float]]:
    """All sequences of nodes with the probability that each is drawn."""
    choices = []
    for index in range(nodes):
        sources = table.sources(FIRST_OP + index)
        choices.append(
            [
                (Node(op, inputs, over), 1 / len(table.rows) / len(row) / len(sources) ** arity)
                for row in table.rows
                for (op, over), arity in row
                for inputs in product(sources, repeat=arity)
            ]
        )
    return [
        (Graph(tuple(node for node, _ in drawn)), math.prod(share for _, share in drawn))
        for drawn in product(*choices)
    ]


@pytest.mark.parametrize("denied", [(), ("v0",), ("zero", "v1")])
@pytest.mark.parametrize("draw", ["typed", "rows"])
def test_no_live_graph_is_missing_and_each_has_its_probability(
    draw: str, denied: tuple[str, ...]
) -> None:
    kept = (*NAMES, "rms_group")
    table = draw_table(Space(nodes=2, allow=kept, deny=denied, draw=draw))  # type: ignore[arg-type]
    expected: dict[str, float] = defaultdict(float)
    sequences = every_sequence(table, 2)
    for graph, share in sequences:
        expected[digest(live_form(graph))] += share
    found: dict[str, float] = defaultdict(float)
    sizes = []
    for graph, share in live_graphs(table, 2):
        assert len(graph.live_ops()) == len(graph.nodes)
        found[digest(graph)] += share
        sizes.append(len(graph.nodes))
    assert raw_sequences(table, 2) == len(sequences)
    assert found.keys() == expected.keys()
    assert all(found[name] == pytest.approx(expected[name]) for name in expected)
    assert sum(found.values()) == pytest.approx(1.0)
    assert sizes == sorted(sizes)


def test_every_random_graph_that_passes_the_checks_is_one_of_the_functions() -> None:
    asked = config(3)
    found = enumerate_functions(asked)
    known = {one.fingerprint: one for one in found.functions}
    assert len(known) == len(found.functions)
    screen, table, passed = Screen(asked), draw_table(asked.space), 0
    for number in range(1500):
        graph = random_graph(stream(7, "propose", number), table, 3)
        verdict = screen.judge(graph, {}, {})
        if verdict.code is None:
            passed += 1
            assert verdict.digest in known[verdict.fingerprint].digests
    assert passed > 50


def test_functions_and_refusals_are_counted_once_and_make_up_all_draws() -> None:
    asked = config(2)
    found = enumerate_functions(asked)
    refused = sum(count for count, _ in found.refused.values())
    assert len(found.functions) + refused == found.graphs
    # Repeats and duplicates count for the function that they compute.
    twice = sum(found.refused.get(code, (0, 0.0))[1] for code in ("repeat", "duplicate"))
    met = sum(one.probability for one in found.functions)
    lost = sum(chance for _, chance in found.refused.values())
    assert met + lost - twice == pytest.approx(1.0)
    assert found.refused["ignores_input"][0] == sum(
        structural_fault(graph) == "ignores_input"
        for graph, _ in live_graphs(draw_table(asked.space), 2)
    )


def test_the_enumeration_repeats_and_holds_a_published_layer() -> None:
    one, other = enumerate_functions(config(3)), enumerate_functions(config(3))
    assert one == other
    wanted = fingerprint(CATALOG["relu-rms-batch"].graph)
    assert wanted in {function.fingerprint for function in one.functions}


def test_spaces_that_cannot_be_enumerated_are_refused() -> None:
    with pytest.raises(ConfigError, match="too large"):
        next(iter(live_graphs(draw_table(Space()), 6)))
    with pytest.raises(ConfigError, match="template"):
        enumerate_functions(config(2, template="x * f(x)"))
    with pytest.raises(ConfigError, match="no such primitive"):
        draw_table(Space(allow=("max", "maxx")))


def test_only_allowed_primitives_are_drawn() -> None:
    table = draw_table(Space(allow=("rms_batch", "max")))
    assert {kind for row in table.rows for kind, _ in row} == {("max", None), ("rms", "batch")}


def test_a_search_comes_to_no_more_that_begin_alike_than_it_is_told() -> None:
    plain = config(3)
    told = plain.model_copy(update={"evolution": Evolution(same_start=2, alike=0.999)})
    functions = enumerate_functions(plain).functions
    assert uncrowded(functions, plain) == list(range(len(functions)))
    through = uncrowded(functions, told)
    responses = [initial_response(one.graph) for one in functions]

    def begins_alike(one: int, other: int) -> bool:
        a, b = responses[one], responses[other]
        return a is not None and b is not None and abs(float(a @ b)) >= 0.999

    for place in range(len(functions)):
        before = sum(begins_alike(place, other) for other in through if other < place)
        assert (before < 2) is (place in through)
    assert 0 < len(through) < len(functions)


def test_a_constraint_leaves_out_what_has_vectors() -> None:
    plain, free = config(2), config(2, where="parameters_per_channel <= 2")
    found = enumerate_functions(free)
    assert all(not {2, 3} & {*one.graph.live()} for one in found.functions)
    assert found.refused["constraint"][0] > 0
    assert 0 < len(found.functions) < len(enumerate_functions(plain).functions)
