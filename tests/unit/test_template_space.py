"""Templates with holes: the frame stays, the holes vary, and nothing else is proposed."""

from __future__ import annotations

import random

import pytest

from evosearch.config import Space
from evosearch.errors import ConfigError
from evosearch.template_space import Free, TemplateSpace, drawer
from evosearch.variation import draw_table, random_graph
from primitives.digest import digest
from primitives.formula import parse
from primitives.graph import FIRST_OP, Graph

TABLE = draw_table(Space())


def space_of(text, nodes=6):
    return TemplateSpace(text, TABLE, nodes)


def reads(graph: Graph, root: int) -> set[int]:
    """All nodes that a node needs."""
    found, waiting = set(), [root]
    while waiting:
        index = waiting.pop()
        found.add(index)
        if index >= FIRST_OP:
            waiting += [one for one in graph.node(index).inputs if one not in found]
    return found


def test_the_frame_stands_in_every_graph_and_child():
    space = space_of("x * f(x) / g(x)")
    graph = space.random(random.Random(1))
    kinds = set()
    for step in range(300):
        last, product = graph.nodes[-1], graph.node(graph.nodes[-1].inputs[0])
        assert (last.op, product.op) == ("div", "mul")
        assert 0 in product.inputs
        assert len(graph.nodes) == 2 + 2 * 3
        kinds.add(digest(graph))
        graph = space.mutate(random.Random(step), graph)
    assert len(kinds) > 100


def test_no_hole_reads_an_initial_node_that_is_denied():
    space = TemplateSpace("x * f(x) / g(x)", draw_table(Space(deny=("zero", "v1"))), 6)
    rng, graph = random.Random(2), space.random(random.Random(1))
    read = set()
    for _ in range(300):
        read |= {index for node in graph.nodes for index in node.inputs}
        graph = space.mutate(rng, graph)
    assert {0, 2} <= read
    assert not {1, 3} & read


def test_a_mutation_changes_one_node_of_one_hole():
    space = space_of("tanh(f(x)) + g(x)", 8)
    rng, graph = random.Random(0), space.random(random.Random(5))
    for _ in range(100):
        child = space.mutate(rng, graph)
        changed = [i for i, pair in enumerate(zip(graph.nodes, child.nodes, strict=True))
                   if pair[0] != pair[1]]  # fmt: skip
        assert len(changed) <= 1
        assert all(space.layout[i] is None for i in changed)
        graph = child


def test_a_hole_sees_its_argument_and_nothing_of_the_other():
    space = space_of("f(x / rms_group(x)) + g(x)", 8)
    first, second = space.holes
    assert space.layout[first.argument - FIRST_OP].op == "div"
    assert second.argument == 0
    for seed in range(100):
        graph = space.random(random.Random(seed))
        value = FIRST_OP + second.start + space.block - 1
        block = set(range(FIRST_OP + second.start, value + 1))
        assert reads(graph, value) <= block | {0, 1, 2, 3}


def test_holes_nest_and_a_value_may_be_used_twice():
    space = space_of("a = f(g(x)); a * sigmoid(a)", 6)
    assert [hole.argument for hole in space.holes] == [0, FIRST_OP + space.holes[0].start + 2]
    graph = space.random(random.Random(3))
    assert graph.nodes[-1].op == "mul"
    assert space.fits(graph)


def test_a_layer_from_outside_has_no_frame():
    space = space_of("x * f(x)")
    stranger = parse("max(x, zero)")
    assert not space.fits(stranger)
    assert space.fits(space.mutate(random.Random(0), stranger))


def test_without_a_template_graphs_are_drawn_as_ever():
    free = drawer(Space(nodes=7))
    assert isinstance(free, Free)
    assert free.random(random.Random(4)) == random_graph(random.Random(4), TABLE, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x * tanh(x)", "a template has holes"),
        ("f(x) * f(v1)", "stands twice"),
        ("f(x, v1)", "takes one argument"),
        ("f(x", "takes one argument"),
        ("x * f(y)", "^space.template: unknown name; expected x, zero, .* got 'y'$"),
        ("x * f(x) +", "^space.template: an expression is missing"),
    ],
)
def test_what_is_no_template_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        space_of(text)


def test_too_many_nodes_are_refused():
    with pytest.raises(ConfigError, match="too many nodes"):
        space_of("f(x) + tanh(x)", 64)


def test_a_search_proposes_layers_of_its_template_alone():
    from evosearch.config import Anchor, SearchConfig, Task
    from evosearch.events import CandidateQueued, Created
    from evosearch.propose import Proposer
    from evosearch.state import State

    config = SearchConfig(
        task=Task(anchors=(Anchor(name="resnet"),)),
        space=Space(template="x * f(x / rms_group(x))", nodes=6, where="live_nodes <= 8"),
    )
    state = State(Created(config=config))
    proposer = Proposer(state)
    frame = space_of("x * f(x / rms_group(x))")
    queued = 0
    for _ in range(15):
        for event in proposer.propose(state):
            state.apply(event)
            if isinstance(event, CandidateQueued):
                queued += 1
                assert frame.fits(event.graph)
                assert len(event.graph.live_ops()) <= 8
    assert queued == 15
