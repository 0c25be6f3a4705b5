"""The catalog's layers: structure, sources, and numbers against formulas written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from primitives.catalog import CATALOG, entry
from primitives.errors import EvosearchError
from primitives.formula import parse
from primitives.graph import Graph
from primitives.ops import EPS, OP_SETS, Array
from primitives.printer import format_formula
from primitives.rewrite import canonical
from primitives.structure import analyse, structural_fault
from tests.random_graphs import evaluate, leaves

VALUES = leaves(seed=3)
X, V0, V1, V2, V3, V4 = (VALUES[name] for name in ("x", "v0", "v1", "v2", "v3", "v4"))
N, C, H, W = X.shape
GROUPS = 2


def relu(a: Array) -> Array:
    return np.where(a > 0, a, 0.0)


def sigmoid(a: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-a))


def phi(a: Array) -> Array:
    """Distribution function of the standard normal."""
    return ndtr(a)


def unit(a: Array) -> Array:
    """Root mean square 1 over the channels."""
    return a / np.sqrt((a * a).sum(1, keepdims=True) / C + EPS)


def over(axes: tuple[int, ...], square: bool = False) -> Array:
    """Deviation of X over axes, or its root mean square."""
    moment = (X**2).mean(axes, keepdims=True) if square else X.var(axes, keepdims=True)
    return np.sqrt(moment + EPS)


def group(square: bool = False) -> Array:
    split = X.reshape(N, GROUPS, -1)
    moment = (split**2).mean(2) if square else split.var(2)
    return np.repeat(np.sqrt(moment + EPS), C // GROUPS, axis=1)[:, :, None, None]


def group_mean() -> Array:
    return np.repeat(X.reshape(N, GROUPS, -1).mean(2), C // GROUPS, axis=1)[:, :, None, None]


BATCH, SAMPLE, INSTANCE = (0, 2, 3), (1, 2, 3), (2, 3)
BN = (X - X.mean(BATCH, keepdims=True)) / over(BATCH) * V1 + V0
GN = (X - group_mean()) / group() * V1 + V0
LN = (X - X.mean(SAMPLE, keepdims=True)) / over(SAMPLE) * V1 + V0
IN = (X - X.mean(INSTANCE, keepdims=True)) / over(INSTANCE) * V1 + V0
TOKEN = (X - X.mean(1, keepdims=True)) / over((1,)) * V1 + V0
RMS = V1 * X / over((1,), square=True)
UNIT = (X - X.mean(BATCH, keepdims=True)) / over(BATCH)


def group_norm(a: Array) -> Array:
    split = a.reshape(N, GROUPS, -1)
    mean, variance = split.mean(2, keepdims=True), split.var(2, keepdims=True)
    return ((split - mean) / np.sqrt(variance + EPS)).reshape(a.shape)


BY_HAND = {
    "bn-relu": relu(BN),
    "bn-silu": BN * sigmoid(BN),
    "gn-relu": relu(GN),
    "gn-silu": GN * sigmoid(GN),
    "ln-relu": relu(LN),
    "relu-rms-batch": relu(X) / over(BATCH, square=True),
    "evonorm-b0": X / np.maximum(over(BATCH), V1 * X + over(INSTANCE)),
    "evonorm-b1": X / np.maximum(over(BATCH), (X + 1) * over(INSTANCE, square=True)),
    "evonorm-b2": X / np.maximum(over(BATCH), over(INSTANCE, square=True) - X),
    "evonorm-s0": X * sigmoid(V1 * X) / group(),
    "evonorm-s1": X * sigmoid(X) / group(),
    "evonorm-s2": X * sigmoid(X) / group(square=True),
    "in-relu": relu(IN),
    "rms-norm": V1 * X / np.sqrt((X**2).mean(1, keepdims=True) + EPS),
    "simple-rms-norm": X / np.sqrt(np.einsum("nchw,nchw->nhw", X, X)[:, None] / C + EPS),
    "power-norm": X / over(BATCH, square=True),
    "batch-channel-norm": group_norm(BN),
    "rep-bn": UNIT * V1 + V0 * X,
    "dyt": np.tanh(V1 * X),
    "dice": X * (V0 + (1.0 - V0) * sigmoid(UNIT)),
    "squared-relu": np.where(X > 0, X * X, 0.0),
    "swish": X / (1.0 + np.exp(-V1 * X)),
    "crrelu": np.maximum(0.0, X) + V0 * X * np.exp(-0.5 * X**2),
    "elu": np.where(X > 0, X, np.expm1(X)),
    "mish-like": X * np.tanh(np.log(1.0 + np.exp(X) + EPS)),
    "layer-norm": TOKEN,
    "ln-silu": LN * sigmoid(LN),
    "in-silu": IN * sigmoid(IN),
    "rms-relu": relu(RMS),
    "rms-silu": RMS * sigmoid(RMS),
    "gelu": X * phi(X),
    "bn-gelu": BN * phi(BN),
    "gn-gelu": GN * phi(GN),
    "ln-gelu": LN * phi(LN),
    "in-gelu": IN * phi(IN),
    "rms-gelu": RMS * phi(RMS),
    "frn-tlu": np.maximum(X / over(INSTANCE, square=True) * V1 + V0, V2),
    "derf": 2.0 * phi(np.sqrt(2.0) * (V1 * X + V0)) - 1.0,
    "poly-relu": V0 + V1 * relu(X) + V3 * relu(X) ** 2 + V4 * relu(X) ** 3,
    "poly-norm": V0 + sum(v * unit(X**k) for k, v in ((1, V1), (2, V3), (3, V4))),
    "celu": np.where(X > 0, X, V1 * np.expm1(np.minimum(X, 0) / V1)),
    "mish": X * np.tanh(np.log1p(np.exp(X))),
    "serf": X * (2.0 * phi(np.sqrt(2.0) * np.log1p(np.exp(X))) - 1.0),
    "snake": X + (1.0 - np.cos(2.0 * V1 * X)) / (2.0 * V1),
}


@pytest.mark.parametrize("name", CATALOG)
def test_each_layer_computes_what_its_paper_writes(name: str) -> None:
    np.testing.assert_allclose(
        evaluate(entry(name).graph, VALUES, GROUPS), BY_HAND[name], rtol=1e-12, atol=1e-12
    )


def test_a_wrong_formula_would_be_seen() -> None:
    wrong: Graph = parse("x / max(std_batch(x), rms_instance(x) + x)")
    assert np.abs(evaluate(wrong, VALUES, GROUPS) - BY_HAND["evonorm-b2"]).max() > 1e-3


EXTENDED = {
    "gelu", "bn-gelu", "gn-gelu", "ln-gelu", "in-gelu", "rms-gelu", "frn-tlu", "derf", "poly-relu",
    "poly-norm", "celu", "mish", "serf", "snake",
}  # fmt: skip


@pytest.mark.parametrize("name", CATALOG)
def test_each_layer_is_a_layer_of_the_op_set_that_it_names(name: str) -> None:
    row = entry(name)
    assert row.op_set.endswith("+token") == ("token" in row.formula)
    assert row.op_set.startswith("extended") == (name in EXTENDED)
    op_set = row.op_set
    assert parse(row.formula, op_set) == row.graph
    assert row.graph is row.graph
    assert structural_fault(row.graph) is None
    assert all((node.op, node.over) in OP_SETS[op_set] for node in row.graph.nodes)
    assert "arXiv" in row.citation
    assert 2015 <= row.year <= 2025
    assert parse(format_formula(row.graph)) == row.graph
    uses_batch = name.startswith(("bn", "evonorm-b", "relu-rms-batch", "batch", "power", "rep-bn"))
    uses_batch = uses_batch or name == "dice"
    assert analyse(row.graph).batch_independent is not uses_batch


@pytest.mark.parametrize("name", [name for name in CATALOG if CATALOG[name].torch_equivalent])
def test_each_baseline_equals_torchs_own_modules(name: str) -> None:
    import torch
    from torch import nn

    modules = {"C": C, "G": GROUPS, **vars(nn)}
    with torch.random.fork_rng():
        layer = eval(f"Sequential({entry(name).torch_equivalent})", modules).double()
    with torch.no_grad():
        for name_in, value in (("weight", V1), ("bias", V0)):
            if hasattr(layer[0], name_in):
                getattr(layer[0], name_in).copy_(torch.from_numpy(value.ravel()))
        out = layer(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(evaluate(entry(name).graph, VALUES, GROUPS), out, rtol=1e-9)


def test_the_layers_differ_and_the_published_graphs_have_their_sizes() -> None:
    assert len({canonical(row.graph) for row in CATALOG.values()}) == len(CATALOG) == 44
    assert len(entry("evonorm-b0").graph.nodes) == 6
    assert len(entry("evonorm-s1").graph.nodes) == 4
    assert [name for name in CATALOG if name != CATALOG[name].name] == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bn-rulu", "bn-relu"),
        ("EVONORM_S0", "did you mean evonorm-s0"),
        ("resnet", "one of bn-relu"),
        ("", "one of bn-relu"),
        (None, "one of bn-relu"),
        ("q" * 100_000, "one of bn-relu"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_unknown_names_are_answered_with_known_ones(name: str, hint: str) -> None:
    with pytest.raises(EvosearchError, match="unknown catalog layer") as caught:
        entry(name)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 600
