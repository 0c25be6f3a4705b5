"""What the in-controller checks keep in mind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from evosearch import screen as module
from evosearch.presets import load_preset
from evosearch.screen import Screen, Verdict
from evosearch.streams import stream
from evosearch.variation import draw_table, random_graph
from primitives.formula import parse
from primitives.graph import Graph, Node
from primitives.properties import Behaviour

CONFIG = load_preset("quickstart", ('space.allow=["max", "mul", "sigmoid", "rms_batch"]',))


def graphs(count: int) -> list[Graph]:
    table = draw_table(CONFIG.space)
    return [random_graph(stream(1, "propose", birth), table, 5) for birth in range(count)]


def verdicts(some: list[Graph], anew: bool) -> list[Verdict]:
    """Of a search that tries what passes; ``anew``: by a screen that has seen nothing."""
    screen, found = Screen(CONFIG), list[Verdict]()
    digests: dict[str, int] = {}
    prints: dict[str, int] = {}
    starts, full = Counter[str](), set[str]()
    tried: list[tuple[int, Graph]] = []
    for birth, graph in enumerate(some):
        screen = Screen(CONFIG) if anew else screen
        verdict = screen.judge(graph, digests, prints, full, tried)
        found.append(verdict)
        if verdict.code is None and birth % 2:  # the others are passed over, and come again
            digests[verdict.digest] = prints[verdict.fingerprint] = birth
            tried.append((birth, graph))
            start = screen.start(graph, verdict.digest)
            starts[start] += 1
            if starts[start] >= CONFIG.evolution.same_start:
                full.add(start)
    return found


@pytest.mark.parametrize("kept", [None, 3])
def test_memory_changes_no_verdict(kept: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    some = graphs(600) * 2
    expected = verdicts(some, anew=True)
    if kept:
        for name in ("KEPT_GRAPHS", "KEPT_DIGESTS", "KEPT_RESPONSES"):
            monkeypatch.setattr(module, name, kept)
    assert verdicts(some, anew=False) == expected
    codes = {one.code for one in expected}
    assert codes >= {None, "ignores_input", "constant", "repeat", "duplicate", "crowded"}


def test_one_digest_is_probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    for name in ("structural_fault", "probe_fault", "initial_response"):
        plain = getattr(module, name)

        def told(graph: Graph, plain: Any = plain, name: str = name) -> Any:
            asked.append(name)
            return plain(graph)

        monkeypatch.setattr(module, name, told)
    layer, screen = parse("x * sigmoid(x)"), Screen(CONFIG)
    same = Graph((Node("neg", (0,)), *_shifted(layer)))
    tried = [(birth, parse("max(x, zero)")) for birth in range(2)]
    for graph in (layer, same, layer, same):
        assert screen.judge(graph, {}, {}, frozenset(), tried).code is None
    assert Counter(asked) == {"structural_fault": 2, "probe_fault": 1, "initial_response": 1}


@pytest.mark.parametrize("kept", [None, 3])
def test_what_a_constraint_found_changes_no_verdict(
    kept: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "(scale_invariant or symmetry = 'odd') and not monotone = 'none'"
    config = CONFIG.model_copy(update={"space": CONFIG.space.model_copy(update={"where": where})})
    some = graphs(600)
    expected = [Screen(config).judge(graph, {}, {}).code for graph in some]
    if kept:
        monkeypatch.setattr(module, "KEPT_GRAPHS", kept)
    screen = Screen(config)
    assert [screen.judge(graph, {}, {}).code for graph in some] == expected
    assert {None, "constraint"} <= set(expected)


def test_graphs_that_differ_in_dead_nodes_are_probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Graph] = []

    class Told(Behaviour):
        def __init__(self, graph: Graph) -> None:
            made.append(graph)
            super().__init__(graph)

    monkeypatch.setattr("evosearch.graph_filter.Behaviour", Told)
    space = CONFIG.space.model_copy(update={"where": "symmetry = 'odd'"})
    layer, screen = parse("x * sigmoid(x)"), Screen(CONFIG.model_copy(update={"space": space}))
    same = Graph((Node("neg", (0,)), *_shifted(layer)))
    for graph in (layer, same, layer):
        assert screen.judge(graph, {}, {}).code == "constraint"
    assert made == [layer]


def _shifted(graph: Graph) -> list[Node]:
    """The nodes with a dead one before them."""
    return [node._replace(inputs=tuple(i + (i >= 4) for i in node.inputs)) for node in graph.nodes]
