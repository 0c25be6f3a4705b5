"""Sympy expressions, LaTeX and drawings of graphs; and that only this part loads sympy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import networkx
import numpy as np
import pytest
import sympy

from primitives.catalog import CATALOG, entry
from primitives.drawing import to_dot, to_networkx
from primitives.errors import GraphError
from primitives.formula import parse
from primitives.graph import FIRST_OP, INITIAL_NODES, MAX_NODES, Graph, Node
from primitives.ops import CONSTANTS, ELEMENTWISE, OPS
from primitives.structure import analyse
from primitives.symbolic import MAX_TERMS, to_latex, to_sympy
from tests.random_graphs import random_graphs

ROOT = Path(__file__).parents[2]
LIGHT = (
    "errors", "ops", "graph", "structure", "rules", "rewrite", "digest", "formula", "printer",
    "catalog", "drawing",
)  # fmt: skip
X, V0, V1 = (sympy.Symbol(name, real=True) for name in ("x", "v0", "v1"))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_each_primitives_expression_has_its_values(name: str) -> None:
    row = OPS[name]
    expression = to_sympy(Graph((Node(name, (0, 3)[: row.arity]),)))
    assert row.forward is not None
    for left in row.samples:
        for right in row.samples if row.arity == 2 else (1.0,):
            arguments = (np.array(left), np.array(right))[: row.arity]
            wanted = float(row.forward(*arguments, eps=0.0))
            got = float(expression.subs({X: left, V1: right}).doit())
            assert got == pytest.approx(wanted, rel=1e-12)


def test_numbers_are_exact_and_vectors_are_symbols() -> None:
    for name, value in CONSTANTS.items():
        expression = to_sympy(Graph((Node(name, ()),)))
        assert not expression.is_Float
        assert float(expression.doit()) == pytest.approx(value)
    assert to_sympy(parse("v2 * x")).free_symbols == {X, sympy.Symbol("v2", real=True)}


def test_a_layers_expression() -> None:
    std, rms = sympy.Function("std_batch"), sympy.Function("rms_instance")
    got = to_sympy(entry("evonorm-b1").graph).doit()
    assert got == X / sympy.Max(std(X), (X + 1) * rms(X))
    assert to_sympy(parse("x - x")) != 0
    assert to_sympy(parse("zero + zero")).doit() == 0


@pytest.mark.parametrize("name", CATALOG)
def test_latex_of_the_catalog(name: str) -> None:
    text = to_latex(entry(name).graph)
    assert "$" not in text
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")
    for node in entry(name).graph.nodes:
        if node.over is not None:
            assert rf"\operatorname{{{node.op}}}_{{{node.over}}}" in text


def test_latex_of_fraction_and_parameter() -> None:
    assert to_latex(parse("x / (v1 + v0)")) == r"\frac{x}{v_{0} + v_{1}}"


@pytest.mark.parametrize("kind", ["wide", "deep"])
def test_large_graphs_are_refused_at_once(kind: str) -> None:
    one = [Node("tanh" if kind == "deep" else "mul", (0, 0)[: 1 if kind == "deep" else 2])]
    for index in range(FIRST_OP, FIRST_OP + MAX_NODES - 1):
        one.append(Node(one[0].op, (index, index)[: len(one[0].inputs)]))
    for write in (to_sympy, to_latex):
        with pytest.raises(GraphError, match=f"at most {MAX_TERMS} terms") as caught:
            write(Graph(tuple(one)))
        assert caught.value.position is not None
        assert len(str(caught.value)) < 300


def test_random_graphs_can_be_written() -> None:
    for graph in random_graphs(200, seed=41):
        names = {str(symbol) for symbol in to_sympy(graph).free_symbols}
        live = {INITIAL_NODES[index] for index in graph.live() if index < FIRST_OP}
        assert names == live - {"zero"}
        assert to_latex(graph)


def test_the_drawing_holds_the_graph() -> None:
    for graph in random_graphs(300, seed=42):
        drawn = to_networkx(graph)
        assert networkx.is_directed_acyclic_graph(drawn)
        live = {*networkx.ancestors(drawn, graph.output), graph.output}
        assert {index for index, data in drawn.nodes(data=True) if data["live"]} == live
        assert {index for index in live if index >= FIRST_OP} == set(analyse(graph).live_ops)
        assert drawn.number_of_edges() == sum(len(node.inputs) for node in graph.nodes)


def test_dot_marks_dead_nodes_and_sides() -> None:
    graph = Graph((Node("std", (0,), "batch"), Node("exp", (2,)), Node("div", (0, 4))))
    lines = to_dot(graph).splitlines()
    dead = [line for line in lines if "dashed" in line]
    assert [line.split()[0] for line in dead] == ["n2", "n5", "n2"]
    assert sum('label="std_batch"' in line for line in lines) == 1
    assert any(line.startswith('  n4 -> n6 [label="R"') for line in lines)
    assert any(line.startswith('  n0 -> n6 [label="L"') for line in lines)
    assert not any(line.startswith("  n1") for line in lines)


def test_dot_escapes_titles() -> None:
    title = 'a"];\nevil [label="\\'
    line = to_dot(parse("tanh(x)"), title).splitlines()[1]
    assert line == '  label="a\\"]; evil [label=\\"\\\\";'


def _loaded_by(modules: str) -> set[str]:
    code = (
        f"import sys, {modules}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        timeout=120,
    )  # fmt: skip
    return set(done.stdout.split())


def test_the_language_loads_no_heavy_library() -> None:
    loaded = _loaded_by(", ".join(f"primitives.{name}" for name in LIGHT))
    assert loaded.isdisjoint({"torch", "ray", "sympy", "sqlalchemy", "fastapi"})
    symbolic = _loaded_by("primitives.symbolic")
    assert "sympy" in symbolic
    assert symbolic.isdisjoint({"torch", "ray"})
