"""What users of a generated layer rely on: options, state, layouts, precision, compile, torch."""

from __future__ import annotations

import copy
import subprocess
import symtable
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from known_graphs import KNOWN, V0, ZERO, Build, X
from torch import Tensor, nn

from primitives import module
from primitives.catalog import CATALOG
from primitives.codegen import layer_source
from primitives.errors import LayerError
from primitives.graph import Graph, Node
from primitives.groups import exact_group_count, group_count
from primitives.interpret import interpret
from primitives.module import build_layer, layer_class

EPS = 1e-5
DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(layer: nn.Module, seed: int = 9) -> nn.Module:
    with torch.no_grad():
        for number, (name, parameter) in enumerate(sorted(layer.named_parameters())):
            change = 0.3 * normal(*parameter.shape, seed=seed + number)
            parameter.copy_(change + (1.0 if name in ("weight", "v1") else 0.0))
    return layer


def group_variance(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    split = x.reshape(n, groups, c // groups, h, w)
    variance = ((split - split.mean((2, 3, 4), keepdim=True)) ** 2).mean((2, 3, 4), keepdim=True)
    return variance.expand_as(split).reshape(x.shape)


def evonorm(name: str, x: Tensor, v1: Tensor, groups: int) -> Tensor:
    """The published formulas, written without the language of graphs."""
    v = v1.view(1, -1, 1, 1)
    batch = (x.var((0, 2, 3), correction=0, keepdim=True) + EPS).sqrt()
    instance_std = (x.var((2, 3), correction=0, keepdim=True) + EPS).sqrt()
    instance_rms = ((x**2).mean((2, 3), keepdim=True) + EPS).sqrt()
    n, c = x.shape[:2]
    square = (x**2).reshape(n, groups, -1).mean(2).repeat_interleave(c // groups, 1)
    return {
        "EvoNorm-B0": lambda: x / torch.max(batch, v * x + instance_std),
        "EvoNorm-B1": lambda: x / torch.max(batch, (x + 1) * instance_rms),
        "EvoNorm-B2": lambda: x / torch.max(batch, instance_rms - x),
        "EvoNorm-S0": lambda: x * (v * x).sigmoid() / (group_variance(x, groups) + EPS).sqrt(),
        "EvoNorm-S1": lambda: x * x.sigmoid() / (group_variance(x, groups) + EPS).sqrt(),
        "EvoNorm-S2": lambda: x * x.sigmoid() / (square + EPS).sqrt().view(n, c, 1, 1),
    }[name]()


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("EvoNorm")])
def test_evonorm_equals_the_published_formula(name: str) -> None:
    layer = randomised(build_layer(KNOWN[name], 12, groups=3, dtype=DOUBLE))
    x = normal(3, 12, 4, 5)
    own = dict(layer.named_parameters())
    plain = evonorm(name, x, own.get("v1", torch.ones(12, dtype=DOUBLE)), 3)
    expected = plain * own["weight"].view(1, -1, 1, 1) + own["bias"].view(1, -1, 1, 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_evonorm_b0_in_evaluation_mode_divides_by_its_moving_average() -> None:
    layer = build_layer(KNOWN["EvoNorm-B0"], 4, momentum=0.25, affine=False, dtype=DOUBLE)
    running = torch.ones(4, dtype=DOUBLE)
    for seed in range(3):
        x = normal(2, 4, 3, 3, seed=seed)
        layer(x)
        running = 0.75 * running + 0.25 * x.var((0, 2, 3), correction=0)
    layer.eval()
    x = normal(2, 4, 3, 3, seed=8)
    batch = (running + EPS).sqrt().view(1, -1, 1, 1)
    instance = (x.var((2, 3), correction=0, keepdim=True) + EPS).sqrt()
    torch.testing.assert_close(layer(x), x / torch.max(batch, x + instance))
    torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("activation", ["ReLU", "SiLU"])
def test_batch_norm_equals_torchs_in_both_modes(activation: str) -> None:
    layer = build_layer(KNOWN[f"BN-{activation}"], 6, dtype=DOUBLE, affine=False)
    reference = nn.BatchNorm2d(6, dtype=DOUBLE)
    act = getattr(nn, activation)()
    own = dict(randomised(layer).named_parameters())
    with torch.no_grad():
        reference.weight.copy_(own["v1"])
        reference.bias.copy_(own["v0"])
    for seed in range(4):
        x = normal(3, 6, 4, 4, seed=seed)
        torch.testing.assert_close(layer(x), act(reference(x)))
    buffers = dict(layer.named_buffers())
    torch.testing.assert_close(buffers["running_mean_4"], reference.running_mean)
    # torch averages unbiased variances; ours are biased: n / (n - 1) on all but the initial 1.
    count = 3 * 4 * 4
    assert reference.running_var is not None
    biased = (reference.running_var - 0.9**4) * (count - 1) / count + 0.9**4
    torch.testing.assert_close(buffers["running_variance_7"], biased)
    reference.running_var.copy_(biased)
    layer.eval()
    reference.eval()
    torch.testing.assert_close(layer(x), act(reference(x)))


@pytest.mark.parametrize("activation", ["ReLU", "SiLU"])
def test_group_norm_equals_torchs(activation: str) -> None:
    layer = randomised(build_layer(KNOWN[f"GN-{activation}"], 12, dtype=DOUBLE, affine=False))
    own = dict(layer.named_parameters())
    x = normal(3, 12, 4, 4)
    norm = nn.functional.group_norm(x, group_count(12), own["v1"], own["v0"], EPS)
    torch.testing.assert_close(layer(x), getattr(nn.functional, activation.lower())(norm))


def test_layer_norm_over_the_sample_equals_torchs() -> None:
    layer = randomised(build_layer(KNOWN["LN-ReLU"], 6, dtype=DOUBLE, affine=False))
    own = {name: value.view(1, -1, 1, 1) for name, value in layer.named_parameters()}
    x = normal(3, 6, 4, 4)
    norm = nn.functional.layer_norm(x, x.shape[1:], eps=EPS)
    torch.testing.assert_close(layer(x), (own["v1"] * norm + own["v0"]).relu())


def test_state_holds_live_parameters_moments_and_the_affine_only() -> None:
    keys = {name: sorted(build_layer(graph, 4).state_dict()) for name, graph in KNOWN.items()}
    assert keys["EvoNorm-S1"] == ["bias", "weight"]
    assert keys["EvoNorm-S0"] == ["bias", "v1", "weight"]
    assert keys["ReLU/rms_batch"] == [
        "bias", "num_batches_tracked", "running_mean_square_5", "weight",
    ]  # fmt: skip
    assert keys["BN-ReLU"] == [
        "bias", "num_batches_tracked", "running_mean_4", "running_variance_7", "v0", "v1", "weight",
    ]  # fmt: skip
    state = build_layer(KNOWN["BN-ReLU"], 4).state_dict()
    starts = {name: value.float().mean().item() for name, value in state.items()}
    assert [starts[key] for key in keys["BN-ReLU"]] == [0, 0, 0, 1, 0, 1, 1]


def test_state_makes_the_round_trip() -> None:
    layer = randomised(build_layer(KNOWN["EvoNorm-B0"], 4, dtype=DOUBLE))
    layer(normal(2, 4, 3, 3))
    other = build_layer(KNOWN["EvoNorm-B0"], 4, dtype=DOUBLE)
    other.load_state_dict(layer.state_dict())
    x = normal(2, 4, 3, 3, seed=1)
    assert torch.equal(other.eval()(x), layer.eval()(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_momentum_none_averages_all_batches_since_the_reset() -> None:
    layer = build_layer(KNOWN["ReLU/rms_batch"], 4, momentum=None, dtype=DOUBLE)
    layer(normal(2, 4, 3, 3, seed=50))
    layer.reset_running_stats()  # type: ignore[operator]
    batches = [normal(2, 4, 3, 3, seed=seed) for seed in range(5)]
    for x in batches:
        layer(x)
    mean = torch.stack([(x.relu() ** 2).mean((0, 2, 3)) for x in batches]).mean(0)
    buffers = dict(layer.named_buffers())
    torch.testing.assert_close(buffers["running_mean_square_5"], mean)
    assert buffers["num_batches_tracked"].item() == 5


@pytest.mark.parametrize("name", KNOWN)
def test_layouts_and_channels_last_give_the_same(name: str) -> None:
    kind = layer_class(KNOWN[name])
    plain = randomised(kind(8, groups=4, dtype=DOUBLE))  # type: ignore[call-arg]
    x = normal(3, 8, 4, 5)
    expected = plain(x)
    fast = plain(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(fast, expected, rtol=1e-12, atol=1e-12)
    assert fast.is_contiguous(memory_format=torch.channels_last)
    last = randomised(kind(8, groups=4, dtype=DOUBLE, layout="nhwc"))  # type: ignore[call-arg]
    moved = last(x.movedim(1, -1).contiguous())
    assert moved.is_contiguous()
    torch.testing.assert_close(moved.movedim(-1, 1), expected, rtol=1e-12, atol=1e-12)
    tokens = randomised(kind(8, groups=4, dtype=DOUBLE, layout="btc"))  # type: ignore[call-arg]
    flat = tokens(x.flatten(2).transpose(1, 2))
    torch.testing.assert_close(flat.transpose(1, 2).view_as(x), expected, rtol=1e-12, atol=1e-12)
    vectors = normal(5, 8)
    torch.testing.assert_close(plain(vectors), plain(vectors[:, :, None])[:, :, 0])


def test_wrong_inputs_and_options_are_refused() -> None:
    kind = layer_class(KNOWN["EvoNorm-S0"])
    with pytest.raises(ValueError, match="layout must be"):
        kind(8, layout="nwhc")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="expected 8 channels on axis 1"):
        kind(8)(torch.zeros(2, 4, 4, 8))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="channel"):
        kind(8, layout="btc")(torch.zeros(2, 4, 4, 8))  # type: ignore[call-arg]


def test_groups_are_honoured_or_refused_with_the_nearest() -> None:
    kind = layer_class(KNOWN["EvoNorm-S0"])
    x, one = normal(2, 12, 3, 3), torch.ones(12, dtype=DOUBLE)
    values = {}
    for groups in (1, 3, 12):
        layer = build_layer(KNOWN["EvoNorm-S0"], 12, groups=groups, dtype=DOUBLE)
        values[groups] = layer(x)
        expected = interpret(KNOWN["EvoNorm-S0"], x, 0 * one, one, groups=groups)
        torch.testing.assert_close(values[groups], expected)
    assert not torch.allclose(values[1], values[3])
    with pytest.raises(LayerError, match=r"expected a divisor of 12, got 5; nearest allowed: 4, 6"):
        build_layer(KNOWN["EvoNorm-S0"], 12, groups=5)
    with pytest.raises(ValueError, match=r"12 channels, got 5; nearest allowed: 4, 6"):
        kind(12, groups=5)  # type: ignore[call-arg]
    for bad in (0, -2, True, 2.0):
        with pytest.raises(LayerError, match="positive integer"):
            exact_group_count(12, bad)  # type: ignore[arg-type]


def test_default_group_count_leaves_two_channels_and_equals_the_files_own_rule() -> None:
    kind = layer_class(KNOWN["EvoNorm-S1"])
    for channels in range(1, 200):
        count = group_count(channels)
        assert channels % count == 0
        assert count <= 32
        assert channels == 1 or channels // count >= 2
        better = range(count + 1, min(32, channels // 2) + 1)
        assert all(channels % more for more in better)
        assert kind(channels).groups == count  # type: ignore[call-arg]
    assert [group_count(c, 4) for c in (8, 9, 24)] == [4, 3, 4]


def test_without_the_activation_only_the_affine_stays() -> None:
    layer = layer_class(KNOWN["BN-ReLU"])(4, apply_act=False, dtype=DOUBLE)  # type: ignore[call-arg]
    assert sorted(randomised(layer).state_dict()) == ["bias", "weight"]
    x = normal(2, 4, 3, 3)
    own = {name: value.view(1, -1, 1, 1) for name, value in layer.named_parameters()}
    torch.testing.assert_close(layer(x), x * own["weight"] + own["bias"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", KNOWN)
def test_low_precision_goes_in_and_out_and_statistics_are_float32(
    name: str, dtype: torch.dtype
) -> None:
    layer = build_layer(KNOWN[name], 8, groups=4)
    x = (300 * normal(2, 8, 4, 4)).to(dtype)  # squares and variances overflow float16
    low = layer(x)
    assert low.dtype == dtype
    torch.testing.assert_close(low, layer(x.float()).to(dtype))
    assert all(buffer.dtype != dtype for buffer in layer.buffers())


@pytest.mark.parametrize("name", ["BN-SiLU", "EvoNorm-B0", "EvoNorm-S0"])
def test_autocast_keeps_statistics_in_float32(name: str) -> None:
    convolution, layer = nn.Conv2d(3, 8, 3), build_layer(KNOWN[name], 8)
    x = normal(2, 3, 8, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inner = convolution(x)
        value = layer(inner)
    assert inner.dtype == value.dtype == torch.bfloat16
    torch.testing.assert_close(value, layer(inner.float()).bfloat16())
    value.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("name", KNOWN)
def test_layers_are_differentiable_twice(name: str) -> None:
    layer = randomised(build_layer(KNOWN[name], 4, groups=2, dtype=DOUBLE))
    x = normal(2, 4, 2, 2, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", ["BN-ReLU", "EvoNorm-B0", "EvoNorm-S0", "GN-SiLU"])
def test_no_graph_breaks(name: str, momentum: float | None) -> None:
    torch.compiler.reset()
    layer = randomised(build_layer(KNOWN[name], 4, momentum=momentum, dtype=DOUBLE))
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend="eager")
    for mode in (True, False):
        layer.train(mode)
        twin.train(mode)
        x = normal(2, 4, 3, 3)
        torch.testing.assert_close(compiled(x), layer(x))
    for ours, theirs in zip(layer.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


COMPILED: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "nhwc": ({"layout": "nhwc"}, (2, 3, 5, 4)),
    "btc": ({"layout": "btc"}, (2, 7, 4)),
    "recompute": ({"recompute": True}, (2, 4, 3, 5)),
    "affine only": ({"apply_act": False}, (2, 4, 3, 5)),
}


@pytest.mark.parametrize("what", COMPILED)
@pytest.mark.parametrize("name", ["BN-ReLU", "EvoNorm-B0", "EvoNorm-S0"])
def test_no_graph_breaks_in_any_layout_or_option(name: str, what: str) -> None:
    torch.compiler.reset()
    options, shape = COMPILED[what]
    kind = layer_class(KNOWN[name])
    layer = randomised(kind(4, dtype=DOUBLE, **options))  # type: ignore[call-arg]
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend="eager")
    for mode in (True, False):
        layer.train(mode)
        twin.train(mode)
        x, other = (normal(*shape).requires_grad_() for _ in range(2))
        value, meant = compiled(x), layer(other)
        torch.testing.assert_close(value, meant)
        value.square().sum().backward()
        meant.square().sum().backward()
        torch.testing.assert_close(x.grad, other.grad)
    for ours, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", ["BN-ReLU", "EvoNorm-B0", "EvoNorm-S0"])
def test_no_graph_breaks_under_autocast(name: str) -> None:
    torch.compiler.reset()
    net = nn.Sequential(nn.Conv2d(3, 8, 3), build_layer(KNOWN[name], 8))
    x = normal(2, 3, 8, 8, dtype=torch.float32)

    def step(given: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value: Tensor = net(given)
        return value

    meant = step(x)
    got = torch.compile(step, fullgraph=True, backend="eager")(x)
    assert got.dtype == torch.bfloat16
    # Both round the same float32 values to bfloat16.
    torch.testing.assert_close(got, meant, rtol=2**-7, atol=2**-7)


def test_source_is_a_file_of_its_own_that_needs_torch_only(tmp_path: Path) -> None:
    text = layer_source(KNOWN["EvoNorm-B0"], "MyLayer", ["x / max(...)", "digest 12ab"])
    assert "x / max(...)\ndigest 12ab\nGraph: {" in text
    file = tmp_path / "my_layer.py"
    file.write_text(text)
    check = (
        "import sys, torch; from my_layer import MyLayer; y = MyLayer(4)(torch.ones(1, 4, 2, 2));"
        "assert y.shape == (1, 4, 2, 2);"
        "assert not {'primitives', 'evosearch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, check=True, timeout=120)


@pytest.mark.parametrize(
    "line",
    [
        '"""\nimport os',
        "\\",
        'ends in "',
        '""""',
        "a\x00b\u2028c\ud800",
        "\\N{BULLET} \\x",
        "µ · x",
    ],
)
def test_docstring_text_can_not_become_code(line: str) -> None:
    plain = compile(layer_source(KNOWN["EvoNorm-S1"]), "a", "exec")
    source = layer_source(KNOWN["EvoNorm-S1"], docstring_lines=[line])
    spiked = compile(source.encode(), "a", "exec")
    assert spiked.co_names == plain.co_names
    doc = spiked.co_consts[0]
    assert isinstance(doc, str)
    assert doc.split("\nGraph: {")[0] == line


@pytest.mark.parametrize("name", ["", "1a", "a b", "class", "x:\n import os", "torch", "é"])
def test_class_names_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(LayerError, match="class name"):
        layer_source(KNOWN["EvoNorm-S1"], name)


def names_of_file(source: str) -> set[str]:
    """What the text looks up or defines outside its functions."""
    module = symtable.symtable(source, "a", "exec")
    found, waiting = {symbol.get_name() for symbol in module.get_symbols()}, [module]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        found |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return found


def test_class_names_that_the_file_needs_are_refused() -> None:
    graphs = [entry.graph for entry in CATALOG.values()]
    needed = set().union(*(names_of_file(layer_source(graph)) for graph in graphs))
    assert {"torch", "iter", "getattr", "staticmethod", "str", "_VarMean"} <= needed
    for name in needed - {"EvolvedLayer"}:
        with pytest.raises(LayerError, match="class name"):
            layer_source(graphs[0], name)


def test_classes_are_made_once_per_graph() -> None:
    again = Graph.from_json_text(KNOWN["BN-ReLU"].to_json_text())
    assert layer_class(again) is layer_class(KNOWN["BN-ReLU"])
    assert layer_class(again) is not layer_class(KNOWN["BN-SiLU"])


def test_classes_that_nobody_asked_for_in_long_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    graphs = [Graph((Node("tanh", (X,)), *[Node("neg", (4 + i,)) for i in range(n)]))
              for n in range(1, 5)]  # fmt: skip
    first = layer_class(graphs[0])
    layer = build_layer(graphs[0], 2)
    for graph in graphs[1:]:
        assert layer_class(graph).__module__ in sys.modules
    assert first.__module__ not in sys.modules
    x = normal(2, 2, 3, dtype=torch.float32)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert layer_class(graphs[0]) is not first


def test_code_text_needs_no_torch() -> None:
    code = (
        "import sys; from primitives import codegen, probe, fingerprint, groups;"
        "assert 'torch' not in sys.modules and 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_shared_values_are_computed_once_and_dead_ones_never() -> None:
    b = Build()
    b("exp", b("tanh", X))
    one, other = b("std", X, over="group"), b("std", X, over="group")
    b("div", b("add", one, b("mean", X, over="group")), b("max", other, ZERO))
    text = layer_source(b.graph())
    assert text.count(" = _var_mean(x, spatial") == 1
    assert (
        text.count(" = _within_groups(torch.mean(x, spatial")
        == text.count("torch.tanh")
        == text.count("v1 =")
        == 0
    )
    assert layer_source(Graph((Node("add", (V0, ZERO)),))).count("zeros") == 2
