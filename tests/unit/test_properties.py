"""Properties of layers whose answers are known on paper."""

from __future__ import annotations

import json
import warnings

import pytest

from evosearch.where import PROPERTIES
from primitives.catalog import CATALOG
from primitives.cost import against_bn_relu
from primitives.formula import parse
from primitives.properties import properties, stored_properties
from tests.random_graphs import random_graphs


@pytest.mark.parametrize(
    ("formula", "scale", "shift", "symmetry", "bounded", "monotone"),
    [
        ("tanh(x)", False, False, "odd", True, "increasing"),
        ("relu(x)", False, False, "none", False, "increasing"),
        ("square(x)", False, False, "even", False, "none"),
        ("-x", False, False, "odd", False, "decreasing"),
        ("x / rms_sample(x)", True, False, "odd", False, "increasing"),
        ("(x - mean_batch(x)) / std_batch(x)", True, True, "odd", False, "increasing"),
        ("sigmoid((x - mean_instance(x)) / std_instance(x))", True, True, "none", True,
         "increasing"),
        ("x * sigmoid(x)", False, False, "none", False, "none"),
    ],
)  # fmt: skip
def test_known_functions(
    formula: str, scale: bool, shift: bool, symmetry: str, bounded: bool, monotone: str
) -> None:
    found = properties(parse(formula))
    assert (found.scale_invariant, found.shift_invariant) == (scale, shift)
    assert (found.symmetry, found.monotone) == (symmetry, monotone)
    assert found.bounded == bounded


def test_stored_facts_are_those_of_structure_and_probe_and_fit_into_json() -> None:
    found = stored_properties(CATALOG["evonorm-b0"].graph)
    assert found["mixes_batch"]
    assert found["mixes_positions"]
    assert not found["mixes_channels"]
    assert (found["scale_invariant"], found["symmetry"]) == (True, "none")
    token = stored_properties(CATALOG["simple-rms-norm"].graph)
    assert (token["mixes_channels"], token["mixes_positions"]) == (True, False)
    assert (token["scale_invariant"], token["symmetry"]) == (True, "odd")
    assert stored_properties(CATALOG["poly-norm"].graph)["parameters_per_channel"] == 6
    assert found.keys() == token.keys()
    assert {name for name in found if name not in PROPERTIES} == set()
    assert_kinds(found)


KINDS = {"flag": bool, "number": (int, float), "text": str}


def assert_kinds(found: dict[str, object]) -> None:
    """Fail unless each fact is of its kind, and all of them come out of JSON as they went in."""
    wrong = {name for name, one in found.items() if not isinstance(one, KINDS[PROPERTIES[name]])}
    assert wrong == set()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_facts_of_any_graph_are_found_without_a_warning() -> None:
    graphs = random_graphs(600, seed=8, op_set="extended+token")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        every = [stored_properties(graph) for graph in graphs]
    assert [str(one.message) for one in warned] == []
    names = stored_properties(CATALOG["bn-relu"].graph).keys()
    for found in every:
        assert found.keys() == names
        assert_kinds(found)


@pytest.mark.parametrize("wrong", [{"bounded": 1.0}, {"flops": float("nan")}])
def test_a_fact_of_another_kind_is_found(wrong: dict[str, object]) -> None:
    found = stored_properties(CATALOG["bn-relu"].graph)
    assert found.keys() >= wrong.keys()
    with pytest.raises((AssertionError, ValueError)):
        assert_kinds(found | wrong)


def test_costs_are_counted_by_hand() -> None:
    found = properties(parse("x / std_batch(x)"))
    # std 4 on full tensors, div 1, affine 2; std reads one, div reads one and writes one.
    assert (found.flops, found.bytes_moved) == (7.0, 4 * (1 + 2 + 2))
    assert found.parameters_per_channel == 2
    assert properties(CATALOG["bn-relu"].graph).parameters_per_channel == 4


def test_cost_against_the_baseline_is_a_set_of_ratios() -> None:
    cost = against_bn_relu(CATALOG["evonorm-s0"].graph, (4, 8, 8, 8), 2)
    assert min(cost.forward, cost.backward, cost.both) > 0
    # BatchNorm keeps its input and ReLU its output; recomputation keeps the input.
    assert 0.45 < cost.saved_recompute < 0.6 < cost.saved
