"""Graph JSON, version 1: round trips, and refusals that name position and reason."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from primitives import extension
from primitives.errors import EvosearchError, GraphError
from primitives.graph import FIRST_OP, MAX_NODES, Graph, Node
from tests.random_graphs import random_graphs

MUL: dict[str, Any] = {"op": "mul", "inputs": [0, 0]}
STD: dict[str, Any] = {"op": "std", "inputs": [0], "over": "batch"}


def of(*nodes: Any, **more: Any) -> dict[str, Any]:
    return {"version": 1, "nodes": list(nodes), **more}


def test_the_form_is_the_documented_one() -> None:
    graph = Graph((Node("std", (0,), "batch"), Node("div", (0, 4))))
    assert graph.to_json() == of(STD, {"op": "div", "inputs": [0, 4]})
    assert Graph.from_json(graph.to_json()) == graph
    assert graph.output == 5
    assert graph.node(4) == Node("std", (0,), "batch")


def test_round_trip_of_random_graphs() -> None:
    for graph in random_graphs(500, seed=51) + random_graphs(20, seed=52, nodes=MAX_NODES):
        assert Graph.from_json(graph.to_json()) == graph
        assert Graph.from_json_text(graph.to_json_text()) == graph
        assert Graph.from_json_text(json.dumps(graph.to_json(), indent=2)) == graph


def test_a_graph_is_immutable_and_hashable() -> None:
    graph = Graph((Node("exp", (0,)),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.nodes = ()  # type: ignore[misc]
    assert {graph: 1}[Graph((Node("exp", (0,)),))] == 1


REFUSED_DATA: list[tuple[Any, int | None, str]] = [
    (None, None, "expected a JSON object, got nothing"),
    ([], None, "got list"),
    ("graph", None, "got str"),
    (1, None, "got int"),
    ({}, None, "unsupported graph version"),
    ({"nodes": [MUL]}, None, "unsupported graph version; expected 1, got None"),
    ({"version": 1}, None, "expected a list of node objects, got nothing"),
    ({"version": 2, "nodes": [MUL]}, None, "install a newer evosearch"),
    ({"version": 0, "nodes": [MUL]}, None, "expected 1, got 0"),
    ({"version": -1, "nodes": [MUL]}, None, "got -1"),
    ({"version": "1", "nodes": [MUL]}, None, "got '1'"),
    ({"version": 1.0, "nodes": [MUL]}, None, "got 1.0"),
    ({"version": True, "nodes": [MUL]}, None, "got True"),
    ({"version": 10**5000, "nodes": [MUL]}, None, "a huge integer"),
    (of(MUL, name="mine"), None, "unknown key; expected only nodes, version, got 'name'"),
    ({"version": 1, "nodes": {}}, None, "got dict"),
    ({"version": 1, "nodes": "mul"}, None, "got str"),
    (of(), None, "1 to 256 op nodes, got 0"),
    (of(*[MUL] * (MAX_NODES + 1)), None, "too many nodes; expected at most 256, got 257"),
    (of(None), 4, "expected a JSON object, got nothing"),
    (of(MUL, [0, 0]), 5, "bad node"),
    (of(MUL, "mul"), 5, "got str"),
    (of({**MUL, "axis": 1}), 4, "unknown key; expected only inputs, op, over, got 'axis'"),
    (of({"inputs": [0, 0]}), 4, "bad op"),
    (of({"op": None, "inputs": [0]}), 4, "a primitive's name, got None"),
    (of({"op": ["mul"], "inputs": [0]}), 4, "bad op"),
    (of({"op": "mull", "inputs": [0, 0]}), 4, "unknown primitive"),
    (of({"op": "MUL", "inputs": [0, 0]}), 4, "unknown primitive"),
    (of({"op": "std_batch", "inputs": [0]}), 4, "unknown primitive"),
    (of({"op": "q" * 10_000, "inputs": [0]}), 4, "unknown primitive"),
    (of({"op": "mul"}), 4, "a list of node indices, got None"),
    (of({"op": "mul", "inputs": 0}), 4, "bad inputs"),
    (of({"op": "mul", "inputs": "00"}), 4, "bad inputs"),
    (of({"op": "mul", "inputs": [0, 0.0]}), 4, "bad inputs"),
    (of({"op": "mul", "inputs": [0, True]}), 4, "bad inputs"),
    (of({"op": "mul", "inputs": [0, None]}), 4, "bad inputs"),
    (of({"op": "mul", "inputs": [0, [0]]}), 4, "bad inputs"),
    (of({"op": "mul", "inputs": []}), 4, "wrong number of inputs for mul; expected 2, got 0"),
    (of({"op": "mul", "inputs": [0]}), 4, "expected 2, got 1"),
    (of({"op": "tanh", "inputs": [0, 0]}), 4, "expected 1, got 2"),
    (of({"op": "mul", "inputs": [0] * 9999}), 4, "got 9999"),
    (of({"op": "mul", "inputs": [0, 4]}), 4, "an index from 0 to 3, got 4"),
    (of(MUL, {"op": "mul", "inputs": [4, 5]}, MUL), 5, "an index from 0 to 4, got 5"),
    (of({"op": "mul", "inputs": [-1, 0]}), 4, "got -1"),
    (of({"op": "mul", "inputs": [10**5000, 0]}), 4, "a huge integer"),
    (of({"op": "std", "inputs": [0]}), 4, "std needs an index set"),
    (of({"op": "std", "inputs": [0], "over": None}), 4, "over one of batch, sample"),
    (of({"op": "std", "inputs": [0], "over": "layer"}), 4, "got 'layer'"),
    (of({"op": "std", "inputs": [0], "over": 0}), 4, "bad index set; expected a word, got 0"),
    (of({"op": "std", "inputs": [0], "over": ["batch"]}), 4, "bad index set"),
    (of({**MUL, "over": "batch"}), 4, "mul takes no index set"),
]


@pytest.mark.parametrize("case", REFUSED_DATA, ids=lambda case: case[2][:40])
def test_malformed_data_is_refused(case: tuple[Any, int | None, str]) -> None:
    data, position, reason = case
    with pytest.raises(GraphError) as caught:
        Graph.from_json(data)
    message = str(caught.value)
    assert reason in message
    assert caught.value.position == position
    assert position is None or message.startswith(f"node {position}: ")
    # Rows of a plug-in, which other tests may have added here, are named too.
    assert len(message) < 300 + sum(len(name) + 2 for name in extension._added)
    assert "\n" not in message


REFUSED_TEXTS = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("{'version': 1}", "not JSON"),
    ('{"version": 1, "nodes": [}', "not JSON"),
    ('{"version": 1, "nodes": []} x', "not JSON"),
    ('{"version": NaN, "nodes": []}', "got NaN"),
    ('{"version": 1, "nodes": [{"op": "exp", "inputs": [Infinity]}]}', "got Infinity"),
    ('{"version": 1, "nodes": [{"op": "exp", "inputs": [1e999]}]}', "bad inputs"),
    ('{"version": 1, "version": 1, "nodes": []}', "a key stands twice; got 'version'"),
    ('{"version": 1, "nodes": [{"op": "exp", "op": "log", "inputs": [0]}]}', "got 'op'"),
    ("[" * 100_000, "not JSON"),
    ('{"version": ' + "9" * 10_000 + ', "nodes": []}', "not JSON"),
    ("null", "got nothing"),
    ('"\\ud800"', "got str"),
]


@pytest.mark.parametrize("case", REFUSED_TEXTS, ids=lambda case: case[0][:40])
def test_malformed_text_is_refused(case: tuple[str, str]) -> None:
    text, reason = case
    with pytest.raises(GraphError) as caught:
        Graph.from_json_text(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_graph_made_in_code_is_checked_too() -> None:
    for nodes in (
        (),
        (Node("mul", (0, 4)),),
        (Node("exp", (0,), "batch"),),
        (Node("std", (0,), "layer"),),
        (Node("exp", (FIRST_OP,)),),
    ):
        with pytest.raises(GraphError):
            Graph(nodes)


def test_errors_are_of_the_projects_family_and_carry_their_parts() -> None:
    with pytest.raises(EvosearchError) as caught:
        Graph.from_json(of(MUL, {"op": "mul", "inputs": [0, 7]}))
    error = caught.value
    assert isinstance(error, GraphError)
    assert (error.position, error.where, error.got) == (5, "node 5", "7")
