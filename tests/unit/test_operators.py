"""Operators: legal children, each edit is what it says, and the paper's stays what it was."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from evosearch.config import Operator, Space
from evosearch.operators import OPERATORS, applicable, apply_operator, pick_operator
from evosearch.variation import draw_table, mutate, random_graph
from primitives.digest import digest
from primitives.formula import parse
from primitives.graph import Graph
from primitives.ops import OP_SETS
from primitives.rewrite import live_form
from primitives.structure import structural_fault

TABLE = draw_table(Space())
PARENT = live_form(parse("tanh(x) / std_batch(x * v1)"))
OTHER = live_form(parse("max(x, zero) * sigmoid(x)"))


def children(name: Operator, count: int = 400, nodes: int = 10) -> list[Graph]:
    rng = random.Random(3)
    return [apply_operator(rng, TABLE, name, PARENT, OTHER, nodes) for _ in range(count)]


def sizes(name: Operator) -> set[int]:
    return {len(child.nodes) for child in children(name)}


@pytest.mark.parametrize("name", OPERATORS)
def test_children_of_random_graphs_are_legal_small_and_new(name: Operator) -> None:
    rng = random.Random(5)
    allowed = set(OP_SETS["paper"])
    differs = 0
    for _ in range(300):
        parent, other = random_graph(rng, TABLE, 10), random_graph(rng, TABLE, 10)
        child = apply_operator(rng, TABLE, name, parent, other, 10)
        assert len(child.nodes) <= 10
        assert {(node.op, node.over) for node in child.nodes} <= allowed
        differs += digest(child) != digest(parent)
    assert differs > 60


@pytest.mark.parametrize("name", OPERATORS)
def test_no_operator_reads_an_initial_node_that_is_denied(name: Operator) -> None:
    rng, lean = random.Random(5), draw_table(Space(deny=("zero", "v0", "v1")))
    for _ in range(300):
        parent, other = random_graph(rng, lean, 4), random_graph(rng, lean, 4)
        child = apply_operator(rng, lean, name, parent, other, 6)
        assert not {1, 2, 3} & {index for node in child.nodes for index in node.inputs}
    bare = parse("tanh(x)")
    assert "rewire" not in applicable({"rewire": 1.0, "swap": 1.0}, lean, bare, 4)
    assert "rewire" in applicable({"rewire": 1.0, "swap": 1.0}, TABLE, bare, 4)


@pytest.mark.parametrize("name", [name for name, row in OPERATORS.items() if row.live])
def test_a_child_that_would_be_too_large_is_the_parent(name: Operator) -> None:
    found = children(name, nodes=len(PARENT.nodes))
    assert all(len(child.nodes) <= len(PARENT.nodes) for child in found)
    assert all(live_form(child) == child for child in found)


def test_each_edit_changes_the_graph_by_as_much_as_it_says() -> None:
    before = len(PARENT.nodes)
    kinds = Counter((node.op, node.over) for node in PARENT.nodes)
    assert max(sizes("insert")) == before + 1
    assert max(sizes("branch")) == before + 2
    assert max(sizes("delete")) == before - 1 or min(sizes("delete")) < before
    for child in children("rewire"):
        assert not Counter((node.op, node.over) for node in child.nodes) - kinds
    for child in children("swap"):
        changed = Counter((node.op, node.over) for node in child.nodes) - kinds
        assert sum(changed.values()) <= 1
    whole = {(node.op, node.over) for node in (*PARENT.nodes, *OTHER.nodes)}
    crossed = children("cross")
    assert all({(node.op, node.over) for node in child.nodes} <= whole for child in crossed)
    assert any(digest(child) == digest(OTHER) for child in crossed)
    assert any({"std", "sigmoid"} <= {node.op for node in child.nodes} for child in crossed)


def test_the_papers_operator_is_the_papers_mutation() -> None:
    parent = random_graph(random.Random(1), TABLE, 10)
    for seed in range(50):
        expected = mutate(random.Random(seed), TABLE, parent)
        got = apply_operator(random.Random(seed), TABLE, "paper", parent, OTHER, 10)
        assert got == expected


@pytest.mark.parametrize("name", [name for name, row in OPERATORS.items() if row.live])
def test_edits_change_the_function_and_keep_x_and_its_positions(name: Operator) -> None:
    rng = random.Random(6)
    changed = 0
    for _ in range(300):
        child = apply_operator(rng, TABLE, name, PARENT, OTHER, 10)
        assert structural_fault(child) is None
        changed += digest(child) != digest(PARENT)
    assert changed >= 295


def test_only_operators_that_can_change_the_parent_are_drawn() -> None:
    weights: dict[Operator, float] = dict.fromkeys(OPERATORS, 1.0)
    full = len(PARENT.nodes)
    assert applicable(weights, TABLE, PARENT, 10) == weights
    assert set(weights) - set(applicable(weights, TABLE, PARENT, full)) == {"insert", "branch"}
    assert set(weights) - set(applicable(weights, TABLE, PARENT, full + 1)) == {"branch"}
    alone = parse("tanh(x)")
    assert "delete" not in applicable(weights, TABLE, alone, 10)
    unary = draw_table(Space(allow=("tanh", "std_batch")))
    assert "branch" not in applicable(weights, unary, alone, 10)
    only_one = draw_table(Space(allow=("tanh",)))
    assert "swap" not in applicable(weights, only_one, alone, 10)
    assert applicable({"delete": 1.0}, TABLE, alone, 10) == {"delete": 1.0}


def test_operators_are_drawn_by_weight() -> None:
    rng = random.Random(0)
    drawn = Counter(pick_operator(rng, {"swap": 3.0, "cross": 1.0}) for _ in range(4000))
    assert 0.72 < drawn["swap"] / 4000 < 0.78
    assert set(drawn) == {"swap", "cross"}


def test_one_edit_is_taken_as_it_comes_where_nothing_is_asked_of_it() -> None:
    children = [
        apply_operator(random.Random(seed), TABLE, "redraw", PARENT, OTHER, 10, sure=False)
        for seed in range(200)
    ]
    assert any(digest(child) == digest(PARENT) for child in children)
    assert any(structural_fault(child) is not None for child in children)
