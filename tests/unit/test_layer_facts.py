"""What ``evosearch layer`` prints of known layers, against what is known of them on paper."""

from __future__ import annotations

import re

import pytest

from api.cli import run
from api.inspect_layer import facts, measured
from primitives.catalog import CATALOG
from primitives.named import layer_graph

NAMES = ("live nodes", "axes mixed", "batch independent", "causal safe", "pointwise",
         "scale invariant", "shift invariant", "sign symmetry", "bounded (probe)",
         "monotone (probe)", "parameters a channel", "FLOPs an element",
         "bytes an element")  # fmt: skip

# A normalised value over n elements is sqrt(n - 1) at most: one position's outlier shows that it
# has no bound over all sizes; over the channels of a token an outlier position is its own.
# FLOPs: mean 1, rms 3, std 4, tanh and sigmoid 10, others 1, each on full tensors; the affine 2.
# Bytes: 4 for each full tensor that a step reads or writes; the affine reads and writes one.
KNOWN = {
    # live nodes, axes, batch independent, causal, pointwise, scale, shift, symmetry, bounded,
    # monotone, parameters, FLOPs, bytes
    "tanh(x)": "1 none yes yes yes no no odd yes increasing 2 12 16",
    "relu(x)": "1 none yes yes yes no no none no increasing 2 3 16",
    "square(x)": "1 none yes yes yes no no even no none 2 3 16",
    "x + x": "1 none yes yes yes no no odd no increasing 2 3 20",
    "sigmoid(-x)": "2 none yes yes yes no no none yes decreasing 2 13 24",
    "sin(x)": "1 none yes yes yes no no odd yes none 2 12 16",
    "dyt": "2 none yes yes yes no no odd yes increasing 3 13 24",
    "squared-relu": "2 none yes yes yes no no none no increasing 2 4 24",
    "x - mean_batch(x)": "3 batch,positions no no no no yes odd no increasing 2 4 20",
    "power-norm": "2 batch,positions no no no yes no odd no increasing 2 6 20",
    "relu-rms-batch": "3 batch,positions no no no yes no none no increasing 2 7 28",
    "bn-relu": "8 batch,positions no no no yes yes none no increasing 4 12 56",
    "ln-relu": "8 channels,positions yes no no yes yes none no increasing 4 12 56",
    "in-relu": "8 positions yes no no yes yes none no increasing 4 12 56",
    "layer-norm": "7 channels yes yes no yes yes odd yes none 4 11 48",
    "rms-norm": "3 channels yes yes no yes no odd yes none 3 7 28",
    "evonorm-s0": "5 channels,positions yes no no no no none no none 3 19 48",
    "evonorm-b0": "6 batch,positions no no no yes no none no increasing 3 14 52",
    "batch-channel-norm":
        "12 batch,channels,positions no no no yes yes odd no increasing 4 18 72",
}  # fmt: skip


@pytest.mark.parametrize("layer", KNOWN)
def test_facts_of_known_layers(layer: str) -> None:
    found = facts(layer_graph(layer))
    truth = dict(zip(NAMES, KNOWN[layer].split(), strict=True))
    assert {name: found[name].replace(", ", ",") for name in NAMES} == truth
    assert found["equals"] == (layer if layer in CATALOG else "no layer of the catalog")


@pytest.mark.parametrize(
    ("layer", "saved"),
    # BN-ReLU keeps its input and its output. What a layer keeps, in halves of that:
    [("tanh(x)", 0.5),  # the output of tanh, which the affine keeps as well
     ("x + x", 0.5),  # the sum, for the affine
     ("square(x)", 1.0)],  # the input, and the square for the affine
)  # fmt: skip
def test_saved_memory_is_counted_by_hand(layer: str, saved: float) -> None:
    found = measured(layer_graph(layer), 2)
    ratio = {name.strip(): float(text.partition(" x BN-ReLU")[0]) for name, text in found.items()}
    assert ratio["saved for backward"] == pytest.approx(saved, abs=0.02)
    assert ratio["with recompute"] == pytest.approx(0.5, abs=0.02)
    assert min(ratio[name] for name in ("forward", "backward", "forward + backward")) > 0


def test_the_command_prints_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["layer", "ln-relu"]) == 0
    text = capsys.readouterr().out
    printed = {line[:20].strip(): line[21:].strip() for line in text.splitlines()}
    known = facts(layer_graph("ln-relu"))
    assert {name: printed[name] for name in NAMES} == {name: known[name] for name in NAMES}
    for name in ("forward", "backward", "forward + backward", "saved for backward"):
        assert re.match(r"\d+\.\d\d x BN-ReLU", printed[name])
    assert text.splitlines()[-1] == "no cheap check rejects it"
