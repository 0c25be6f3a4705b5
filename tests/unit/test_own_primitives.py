"""A row of a user's own: refused while it is wrong, and then everywhere that rows are."""

from __future__ import annotations

import dataclasses
import random
import sys
import types

import cloudpickle
import numpy as np
import pytest
import torch

from evosearch.config import Space
from evosearch.own import REGISTER
from evosearch.plugins import adopt, receive
from evosearch.variation import draw_table, random_graph
from primitives import formula, rewrite
from primitives.digest import digest
from primitives.errors import GraphError
from primitives.extension import _added, add_row
from primitives.fingerprint import fingerprint
from primitives.formula import parse
from primitives.graph import Graph
from primitives.interpret import interpret
from primitives.module import build_layer
from primitives.ops import OPS, Primitive
from primitives.printer import format_formula
from primitives.probe import probe_fault
from primitives.row_check import row_faults
from primitives.symbolic import to_sympy

ATAN = Primitive(
    "atan", 1, "torch.atan(a)", "sympy.atan(a)", "atan({a})",
    forward=lambda a, eps: np.arctan(a),
    vjp=lambda g, y, a, eps: (g / (1.0 + a * a),),
    properties=frozenset({"odd", "bounded"}), cost=10,
)  # fmt: skip


def forget(name):
    """As in a process to which the row, the last one, was never added."""
    del OPS[name], formula._FUNCTIONS[name], formula._ARITY[name], _added[name]
    assert rewrite._TYPED.pop() == (name, None)
    del rewrite._CODES[name], rewrite._CODE_OF[name, None]


@pytest.fixture
def atan():
    add_row(ATAN)
    yield
    forget("atan")


def test_the_row_is_spoken_everywhere(atan):
    graph = parse("atan(x) / rms_group(x)")
    assert format_formula(graph) == "atan(x) / rms_group(x)"
    assert Graph.from_json(graph.to_json()) == graph
    assert probe_fault(graph) is None
    assert fingerprint(graph) != fingerprint(parse("tanh(x) / rms_group(x)"))
    assert digest(parse("atan(x) + x")) == digest(parse("x + atan(x)"))
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    zeros, ones = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    layer = build_layer(graph, 4, groups=2, dtype=torch.float64)
    torch.testing.assert_close(layer(x), interpret(graph, x, zeros, ones, groups=2))
    assert "atan" in str(to_sympy(graph))


def test_only_a_search_that_names_it_draws_it(atan):
    plain, own = (draw_table(Space(primitives=names)) for names in ((), ("atan",)))
    assert len(own.rows) == len(plain.rows) + 1
    drawn = [random_graph(random.Random(n), own, 10) for n in range(60)]
    assert any(node.op == "atan" for graph in drawn for node in graph.nodes)
    without = [random_graph(random.Random(n), plain, 10) for n in range(60)]
    assert all(node.op != "atan" for graph in without for node in graph.nodes)


def test_digests_of_other_layers_stay():
    before = digest(parse("x * sigmoid(v1 * x) / std_group(x)"))
    add_row(ATAN)
    try:
        assert digest(parse("x * sigmoid(v1 * x) / std_group(x)")) == before
        add_row(ATAN)  # again: nothing happens
        with pytest.raises(GraphError, match="exists already"):
            add_row(dataclasses.replace(ATAN, torch="torch.tanh(a)"))
    finally:
        forget("atan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "tanh", "text": "tanh({a})"}, "exists already"),
        ({"name": "2x"}, "is no name"),
        ({"arity": 3}, "one or two inputs"),
        ({"text": "arctan({a})"}, "its text"),
        ({"forward": None}, "both needed"),
        ({"vjp": lambda g, y, a, eps: (g,)}, "forward's slope is"),
        ({"vjp": lambda g, y, a, eps: (g, g)}, "one array for each"),
        ({"forward": lambda a, eps: a.nothing()}, "it fails on arrays"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_refused(change, words):
    with pytest.raises(GraphError, match=words):
        add_row(dataclasses.replace(ATAN, **change))
    assert "atan" not in OPS


def test_torch_and_sympy_must_say_the_same():
    assert row_faults(ATAN) == []
    assert "torch says" in row_faults(dataclasses.replace(ATAN, torch="torch.tanh(a)"))[0]
    assert "sympy says" in row_faults(dataclasses.replace(ATAN, sympy="sympy.tanh(a)"))[0]


NOTEBOOK = """
import numpy as np
import evosearch as es

es.primitive(es.Primitive(
    "gudermann", 1, "2 * torch.atan(torch.tanh(a / 2))", "2 * sympy.atan(sympy.tanh(a / 2))",
    "gudermann({a})", forward=lambda a, eps: 2 * np.arctan(np.tanh(a / 2)),
    vjp=lambda g, y, a, eps: (g / np.cosh(a),), cost=20,
))
"""


def test_a_row_of_a_notebook_is_spoken_there_and_by_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("gudermanns")
    monkeypatch.setitem(sys.modules, "gudermanns", module)
    exec(NOTEBOOK, module.__dict__)
    try:
        adopted = adopt("gudermanns")
        assert parse("gudermann(x)").nodes[0].op == "gudermann"
        forget("gudermann")
        entries = cloudpickle.dumps(adopted.entries)
        receive(adopted.source.to_json() | {"pickled": entries}, {})
        assert parse("gudermann(x)").nodes[0].op == "gudermann"
    finally:
        forget("gudermann")
        REGISTER.forget("gudermanns")
