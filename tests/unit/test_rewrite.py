"""Every rewrite rule by iteration, and the canonical form's promises on random graphs."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from primitives.graph import FIRST_OP, MAX_NODES, Graph, Node
from primitives.ops import COMMUTATIVE, EPS, INITIAL_NODES, OPS, typed_name
from primitives.rewrite import ALGEBRAIC, EXACT, canonical, live_form, simplify, weight
from primitives.rules import Pattern, Rule
from tests.random_graphs import evaluate, evaluate_all, leaves, random_graphs

TYPED = {
    typed_name(op, over): (op, over)
    for op, row in OPS.items()
    for over in row.index_sets or (None,)
}
# What variables stand for in the tests: leaves, signed and nonnegative terms, constants over axes.
TERMS: tuple[Pattern, ...] = (
    "x",
    "v1",
    ("mul", "x", "v1"),
    ("square", "x"),
    ("exp", "v0"),
    ("mean_batch", "x"),
    ("rms_sample", "x"),
    ("mean_group", "x"),
    ("tanh", ("mean_token", "x")),
)


class _Terms:
    """A graph grown from terms without rules; also the facts of its nodes, seen in numbers."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values = leaves()

    def add(self, term: Any) -> int:
        if isinstance(term, int):
            return term
        if isinstance(term, str):
            return INITIAL_NODES.index(term)
        op, over = TYPED[term[0]]
        self.nodes.append(Node(op, tuple(map(self.add, term[1:])), over))
        return FIRST_OP - 1 + len(self.nodes)

    def graph(self, root: int) -> Graph:
        if root < FIRST_OP:
            return Graph((Node("add", (root, 1)),))
        return Graph(tuple(self.nodes[: root - FIRST_OP + 1]))

    def nonnegative(self, node: int) -> bool:
        return bool((evaluate(self.graph(node), self.values) >= 0).all())

    def constant_over(self, node: int, index_set: str) -> bool:
        deviation = Graph((*self.graph(node).nodes, Node("std", (node,), index_set)))
        return bool((evaluate(deviation, self.values) < 0.004).all())


def _variables(pattern: Pattern) -> list[str]:
    if isinstance(pattern, str):
        return [] if pattern in INITIAL_NODES else [pattern]
    return list(dict.fromkeys(name for part in pattern[1:] for name in _variables(part)))


def _filled(pattern: Pattern, chosen: dict[str, Any]) -> Any:
    if isinstance(pattern, str):
        return chosen.get(pattern, pattern)
    return (pattern[0], *(_filled(part, chosen) for part in pattern[1:]))


def _instances(rule: Rule) -> list[tuple[Graph, Graph, int, int]]:
    """Pairs of graphs before and after the rule, with their weights."""
    names, pairs = _variables(rule.pattern), []
    for terms in product(TERMS, repeat=len(names)):
        grown = _Terms()
        chosen = {name: grown.add(term) for name, term in zip(names, terms, strict=True)}
        if rule.when is not None and not rule.when(grown, **chosen):
            continue
        before = grown.graph(grown.add(_filled(rule.pattern, chosen)))
        root = grown.add(rule.build(**chosen))
        after = grown.graph(root)
        pairs.append((before, after, weight(before), weight(after) if root >= FIRST_OP else 1))
    return pairs


def _name(rule: Rule) -> str:
    return str(rule.pattern).replace("'", "").replace(" ", "")


@pytest.mark.parametrize("rule", EXACT, ids=_name)
def test_exact_rule_keeps_every_bit_and_shrinks(rule: Rule) -> None:
    values, compared = leaves(), 0
    for before, after, heavy, light in _instances(rule):
        assert light < heavy
        old, new = evaluate(before, values), evaluate(after, values)
        if np.isfinite(old).all():
            compared += 1
            np.testing.assert_array_equal(np.broadcast_to(new, old.shape), old)
    assert compared


@pytest.mark.parametrize("rule", ALGEBRAIC, ids=_name)
def test_algebraic_rule_holds_over_the_reals_and_shrinks(rule: Rule) -> None:
    values, compared = leaves(), 0
    for before, after, heavy, light in _instances(rule):
        assert light < heavy
        old, new = evaluate(before, values), evaluate(after, values)
        if np.isfinite(old).all():
            compared += 1
            scale = max(1.0, float(np.abs(old).max()))
            np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6 * scale)
    assert compared


@pytest.mark.parametrize("rule", EXACT + ALGEBRAIC, ids=_name)
def test_each_rule_is_found_by_the_rewriter(rule: Rule) -> None:
    """The pattern on fresh variables does not survive: the index finds the rule or a better one."""
    form = canonical if rule in EXACT else simplify
    assert any(
        form(before) == form(after) and form(before) != live_form(before)
        for before, after, _, _ in _instances(rule)
    )


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_properties_behind_exact_rules_hold_in_torchs_bits(precision: str) -> None:
    import torch

    dtype = getattr(torch, precision)
    a = torch.linspace(-30, 30, 4001, dtype=torch.float64).to(dtype)
    b = torch.roll(a, 1234) + 0.125
    zero, eps = torch.zeros_like(a), torch.tensor(EPS, dtype=dtype)

    def value(op: str, *inputs: Any) -> Any:
        names = dict(zip("ab", inputs, strict=False))
        return eval(OPS[op].torch, {"torch": torch}, {**names, "eps": eps})

    for op, row in OPS.items():
        if row.is_aggregation or not row.arity:
            continue
        if "odd" in row.properties:
            assert torch.equal(value(op, -a), -value(op, a)), op
        if "even" in row.properties:
            assert torch.equal(value(op, -a), value(op, a)), op
        if "fixes_zero" in row.properties:
            assert torch.equal(value(op, zero), zero), op
        if "commutative" in row.properties:
            assert torch.equal(value(op, a, b), value(op, b, a)), op
        if row.properties & {"nonnegative", "positive"}:
            assert (value(op, a) >= 0).all(), op
        if row.properties >= {"odd", "increasing"}:
            assert torch.equal(value(op, a.abs()), value(op, a).abs()), op
    assert torch.equal(value("mul", a, a), value("square", a))
    assert torch.equal(value("exp", zero), torch.ones_like(a))


def test_the_tables_share_no_rule() -> None:
    patterns = [_name(rule) for rule in EXACT + ALGEBRAIC]
    assert len(patterns) == len(set(patterns))


def test_a_wrong_rule_would_be_seen() -> None:
    wrong = Rule(("abs", "a"), lambda a: a)
    with pytest.raises(AssertionError):
        test_exact_rule_keeps_every_bit_and_shrinks(wrong)
    growing = Rule(("abs", "a"), lambda a: ("abs", ("abs", a)))
    with pytest.raises(AssertionError):
        test_exact_rule_keeps_every_bit_and_shrinks(growing)


def test_canonical_keeps_every_bit_of_random_graphs() -> None:
    values, compared, changed = leaves(), 0, 0
    for graph in random_graphs(2000, seed=11) + random_graphs(1000, seed=14, op_set="extended"):
        form = canonical(graph)
        assert canonical(form) == form
        assert simplify(simplify(graph)) == simplify(graph)
        old, new = evaluate_all(live_form(graph), values), evaluate(form, values)
        if all(np.isfinite(value).all() for value in old):
            compared += 1
            changed += form != live_form(graph)
            np.testing.assert_array_equal(new, old[-1])
    assert compared > 1500
    assert changed > 450


def test_weight_never_rises() -> None:
    for graph in random_graphs(2000, seed=12) + random_graphs(500, seed=15, op_set="extended"):
        live = live_form(graph)
        for form in (canonical(graph), simplify(graph)):
            if form.nodes[0] in [Node("add", (index, 1)) for index in range(FIRST_OP)]:
                continue  # the written form of an initial node, whose own weight is 1
            assert weight(form) <= weight(live)


def _shuffled(graph: Graph, rng: np.random.Generator) -> Graph:
    """The graph with nodes in another order, dead nodes, copies and commuted inputs."""
    waiting = dict(enumerate(graph.nodes, FIRST_OP))
    place = {index: index for index in range(FIRST_OP)}
    nodes: list[Node] = []
    while waiting:
        ready = [i for i, node in waiting.items() if all(j in place for j in node.inputs)]
        if len(waiting) > 1:
            ready = [index for index in ready if index != graph.output]
        index = int(rng.choice(ready or [graph.output]))
        node = waiting.pop(index)
        inputs = tuple(place[source] for source in node.inputs)
        if node.op in COMMUTATIVE and rng.random() < 0.5:
            inputs = inputs[::-1]
        extra = Node("exp", (int(rng.integers(FIRST_OP + len(nodes))),))
        nodes += [extra, Node(node.op, inputs, node.over)] * (1 + int(rng.random() < 0.2))
        place[index] = FIRST_OP - 1 + len(nodes)
        if index == graph.output:
            break
    return Graph(tuple(nodes))


def test_order_dead_nodes_copies_and_commuted_inputs_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    moved = 0
    for graph in random_graphs(1000, seed=13) + random_graphs(500, seed=16, op_set="extended"):
        other = _shuffled(graph, rng)
        moved += other.nodes != graph.nodes
        assert canonical(other) == canonical(graph)
        assert simplify(other) == simplify(graph)
    assert moved > 1300


@pytest.mark.parametrize(("index", "name"), list(enumerate(INITIAL_NODES)))
def test_an_initial_node_is_written_as_a_sum_with_zero(index: int, name: str) -> None:
    form = Graph((Node("add", (index, 1)),))
    assert canonical(form) == form
    assert canonical(Graph((Node("neg", (index,)), Node("neg", (4,))))) == form, name


@pytest.mark.parametrize("kind", ["sum", "mean", "neg", "square", "std"])
def test_the_largest_graphs_are_rewritten_without_deep_recursion(kind: str) -> None:
    nodes = [Node("add", (0, 2))]
    for index in range(FIRST_OP, FIRST_OP + MAX_NODES - 2):
        one = {"neg": Node("neg", (index,)), "square": Node("square", (index,))}
        nodes.append(one.get(kind, Node("add", (index, 2 + index % 2))))
    last = FIRST_OP + len(nodes) - 1
    op = kind if kind in ("mean", "std") else "neg"
    nodes.append(Node(op, (last,), "instance" if op != "neg" else None))
    graph = Graph(tuple(nodes))
    for form in (canonical(graph), simplify(graph)):
        assert len(form.nodes) <= MAX_NODES
        assert canonical(form) == form or kind in ("mean", "std")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Equal in structure up to one exact identity.
        (("div", ("neg", "x"), ("neg", "v1")), ("div", "x", "v1")),
        (("abs", ("add", ("neg", "x"), ("neg", "v0"))), ("abs", ("add", "v0", "x"))),
        (("max", ("rms_batch", "x"), ("neg", ("square", "x"))), ("rms_batch", "x")),
        (("std_group", ("mul", ("neg", "x"), "v1")), ("std_group", ("mul", "v1", "x"))),
        (("square", ("abs", ("sqrt", "x"))), ("square", ("sqrt", "x"))),
        (("subtract", "x", ("reciprocal", "v1")),
         ("add", ("neg", ("div", ("exp", "zero"), "v1")), "x")),
        (("min", "x", "v1"), ("neg", ("max", ("neg", "v1"), ("neg", "x")))),
        (("erf", ("neg", "x")), ("neg", ("erf", "x"))),
        (("abs", ("mul", ("exp", "x"), ("max", "x", "zero"))),
         ("mul", ("max", "zero", "x"), ("exp", "x"))),
    ],
)  # fmt: skip
def test_known_equals_meet(first: Pattern, second: Pattern) -> None:
    one, two = _Terms(), _Terms()
    assert canonical(one.graph(one.add(first))) == canonical(two.graph(two.add(second)))


def test_unequal_graphs_stay_apart() -> None:
    pairs = [
        (("div", "x", "v1"), ("div", "v1", "x")),
        (("abs", "x"), "x"),
        (("max", "x", "zero"), ("abs", "x")),
        (("std_batch", "x"), ("std_sample", "x")),
        (("std_batch", ("abs", "x")), ("std_batch", "x")),
        (("rms_batch", "zero"), ("rms_instance", "zero")),
        (("log", ("abs", "x")), ("abs", ("log", "x"))),
        # Equal in value, but not in the gradient of a tie.
        (("rectify", "x"), ("max", "x", "zero")),
        (("mul", "x", ("v2",)), ("mul", "x", ("v3",))),
    ]
    for first, second in pairs:
        one, two = _Terms(), _Terms()
        assert canonical(one.graph(one.add(first))) != canonical(two.graph(two.add(second)))
