"""The parser and the printer: meaning, round trips, and refusals with position and reason."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primitives.digest import digest
from primitives.errors import FormulaError
from primitives.formula import MAX_CHARACTERS, MAX_NESTING, parse
from primitives.graph import FIRST_OP, MAX_NODES, Graph, Node
from primitives.ops import OPS
from primitives.printer import MAX_PLAIN, format_formula
from primitives.rewrite import live_form
from tests.random_graphs import random_graphs

PAPER = (
    "x / max(std_batch(x), v1 * x + std_instance(x))",
    "x / max(std_batch(x), (x + 1) * rms_instance(x))",
    "x / max(std_batch(x), rms_instance(x) - x)",
    "x * sigmoid(v1 * x) / std_group(x)",
    "x * sigmoid(x) / std_group(x)",
    "x * sigmoid(x) / rms_group(x)",
)


@pytest.mark.parametrize("text", PAPER)
def test_the_papers_formulas_print_as_they_are_written(text: str) -> None:
    assert format_formula(parse(text)) == text


def test_b0_is_the_papers_graph() -> None:
    assert parse(PAPER[0]).nodes == (
        Node("std", (0,), "batch"),
        Node("mul", (3, 0)),
        Node("std", (0,), "instance"),
        Node("add", (5, 6)),
        Node("max", (4, 7)),
        Node("div", (0, 8)),
    )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a = std_batch(x); x / max(a, v1 * a)", "x / max(std_batch(x), v1 * std_batch(x))"),
        ("relu(x)", "max(x, zero)"),
        ("max(x, 0)", "max(x, zero)"),
        ("silu(x + v0)", "(x + v0) * sigmoid(x + v0)"),
        ("x + 1", "x + exp(zero)"),
        ("sub(x, v0)", "x + -v0"),
        ("x - v0", "add(x, neg(v0))"),
        ("x^2", "square(x)"),
        ("(x + v0)**2 / v1", "div(square(add(x, v0)), v1)"),
        ("-x^2", "neg(square(x))"),
        ("-x * v0", "mul(neg(x), v0)"),
        ("x - v0 - v1", "(x - v0) - v1"),
        ("x / v0 / v1", "div(div(x, v0), v1)"),
        ("x + v0 * v1", "add(x, mul(v0, v1))"),
        ("x * -v0", "mul(x, neg(v0))"),
        ("x - -v0", "add(x, neg(neg(v0)))"),
        ("\n x\t+  v0 ;\r\n", "x + v0"),
        ("x", "x + zero"),
        ("a = x; b = a * a; b / a", "x * x / x"),
    ],
)
def test_two_ways_to_write_one_graph(text: str, same: str) -> None:
    assert parse(text) == parse(same)


def test_different_groupings_differ() -> None:
    texts = ["x - (v0 - v1)", "x - v0 - v1", "x / (v0 / v1)", "x / v0 / v1", "-(x * v0)", "-x * v0"]
    assert len({parse(text) for text in texts}) == len(texts)


def test_a_sum_with_a_sign_keeps_its_sides() -> None:
    for text in ("-x + v0", "v0 - x", "x - (v0 - v1)", "-(x + v0) * -v1", "--x", "x - 1", "-1 / x"):
        assert format_formula(parse(text)) == text


def test_round_trip_of_random_graphs() -> None:
    for graph in random_graphs(2000, seed=21) + random_graphs(100, seed=22, nodes=MAX_NODES):
        again = parse(format_formula(graph))
        assert again == live_form(graph)
        assert digest(again) == digest(graph)


@st.composite
def _graphs(draw: st.DrawFn) -> Graph:
    typed = [(op, over) for op, row in OPS.items() for over in row.index_sets or (None,)]
    nodes: list[Node] = []
    for index in range(FIRST_OP, FIRST_OP + draw(st.integers(1, 14))):
        op, over = draw(st.sampled_from(typed))
        # Mostly near the end, so that graphs are deep and share nodes.
        source = st.integers(0, index - 1) | st.integers(max(0, index - 3), index - 1)
        nodes.append(Node(op, tuple(draw(source) for _ in range(OPS[op].arity)), over))
    return Graph(tuple(nodes))


@settings(max_examples=300, deadline=None)
@given(_graphs())
def test_round_trip_of_any_graph(graph: Graph) -> None:
    assert parse(format_formula(graph)) == live_form(graph)


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="xv01 zero+-*/^(),;=\nabsmd_tch²−", max_size=60))
def test_any_text_is_a_graph_or_a_formula_error(text: str) -> None:
    try:
        outcome: Graph | FormulaError = parse(text)
    except FormulaError as err:
        outcome = err
    if isinstance(outcome, Graph):
        assert parse(format_formula(outcome)) == outcome
    else:
        assert outcome.position is not None
        assert 0 <= outcome.position <= len(text)
        assert "\n" not in str(outcome)


def test_shared_nodes_are_named_once_and_signs_never() -> None:
    nodes = [Node("mul", (0, 0)), *(Node("mul", (i, i)) for i in range(4, 13))]
    text = format_formula(Graph(tuple(nodes)))
    assert text.startswith("a = x * x; b = a * a; ")
    assert len(text) < 150
    assert format_formula(parse("(v0 - x) * (v1 - x) / -x")) == "(v0 - x) * (v1 - x) / -x"
    assert format_formula(parse("(x + 1) / (x - 1)")) == "(x + 1) / (x - 1)"


def test_printing_without_names_is_refused_when_long() -> None:
    short = parse("a = std_batch(x); x / max(a, v1 * a)")
    plain = format_formula(short, name_shared=False)
    assert plain == "x / max(std_batch(x), v1 * std_batch(x))"
    doubled = [Node("mul", (0, 0)), *(Node("mul", (i, i)) for i in range(4, 4 + 200))]
    for count in (12, 200):
        with pytest.raises(FormulaError, match=f"at most {MAX_PLAIN} characters"):
            format_formula(Graph(tuple(doubled[:count])), name_shared=False)


def test_deep_graphs_are_printed_with_names_and_read_again() -> None:
    for op in ("tanh", "neg"):
        chain = Graph(tuple(Node(op, (index - 1 if index > FIRST_OP else 0,))
                            for index in range(FIRST_OP, FIRST_OP + MAX_NODES)))  # fmt: skip
        assert parse(format_formula(chain)) == chain


REFUSED = [
    ("", 0, "empty"),
    ("   ", 3, "empty"),
    ("x +", 3, "the end"),
    ("+ x", 0, "'+'"),
    ("* x", 0, "'*'"),
    ("x * / v0", 4, "'/'"),
    ("x y", 2, "operator is missing"),
    ("x (v0)", 0, "unknown function"),
    ("(x) v0", 4, "operator is missing"),
    ("(x", 2, "not closed"),
    ("((x)", 4, "character 1"),
    ("x)", 1, "without its ("),
    ("max(x; v0)", 5, "not closed"),
    ("max(x)", 5, "expected 2, got 1; write max(a, b)"),
    ("max(x, v0, v1)", 9, "got more than 2"),
    ("tanh(x, v0)", 6, "wrong number of inputs for tanh"),
    ("tanh()", 5, "expression is missing"),
    ("x, v0", 1, "comma"),
    ("(x, v0)", 2, "comma"),
    ("sigmod(x)", 0, "did you mean sigmoid"),
    ("std(x)", 0, "std_batch or std_sample"),
    ("std_bach(x)", 0, "std_batch"),
    ("foo", 0, "unknown name"),
    ("V1 * x", 0, "v1"),
    ("exp", 3, "exp is a function"),
    ("exp + x", 4, "write exp(a)"),
    ("x(v0)", 0, "unknown function"),
    ("3 * x", 0, "expected 0, 0.5, 1 or 2, got '3'"),
    ("0.25 * x", 0, "0.25"),
    ("1e999", 0, "1e999"),
    ("10", 0, "expected 0, 0.5, 1 or 2"),
    ("0x10", 0, "0x10"),
    ("nan", 0, "unknown name"),
    ("inf * x", 0, "unknown name"),
    ("x^3", 2, "expected 2, got '3'"),
    ("x^", 2, "only squares"),
    ("x^2^x", 4, "only squares"),
    ("x − v0", 2, "write -"),
    ("x·v0", 1, "write *"),
    ("х + 1", 0, "unknown character"),
    ("x² + 1", 1, "write ^2"),
    ("x\u202e + 1", 1, "U+202E"),
    ("x\x00", 1, "U+0000"),
    ("x\u00a0+ v0", 1, "U+00A0"),
    ("\U0001d431", 0, "unknown character"),
    ("__import__('os')", 11, "unknown character"),
    ("x.real", 1, "operator is missing"),
    ("lambda: x", 6, "unknown character"),
    ("a = x;", 6, "no result"),
    ("a = x; v0", 0, "never used"),
    ("a = x", 5, "does not end"),
    ("a = x; a = v0; a", 7, "already means something"),
    ("x = v0; x", 0, "already means something"),
    ("tanh = x; x", 0, "already means something"),
    ("a = a; a", 4, "unknown name"),
    ("b = a; a = x; b", 4, "unknown name"),
    ("x; v0", 3, "after the result"),
    ("x == v0", 0, "cannot be given"),
    ("a == v0", 3, "'='"),
    ("x;;", 2, "after the result"),
]


@pytest.mark.parametrize(("text", "position", "reason"), REFUSED)
def test_refusals_name_position_and_reason(text: str, position: int, reason: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert caught.value.position == position
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"character {position + 1}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, b"x", ["x"]])
def test_only_text_is_parsed(value: object) -> None:
    with pytest.raises(FormulaError, match="expected text"):
        parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x + " * 5000 + "x", "too long"),
        ("(" * (MAX_NESTING + 1) + "x" + ")" * (MAX_NESTING + 1), "nested too deeply"),
        ("tanh(" * 2000 + "x" + ")" * 2000, "nested too deeply"),
        ("-" * (MAX_CHARACTERS - 1) + "x", "nested too deeply"),
        ("9" * MAX_CHARACTERS, "1 or 2"),
        ("q" * MAX_CHARACTERS, "unknown name"),
        ("(" * MAX_CHARACTERS, "nested too deeply"),
        (" " * MAX_CHARACTERS, "empty"),
        ("²" * MAX_CHARACTERS, "unknown character"),
        ("x" + "+v0" * 400 + "+v1", "at most 256"),
        ("q" * 100 + " = x; x", "at most 64 characters"),
    ],
    ids=lambda value: value[:12],
)
def test_limits_are_refused_without_delay_or_long_messages(text: str, reason: str) -> None:
    start = time.process_time()
    with pytest.raises(FormulaError, match=reason) as caught:
        parse(text)
    assert len(str(caught.value)) < 400
    # Linear work takes milliseconds; the bound only tells it from exponential work.
    assert time.process_time() - start < 5.0


def test_limits_are_reached_without_refusal() -> None:
    deep = MAX_NESTING
    assert parse("(" * deep + "x" + ")" * deep) == parse("x")
    assert len(parse("tanh(" * deep + "x" + ")" * deep).nodes) == deep
    chain = "".join(f"a{i} = a{i - 1} * a{i - 1}; " for i in range(1, 255))
    assert len(parse(f"a0 = x * x; {chain} a254 + x").nodes) == MAX_NODES


def test_the_op_set_is_enforced() -> None:
    assert parse("rms_token(x)") == parse("rms_token(x)", "paper+token")
    with pytest.raises(FormulaError, match="outside the op set") as caught:
        parse("x / rms_token(x)", "paper")
    assert caught.value.position == 4
    small = [("add", None), ("max", None)]
    assert parse("relu(x) + v0", small).nodes[-1].op == "add"
    with pytest.raises(FormulaError, match="only add, max, got neg") as caught:
        parse("x - v0", small)
    assert caught.value.position == 2
    with pytest.raises(FormulaError, match="unknown op set"):
        parse("x", "papers")
