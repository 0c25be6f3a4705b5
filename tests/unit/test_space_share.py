"""What a search space lets through, told beforehand, against another way of counting."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

import pytest

from evosearch.config import Space
from evosearch.own import REGISTER, check
from evosearch.presets import load_preset
from evosearch.screen import SCREEN_CODES
from evosearch.space_share import STAGES, Stage, space_stages
from evosearch.streams import stream
from evosearch.template_space import TemplateSpace, drawer, has_form
from evosearch.variation import draw_table, random_graph
from primitives.formula import parse
from primitives.graph import FIRST_OP, Graph
from primitives.properties import Behaviour
from primitives.rewrite import live_form
from primitives.structure import analyse, structural_fault

ENOUGH, MOST = 200, 15_000


def stages(*overrides: str) -> dict[str, Stage]:
    found = space_stages(load_preset("quickstart", overrides))
    assert [one.name for one in found] == list(dict.fromkeys(one.name for one in found))
    return {one.name: one for one in found}


@cache
def some_layers(space: Space, number: int, draws: int) -> list[Graph]:
    """The layers among so many random graphs."""
    rng, table = stream(0, "share", number), draw_table(space)
    graphs = (random_graph(rng, table, space.nodes) for _ in range(draws))
    return [graph for graph in graphs if structural_fault(graph) is None]


def reached(graph: Graph, root: int) -> set[int]:
    """Op nodes that a node needs, itself among them."""
    found, waiting = set[int](), [root]
    while waiting:
        index = waiting.pop()
        if index >= FIRST_OP and index not in found:
            found.add(index)
            waiting += graph.node(index).inputs
    return found


@pytest.fixture
def own_checks() -> Iterator[None]:
    @check("small")
    def small(graph: Graph) -> str | None:
        return None if len(graph.live_ops()) <= 4 else "large"

    @check("any")
    def anything(graph: Graph) -> str | None:
        return None

    yield
    REGISTER.forget(__name__)


def test_every_stage_counts_from_what_the_one_before_let_through() -> None:
    found = list(stages('series="S"', 'space.where="live_nodes <= 4"').values())
    assert [one.name for one in found] == ["layers", "series", "where", "numbers"]
    assert found[0].came < MOST
    assert found[-1].passed >= ENOUGH
    for before, after in itertools.pairwise(found):
        assert after.came == before.passed
        assert 0 < after.passed < after.came


def test_the_counts_are_those_of_the_graphs() -> None:
    found = stages('series="S"', 'space.where="live_nodes <= 4"')
    config = load_preset("quickstart")
    rng, space = stream(0, "share", 0), drawer(config.space)
    graphs = [space.random(rng) for _ in range(found["layers"].came)]
    layers = [graph for graph in graphs if structural_fault(graph) is None]
    series = [graph for graph in layers if analyse(graph).batch_independent]
    small = [graph for graph in series if analyse(graph).live_nodes <= 4]
    assert found["layers"].passed == len(layers)
    assert found["series"].passed == len(series)
    assert found["where"].passed == len(small)


def test_what_is_allowed_is_a_share_of_the_layers_of_the_whole_op_set() -> None:
    found = stages('space.allow=["max", "div", "rms_batch", "std_batch"]', 'space.draw="typed"')
    denied = stages('space.deny=["exp", "log"]', 'space.draw="typed"')
    unread = stages('space.deny=["v0", "zero"]', 'space.draw="typed"')
    whole = load_preset("quickstart").space
    bare, without, lean = [], [], []
    for graph in some_layers(whole, 1, MOST):
        live, names, read = [graph.output], set(), set()
        while live:
            index = live.pop()
            if index >= FIRST_OP:
                node = graph.node(index)
                names.add(node.op if node.over is None else f"{node.op}_{node.over}")
                live += node.inputs
            else:
                read.add(index)
        lean.append(read <= {0, 3})
        bare.append(names <= {"max", "div", "rms_batch", "std_batch"})
        without.append(not names & {"exp", "log"})
    for one, passing in ((found["allow"], bare), (denied["deny"], without), (unread["deny"], lean)):
        assert one == Stage(one.name, one.came, sum(passing[: one.came]))
    assert 0.0 < denied["deny"].share < 1.0  # type: ignore[operator]
    assert ("deny" in found, "allow" in denied) == (False, False)


def test_allow_and_deny_have_a_share_each_as_if_the_other_were_not_set() -> None:
    allow, deny = 'space.allow=["max", "div", "exp", "rms_batch"]', 'space.deny=["exp", "v0"]'
    found = stages(allow, deny)
    assert list(found)[:3] == ["allow", "deny", "layers"]
    assert found["allow"] == stages(allow)["allow"]
    assert found["deny"] == stages(deny)["deny"]
    assert found["allow"].share != found["deny"].share


def test_each_condition_of_a_where_has_a_share_beside_that_of_the_whole() -> None:
    found = stages('series="S"', 'space.where="live_nodes <= 4 and (bounded or pointwise)"')
    first, second = "where live_nodes <= 4", "where (bounded or pointwise)"
    assert list(found) == ["layers", "series", first, second, "where", "numbers"]
    rng, space = stream(0, "share", 0), drawer(load_preset("quickstart").space)
    graphs = [space.random(rng) for _ in range(found["layers"].came)]
    layers = [graph for graph in graphs if structural_fault(graph) is None]
    series = [graph for graph in layers if analyse(graph).batch_independent]
    small = [analyse(graph).live_nodes <= 4 for graph in series]
    either = [analyse(graph).pointwise or Behaviour(graph).bounded for graph in series]
    assert found[first] == Stage(first, len(series), sum(small))
    assert found[second] == Stage(second, len(series), sum(either))
    both = sum(one and other for one, other in zip(small, either, strict=True))
    assert found["where"] == Stage("where", len(series), both)
    assert 0 < both < min(sum(small), sum(either)) < len(series)


def test_one_condition_is_the_whole_and_is_told_though_everything_meets_it() -> None:
    found = stages('space.where="live_nodes <= 64"')
    assert list(found) == ["layers", "where", "numbers"]
    assert found["where"].share == 1.0
    assert list(stages('space.where="pointwise or bounded"')) == list(found)


@pytest.mark.usefixtures("own_checks")
def test_each_of_several_own_checks_has_a_share() -> None:
    found = stages('space.checks=["small", "any"]')
    assert list(found) == ["layers", "own check small", "own check any", "own checks", "numbers"]
    came, passed = found["own checks"][1:]
    assert found["own check small"] == Stage("own check small", came, passed)
    assert found["own check any"] == Stage("own check any", came, came)
    assert 0 < passed < came
    alone = stages('space.checks=["any"]')
    assert list(alone) == ["layers", "own checks", "numbers"]
    assert alone["own checks"].share == 1.0


def test_a_template_keeps_more_and_what_nothing_passes_has_no_share() -> None:
    assert stages('space.template="x * f(x) / rms_batch(x)"')["layers"].share > 0.9  # type: ignore[operator]
    found = stages('space.where="live_nodes > 60"')
    assert found["where"].passed == 0
    assert "numbers" not in found
    assert Stage("where", 0, 0).share is None


def test_what_is_rare_is_looked_for_longer_and_has_a_bound_where_none_was_found() -> None:
    free, rare = stages()["layers"], stages('space.where="live_nodes > 60"')
    assert free.came < rare["layers"].came == MOST
    assert rare["where"].passed == 0
    assert rare["where"].below == 3 / rare["where"].came < 0.003
    form = stages('space.template="x * f(x) / g(x)"')
    assert (form["template"].passed > 0, form["template"].below) == (True, None)
    assert form["template"].came > 1000, "of rare ones more than a few hundred layers are seen"
    assert Stage("where", 2, 0).below == 1.0
    assert Stage("where", 0, 0).below is None


def test_the_rule_of_three_holds_of_seeds() -> None:
    """Where the share is 3 / n, none of n is seen in one of twenty samples or fewer."""
    rng, number = stream(0, "share", 9), 100
    none_seen = sum(all(rng.random() >= 3 / number for _ in range(number)) for _ in range(4000))
    assert none_seen / 4000 == pytest.approx(0.05, abs=0.012)


def test_looks_are_bounded_where_every_graph_is_a_layer() -> None:
    found = stages('space.template="x * f(x) / g(x)"', 'space.where="live_nodes > 60"')
    assert (found["layers"].came, found["where"].passed) == (2000, 0)


def test_op_set_nodes_and_template_have_rows_of_their_own() -> None:
    found = stages('space.op_set="paper+token"', "space.nodes=3")
    assert list(found)[:2] == ["op set", "nodes"]
    whole = load_preset("quickstart", ['space.op_set="paper+token"']).space
    layers = some_layers(whole, 3, MOST)[: found["nodes"].came]
    small = sum(analyse(graph).live_nodes <= 3 for graph in layers)
    assert found["nodes"] == Stage("nodes", len(layers), small)
    assert small >= ENOUGH
    assert 0.3 < found["op set"].share < 0.95  # type: ignore[operator]
    assert not {"op set", "nodes"} & set(stages('space.op_set="extended+token"'))


def test_the_nodes_of_a_template_are_counted_in_each_hole() -> None:
    """Of holes with five nodes each those of which none needs more than two."""
    text = "x * f(x) / g(x)"
    found = stages(f'space.template="{text}"', "space.nodes=5")["nodes"]
    space = TemplateSpace(text, draw_table(load_preset("quickstart").space), 10)
    rng, small = stream(0, "share", 3), list[bool]()
    while len(small) < found.came:
        graph = space.random(rng)
        if structural_fault(graph) is None:
            product, divisor = graph.node(graph.output).inputs
            holes = max(graph.node(product).inputs), divisor
            small.append(all(len(reached(graph, hole)) <= 2 for hole in holes))
    assert found == Stage("nodes", len(small), sum(small))
    assert 0 < found.passed < found.came
    assert "nodes" not in stages(f'space.template="{text}"')


def test_a_long_frame_leaves_its_holes_less_room_to_compare_with() -> None:
    frame = "abs(" * 58 + "f(x)" + ")" * 58
    found = stages(f'space.template="{frame}"', "space.nodes=2")
    assert 0 < found["nodes"].passed < found["nodes"].came


def test_the_frame_of_a_template_needs_no_leave() -> None:
    """Only holes draw what is allowed: ``mul`` and ``div`` of the frame are not asked for."""
    text, allowed = 'space.template="x * f(x) / g(v1)"', 'space.allow=["max", "rms_batch"]'
    found = stages(text, allowed, 'space.draw="typed"')
    assert found["template"] == stages(text, 'space.draw="typed"')["template"]
    assert found["allow"].passed > 0
    whole = drawer(load_preset("quickstart", (text, allowed)).space)
    assert isinstance(whole, TemplateSpace)
    assert whole.frame_names() == {"mul", "div", "x", "v1"}


def test_a_template_counts_the_layers_that_have_its_form() -> None:
    text = "x * f(x) / g(x)"
    space = TemplateSpace(text, draw_table(load_preset("quickstart").space), 6)
    rng = stream(0, "share", 0)
    drawn = [one for _ in range(200) if structural_fault(one := space.random(rng)) is None]
    assert all(has_form(text, graph) for graph in drawn)
    for formula, form in {
        "x * f(x)": "sigmoid(x) * x", "f(x) / g(x)": "tanh(x) / std_batch(x)",
        "f(rms_batch(x)) * x": "x * tanh(rms_batch(x) + v0)",
    }.items():  # fmt: skip
        assert has_form(formula, parse(form))
    for formula, form in {
        "x * f(x)": "sigmoid(x) * v1", "f(x) / x": "x / sigmoid(x)",
        "f(rms_batch(x)) * x": "x * tanh(rms_batch(x) + x)",
    }.items():  # fmt: skip
        assert not has_form(formula, parse(form))
    found = stages('space.template="f(x) * g(x)"')["template"]
    products = 0
    layers = some_layers(load_preset("quickstart").space, 4, MOST)[: found.came]
    for graph in layers:
        last = live_form(graph).nodes[-1]
        products += last.op == "mul" and min(last.inputs) >= FIRST_OP
    assert found == Stage("template", len(layers), products)
    assert products > 0


def test_it_says_the_same_each_time_and_knows_every_code_of_a_graph_alone() -> None:
    assert stages() == stages()
    known = {code for codes in STAGES.values() for code in codes}
    assert set(SCREEN_CODES) - known == {"repeat", "duplicate", "crowded", "passed_over"}


def test_a_uniform_draw_lets_through_what_was_measured_before() -> None:
    """Of 3,000 graphs 68 % ignored x and 23 % had no spatial variation."""
    assert stages()["layers"].share == pytest.approx(0.09, abs=0.03)
