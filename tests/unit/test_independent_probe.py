"""The second probe that checks the first one finds equal functions, and only those."""

from __future__ import annotations

from primitives.formula import parse
from tests.independent_probe import equal_pairs


def test_equal_functions_in_different_forms_are_found_and_others_are_not() -> None:
    formulas = [
        "x / rms_batch(x)",
        "-x / -rms_batch(-x)",
        "x / rms_instance(x)",
        "x / rms_group(x)",
        "x / rms_sample(x)",
        "x * v1 / rms_batch(x)",
        "max(x, x * sigmoid(x))",
        "max(sigmoid(x) * x, abs(x) * 0 + x)",
    ]
    graphs = {number: parse(text) for number, text in enumerate(formulas)}
    assert sorted(tuple(sorted(pair)) for pair in equal_pairs(graphs)) == [(0, 1), (6, 7)]


def test_functions_that_differ_only_where_a_maximum_turns_are_told_apart() -> None:
    formulas = [
        "tanh(x + rms_group(x) * rms_instance(x))",
        "tanh(x + max(rms_group(x) * rms_instance(x), mean_sample(v1)))",
        "tanh(x + std_sample(x) * max(x, std_sample(x)))",
        "tanh(x + max(tanh(x), std_sample(x) * max(x, std_sample(x))))",
        "x / rms_instance(x)",
        "x / max(std_group(rms_instance(x)), rms_instance(x))",
        "max(std_batch(x), x / std_batch(x))",
        "max(max(mean_sample(v0), std_batch(x)), x / std_batch(x))",
    ]
    assert equal_pairs({number: parse(text) for number, text in enumerate(formulas)}) == []
